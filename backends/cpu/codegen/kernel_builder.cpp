// SPDX-License-Identifier: Apache-2.0
// KernelBuilder: implementation.
#include "backends/cpu/codegen/kernel_builder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace girih::cpu {

Type KernelBuilder::pointerType() { return LLVM::LLVMPointerType::get(b.getContext()); }

// ---- Constants ----
Value KernelBuilder::index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }

Value KernelBuilder::constant(Type type, double value) {
  TypedAttr element = b.getFloatAttr(getElementTypeOrSelf(type), value);
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vector, Attribute(element)));
  return arith::ConstantOp::create(b, loc, element);
}

Value KernelBuilder::integer(Type type, int64_t value) {
  TypedAttr element = b.getIntegerAttr(getElementTypeOrSelf(type), value);
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vector, Attribute(element)));
  return arith::ConstantOp::create(b, loc, element);
}

Value KernelBuilder::splat(Value scalar) {
  return vector::BroadcastOp::create(b, loc, lanes(scalar.getType()), scalar);
}

Value KernelBuilder::laneNumbers() {
  SmallVector<int32_t> numbers(kLanes);
  for (int64_t lane = 0; lane < kLanes; ++lane)
    numbers[lane] = static_cast<int32_t>(lane);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(lanes(b.getI32Type()), ArrayRef<int32_t>(numbers)));
}

// ---- Index arithmetic ----
Value KernelBuilder::add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(loc, x, y); }
Value KernelBuilder::sub(Value x, Value y) { return b.createOrFold<arith::SubIOp>(loc, x, y); }
Value KernelBuilder::mul(Value x, Value y) { return b.createOrFold<arith::MulIOp>(loc, x, y); }
Value KernelBuilder::div(Value x, Value y) { return b.createOrFold<arith::DivUIOp>(loc, x, y); }
Value KernelBuilder::rem(Value x, Value y) { return b.createOrFold<arith::RemUIOp>(loc, x, y); }
Value KernelBuilder::minOf(Value x, Value y) { return b.createOrFold<arith::MinSIOp>(loc, x, y); }
Value KernelBuilder::maxOf(Value x, Value y) { return b.createOrFold<arith::MaxSIOp>(loc, x, y); }
Value KernelBuilder::within(Value position, Value extent) {
  return minOf(maxOf(position, index(0)), sub(extent, index(1)));
}
Value KernelBuilder::less(Value x, Value y) {
  return b.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::slt, x, y);
}
Value KernelBuilder::toIndex(Value value) { return b.createOrFold<arith::IndexCastOp>(loc, b.getIndexType(), value); }
Value KernelBuilder::toInteger(Value value, Type type) { return b.createOrFold<arith::IndexCastOp>(loc, type, value); }

// ---- Memory ----
Value KernelBuilder::at(Value pointer, Value byteOffset) {
  if (auto constant = getConstantIntValue(byteOffset))
    return at(pointer, *constant);
  Value offset = toInteger(byteOffset, b.getI64Type());
  return LLVM::GEPOp::create(b, loc, pointerType(), b.getI8Type(), pointer, ValueRange(offset));
}

Value KernelBuilder::at(Value pointer, int64_t byteOffset) {
  if (byteOffset == 0)
    return pointer;
  // A constant index is a few bits shorter than its type; a longer one would lose them without a word.
  if (llvm::isInt<LLVM::kGEPConstantBitWidth>(byteOffset))
    return LLVM::GEPOp::create(b, loc, pointerType(), b.getI8Type(), pointer,
                               ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(byteOffset)});
  Value offset = integer(b.getI64Type(), byteOffset);
  return LLVM::GEPOp::create(b, loc, pointerType(), b.getI8Type(), pointer, ValueRange(offset));
}

namespace {

func::FuncOp enclosingFunction(OpBuilder &b) {
  Operation *parent = b.getInsertionBlock()->getParentOp();
  auto function = dyn_cast<func::FuncOp>(parent);
  return function ? function : parent->getParentOfType<func::FuncOp>();
}

// Bytes that one element occupies; an access needs no more alignment than that.
unsigned elementBytes(Type type) {
  return std::max(1u, static_cast<unsigned>(getElementTypeOrSelf(type).getIntOrFloatBitWidth() / 8));
}

}  // namespace

Value KernelBuilder::load(Type type, Value pointer, unsigned alignment) {
  if (alignment == 0 && type.isIntOrFloat())
    alignment = elementBytes(type);
  if (alignment == 0 && isa<VectorType>(type))
    alignment = elementBytes(type);
  return LLVM::LoadOp::create(b, loc, type, pointer, alignment);
}

void KernelBuilder::store(Value value, Value pointer, unsigned alignment) {
  if (alignment == 0)
    alignment = elementBytes(value.getType());
  LLVM::StoreOp::create(b, loc, value, pointer, alignment);
}

Value KernelBuilder::loadMasked(VectorType type, Value pointer, Value mask) {
  Value zero = isa<FloatType>(type.getElementType()) ? constant(type, 0) : integer(type, 0);
  return LLVM::MaskedLoadOp::create(b, loc, type, pointer, mask, zero, elementBytes(type));
}

void KernelBuilder::storeMasked(Value value, Value pointer, Value mask) {
  LLVM::MaskedStoreOp::create(b, loc, value, pointer, mask, elementBytes(value.getType()));
}

void KernelBuilder::prefetch(Value pointer, int64_t level) {
  LLVM::Prefetch::create(b, loc, pointer, /*rw=*/0u, /*hint=*/static_cast<unsigned>(4 - level), /*cache=*/1u);
}

void KernelBuilder::fetchLines(Value pointer, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64)
    prefetch(at(pointer, line));
}

void KernelBuilder::phase() {
  LLVM::FenceOp::create(b, loc, LLVM::AtomicOrdering::seq_cst, "singlethread");
}

Value KernelBuilder::pin(Value vector, StringRef constraint) {
  auto kind = LLVM::TailCallKindAttr::get(b.getContext(), LLVM::TailCallKind::None);
  return LLVM::InlineAsmOp::create(b, loc, vector.getType(), ValueRange(vector), b.getStringAttr(""),
                                   b.getStringAttr("=" + constraint + ",0"), b.getUnitAttr(), UnitAttr(), kind,
                                   LLVM::AsmDialectAttr(), ArrayAttr())
      .getRes();
}

Value KernelBuilder::slice(Value vector, int64_t first, int64_t count) {
  if (cast<VectorType>(vector.getType()).getNumElements() == count)
    return vector;
  auto lanes = llvm::to_vector(llvm::seq<int64_t>(first, first + count));
  return vector::ShuffleOp::create(b, loc, vector, vector, lanes);
}

Value KernelBuilder::joined(ArrayRef<Value> vectors) {
  if (vectors.size() == 1)
    return vectors[0];
  size_t half = vectors.size() / 2;
  Value first = joined(vectors.take_front(half)), second = joined(vectors.drop_front(half));
  int64_t count = 2 * cast<VectorType>(first.getType()).getNumElements();
  return vector::ShuffleOp::create(b, loc, first, second, llvm::to_vector(llvm::seq<int64_t>(0, count)));
}

Value KernelBuilder::maskOf(Value count) {
  Value limit = splat(toInteger(minOf(count, index(kLanes)), b.getI32Type()));
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, laneNumbers(), limit);
}

Value KernelBuilder::addressOf(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  Value base = memref::ExtractAlignedPointerAsIndexOp::create(b, loc, memref);
  Value pointer = LLVM::IntToPtrOp::create(b, loc, pointerType(), toInteger(base, b.getI64Type()));
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  Value offsetValue;
  if (succeeded(type.getStridesAndOffset(strides, offset)) && !ShapedType::isDynamic(offset))
    offsetValue = index(offset);
  else
    offsetValue = memref::ExtractStridedMetadataOp::create(b, loc, memref).getOffset();
  return at(pointer, mul(offsetValue, elementBytes(type)));
}

Value KernelBuilder::strideOf(Value memref, int64_t dimension) {
  auto type = cast<MemRefType>(memref.getType());
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  if (succeeded(type.getStridesAndOffset(strides, offset)) && !ShapedType::isDynamic(strides[dimension]))
    return index(strides[dimension]);
  return memref::ExtractStridedMetadataOp::create(b, loc, memref).getStrides()[dimension];
}

Value KernelBuilder::extentOf(Value memref, int64_t dimension) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(dimension))
    return index(type.getDimSize(dimension));
  return memref::ExtractStridedMetadataOp::create(b, loc, memref).getSizes()[dimension];
}

Value KernelBuilder::frameBytes(int64_t bytes) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&enclosingFunction(b).getBody().front());
  auto storage = LLVM::LLVMArrayType::get(b.getI8Type(), bytes);
  return LLVM::AllocaOp::create(b, loc, pointerType(), storage, integer(b.getI32Type(), 1), 64);
}

// ---- The step ----
Value KernelBuilder::stepArgs() { return enclosingFunction(b).getArgument(0); }
Value KernelBuilder::threadIndex() { return enclosingFunction(b).getArgument(1); }
Value KernelBuilder::numThreads() { return enclosingFunction(b).getArgument(2); }

Value KernelBuilder::stepPointer(size_t fieldOffset) {
  return load(pointerType(), at(stepArgs(), static_cast<int64_t>(fieldOffset)), 8);
}

Value KernelBuilder::stepInteger(size_t fieldOffset) {
  return toIndex(load(b.getI64Type(), at(stepArgs(), static_cast<int64_t>(fieldOffset)), 8));
}

// ---- f32 arithmetic ----
Value KernelBuilder::fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
Value KernelBuilder::addf(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
Value KernelBuilder::subf(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
Value KernelBuilder::mulf(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
Value KernelBuilder::select(Value condition, Value x, Value y) {
  return b.createOrFold<arith::SelectOp>(loc, condition, x, y);
}

Value KernelBuilder::maxf(Value x, Value y) {
  // A compare and a select are one vmaxps; llvm.maximum's care for NaN and -0 would cost three more.
  return select(arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, y), x, y);
}

Value KernelBuilder::reduceTree(Value vector, llvm::function_ref<Value(Value, Value)> combine) {
  for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> low(half), high(half);
    for (int64_t lane = 0; lane < half; ++lane) {
      low[lane] = lane;
      high[lane] = lane + half;
    }
    Value x = vector::ShuffleOp::create(b, loc, vector, vector, low);
    Value y = vector::ShuffleOp::create(b, loc, vector, vector, high);
    vector = combine(x, y);
  }
  return vector::ExtractOp::create(b, loc, vector, ArrayRef<int64_t>{0});
}

// ---- Control ----
SmallVector<Value> KernelBuilder::loop(Value begin, Value end, int64_t step, ValueRange carried, LoopBody body) {
  auto op = scf::ForOp::create(b, loc, begin, end, index(step), carried);
  OpBuilder::InsertionGuard guard(b);
  if (carried.empty()) {
    b.setInsertionPoint(op.getBody()->getTerminator());
    body(op.getInductionVar(), op.getRegionIterArgs());
  } else {
    b.setInsertionPointToStart(op.getBody());
    scf::YieldOp::create(b, loc, body(op.getInductionVar(), op.getRegionIterArgs()));
  }
  return SmallVector<Value>(op.getResults());
}

void KernelBuilder::loop(Value begin, Value end, int64_t step, llvm::function_ref<void(Value)> body) {
  loop(begin, end, step, ValueRange(), [&](Value i, ValueRange) {
    body(i);
    return SmallVector<Value>();
  });
}

void KernelBuilder::when(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/static_cast<bool>(otherwise));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.thenBlock()->getTerminator());
  then();
  if (!otherwise)
    return;
  b.setInsertionPoint(op.elseBlock()->getTerminator());
  otherwise();
}

SmallVector<Value> KernelBuilder::when(Value condition, ValueRange carried,
                                       llvm::function_ref<SmallVector<Value>()> then) {
  auto op = scf::IfOp::create(b, loc, carried.getTypes(), condition, /*addThenBlock=*/true, /*addElseBlock=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  scf::YieldOp::create(b, loc, then());
  b.setInsertionPointToStart(op.elseBlock());
  scf::YieldOp::create(b, loc, carried);
  return SmallVector<Value>(op.getResults());
}

SmallVector<Value> KernelBuilder::forBits(Value bits, int64_t most, ValueRange carried, LoopBody body) {
  SmallVector<Value> initial{bits};
  llvm::append_range(initial, carried);
  Type type = bits.getType();
  auto more = [&](OpBuilder &inner, Location at, ValueRange state) {
    Value none = arith::ConstantIntOp::create(inner, at, type, 0);
    Value any = arith::CmpIOp::create(inner, at, arith::CmpIPredicate::ne, state[0], none);
    scf::ConditionOp::create(inner, at, any, state);
  };
  auto op = scf::WhileOp::create(b, loc, TypeRange(ValueRange(initial)), initial, more, nullptr);
  op->setAttr("girih.bits", b.getI64IntegerAttr(most));
  OpBuilder::InsertionGuard guard(b);
  ValueRange state = op.getAfterArguments();
  b.setInsertionPointToStart(op.getAfterBody());
  Value lowest = LLVM::CountTrailingZerosOp::create(b, loc, type, state[0], /*is_zero_poison=*/true);
  Value rest = arith::AndIOp::create(b, loc, state[0], sub(state[0], integer(type, 1)));
  SmallVector<Value> next{rest};
  llvm::append_range(next, body(toIndex(lowest), state.drop_front()));
  scf::YieldOp::create(b, loc, next);
  return SmallVector<Value>(op.getResults().drop_front());
}

}  // namespace girih::cpu
