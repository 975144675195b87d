// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-elementwise: linalg on memrefs becomes loops of 16-lane vectors, in one fixed order of operations.
#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace girih::cpu {

#define GEN_PASS_DEF_LOWERELEMENTWISE
#include "backends/cpu/codegen/passes.h.inc"

namespace {

// What an element occupies in memory: i1 a byte, index 8 bytes.
Type storageType(OpBuilder &b, Type element) {
  if (element.isInteger(1))
    return b.getI8Type();
  return element.isIndex() ? b.getI64Type() : element;
}

// How an operand moves when the innermost loop advances by one.
enum class Motion { Still, Next, Every2nd, Jumps };

// Whether both are views of the same elements, but for one that `odd` is further.
bool isOneFurther(Value even, Value odd) {
  auto first = even.getDefiningOp<memref::SubViewOp>(), second = odd.getDefiningOp<memref::SubViewOp>();
  if (!first || !second || first.getMixedSizes() != second.getMixedSizes() ||
      first.getMixedStrides() != second.getMixedStrides())
    return false;
  SmallVector<OpFoldResult> from = first.getMixedOffsets(), to = second.getMixedOffsets();
  if (first.getSource() != second.getSource())
    return from == to && isOneFurther(first.getSource(), second.getSource());
  std::optional<int64_t> last = getConstantIntValue(from.back()), next = getConstantIntValue(to.back());
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  (void)cast<MemRefType>(first.getSource().getType()).getStridesAndOffset(strides, offset);
  return last && next && *next == *last + 1 && strides.back() == 1 &&
         ArrayRef(from).drop_back() == ArrayRef(to).drop_back();
}

// An addition takes four cycles where two could begin in each: sums of a row in as many chains wait less.
constexpr int64_t kChains = 4;

// Whether results may depend on the order of sums.
bool mayReorder(Operation *op) {
  auto numerics = op->getParentOfType<ModuleOp>()->getAttrOfType<StringAttr>("girih.numerics");
  return numerics && numerics.getValue() == "fast";
}

// The buffer that a view is of.
Value bufferOf(Value view) {
  while (auto op = view.getDefiningOp<ViewLikeOpInterface>())
    view = op.getViewSource();
  return view;
}

// One linalg.generic on memrefs, being lowered.
class GenericLowering {
public:
  GenericLowering(linalg::GenericOp op, OpBuilder &b) : op(op), b(b), k(b, op.getLoc()) {}

  void lower();
  // Rotations of neighbouring elements are two ops: one writes the even elements, `odd` those between. Whether they
  // can be one loop, which reads and writes both.
  bool pairsWith(GenericLowering &odd);
  void lowerWith(GenericLowering &odd);

private:
  bool isVectorizable();
  bool bodyIsVectorizable();
  // The op that folds a new element into output `number`, null when the body has no such single op.
  Operation *combinerOf(int64_t number);
  Motion motionOf(OpOperand &operand);

  void nest(unsigned depth);
  Value loadWithin(memref::LoadOp load, IRMapping &values);
  void scalarBody();
  void innerLoop();
  SmallVector<Value> sumInChains(Value end, SmallVector<Value> sums);
  void findStill();
  SmallVector<Value> chunk(Value position, Value mask, ValueRange sums);
  SmallVector<Value> results(Value position, Value mask, ValueRange sums);
  void pairOfChunks(Value position);
  std::pair<Value, Value> loadPair(OpOperand &even, Value position);
  OpOperand *likeOf(OpOperand &operand, llvm::function_ref<bool(Value)> isWanted);
  Value vectorOperand(OpOperand &operand, Value position, Value mask);
  Value spreadMask(int64_t half, Value mask);
  Value loadEvery2nd(VectorType stored, Value pointer, Value mask);
  void storeEvery2nd(Value value, Value pointer, Value mask);
  Value evaluate(AffineExpr expr, ArrayRef<Value> dimensions);
  Value elementOffset(OpOperand &operand, ArrayRef<Value> dimensions);
  Value pointerTo(OpOperand &operand, Value offset);
  Value loadScalar(OpOperand &operand);
  void storeVector(OpOperand &operand, Value position, Value value, Value mask);
  Value fromStorage(Value stored, Type element);
  Value toStorage(Value value);
  Operation *cloneAs(Operation *source, ValueRange operands, int64_t width);
  Value neutral(Operation *combiner, Type type);
  Value asVector(Value value) { return isa<VectorType>(value.getType()) ? value : k.splat(value); }

  linalg::GenericOp op;
  OpBuilder &b;
  KernelBuilder k;
  SmallVector<Value> extents, positions;  // per loop
  DenseMap<OpOperand *, Value> still;     // operands loaded before the innermost loop, splat
  DenseMap<OpOperand *, Value> given;     // operands of this chunk that were loaded already
  GenericLowering *partner = nullptr;
  Value tail;                             // elements that are left for the masked chunk
  bool sumsInside = false;                // the innermost loop is a reduction
};

// ---- What can be done ----
Operation *GenericLowering::combinerOf(int64_t number) {
  Block &body = *op.getBody();
  BlockArgument carried = body.getArgument(op.getNumDpsInputs() + number);
  Operation *combiner = body.getTerminator()->getOperand(number).getDefiningOp();
  if (!carried.hasOneUse() || !combiner || *carried.user_begin() != combiner || !combiner->hasOneUse())
    return nullptr;
  bool isKnown = isa<arith::AddFOp, arith::MulFOp, arith::MaximumFOp, arith::MaxNumFOp, arith::MinimumFOp,
                     arith::MinNumFOp, arith::AddIOp, arith::MulIOp, arith::MaxSIOp, arith::MinSIOp, arith::MaxUIOp,
                     arith::MinUIOp, arith::AndIOp, arith::OrIOp, arith::XOrIOp>(combiner);
  return isKnown ? combiner : nullptr;
}

bool GenericLowering::bodyIsVectorizable() {
  return llvm::all_of(op.getBody()->without_terminator(), [](Operation &inner) {
    if (isa<linalg::IndexOp>(inner))
      return true;
    bool isScalar = llvm::all_of(inner.getResultTypes(), [](Type type) { return type.isIntOrIndexOrFloat(); });
    return isScalar && inner.getNumRegions() == 0 &&
           (isa<arith::ConstantOp>(inner) || OpTrait::hasElementwiseMappableTraits(&inner));
  });
}

bool GenericLowering::isVectorizable() {
  if (op.getNumLoops() == 0 || !bodyIsVectorizable())
    return false;
  unsigned inner = op.getNumLoops() - 1;
  sumsInside = linalg::isReductionIterator(op.getIteratorTypesArray()[inner]);
  for (OpOperand &operand : op.getDpsInitsMutable()) {
    bool moves = op.getMatchingIndexingMap(&operand).isFunctionOfDim(inner);
    if (moves == sumsInside)
      return false;
    if (sumsInside && !combinerOf(operand.getOperandNumber() - op.getNumDpsInputs()))
      return false;
  }
  return true;
}

Motion GenericLowering::motionOf(OpOperand &operand) {
  AffineMap map = op.getMatchingIndexingMap(&operand);
  unsigned inner = op.getNumLoops() - 1;
  if (!map.isFunctionOfDim(inner))
    return Motion::Still;
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  (void)cast<MemRefType>(operand.get().getType()).getStridesAndOffset(strides, offset);
  int64_t advance = 0;
  AffineExpr next = getAffineDimExpr(inner, op.getContext()) + 1;
  for (auto [expr, stride] : llvm::zip(map.getResults(), strides)) {
    if (!expr.isFunctionOfDim(inner))
      continue;
    AffineExpr moved = expr.replace(getAffineDimExpr(inner, op.getContext()), next);
    auto step = dyn_cast<AffineConstantExpr>(simplifyAffineExpr(moved - expr, map.getNumDims(), 0));
    if (!step || ShapedType::isDynamic(stride))
      return Motion::Jumps;
    advance += step.getValue() * stride;
  }
  return advance == 1 ? Motion::Next : advance == 2 ? Motion::Every2nd : Motion::Jumps;
}

// ---- Addresses ----
// Dimensions are index values, one of them perhaps a vector; then so is the result.
Value GenericLowering::evaluate(AffineExpr expr, ArrayRef<Value> dimensions) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return k.index(constant.getValue());
  if (auto dimension = dyn_cast<AffineDimExpr>(expr))
    return dimensions[dimension.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value x = evaluate(binary.getLHS(), dimensions), y = evaluate(binary.getRHS(), dimensions);
  if (x.getType() != y.getType()) {
    x = asVector(x);
    y = asVector(y);
  }
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return k.add(x, y);
  case AffineExprKind::Mul:
    return k.mul(x, y);
  case AffineExprKind::Mod:
    return k.rem(x, y);
  case AffineExprKind::FloorDiv:
    return k.div(x, y);
  default:
    return b.createOrFold<arith::CeilDivSIOp>(k.loc, x, y);
  }
}

Value GenericLowering::elementOffset(OpOperand &operand, ArrayRef<Value> dimensions) {
  AffineMap map = op.getMatchingIndexingMap(&operand);
  Value offset = k.index(0);
  for (auto [position, expr] : llvm::enumerate(map.getResults())) {
    Value index = evaluate(expr, dimensions);
    Value stride = k.strideOf(operand.get(), position);
    if (isa<VectorType>(index.getType())) {
      stride = k.splat(stride);
      offset = asVector(offset);
    }
    Value term = k.mul(index, stride);
    offset = k.add(isa<VectorType>(term.getType()) ? asVector(offset) : offset,
                   isa<VectorType>(offset.getType()) ? asVector(term) : term);
  }
  return offset;
}

Value GenericLowering::pointerTo(OpOperand &operand, Value offset) {
  Type stored = storageType(b, cast<MemRefType>(operand.get().getType()).getElementType());
  Value base = k.addressOf(operand.get());
  if (!isa<VectorType>(offset.getType()))
    return k.at(base, k.mul(offset, stored.getIntOrFloatBitWidth() / 8));
  Value wide = arith::IndexCastOp::create(b, k.loc, k.lanes(b.getI64Type()), offset);
  return LLVM::GEPOp::create(b, k.loc, VectorType::get(kLanes, k.pointerType()), stored, base, ValueRange(wide));
}

Value GenericLowering::fromStorage(Value stored, Type element) {
  Type type = isa<VectorType>(stored.getType()) ? Type(k.lanes(element)) : element;
  if (element.isInteger(1))
    return arith::CmpIOp::create(b, k.loc, arith::CmpIPredicate::ne, stored, k.integer(stored.getType(), 0));
  return element.isIndex() ? arith::IndexCastOp::create(b, k.loc, type, stored).getResult() : stored;
}

Value GenericLowering::toStorage(Value value) {
  Type element = getElementTypeOrSelf(value.getType());
  Type stored = storageType(b, element);
  Type type = isa<VectorType>(value.getType()) ? Type(k.lanes(stored)) : stored;
  if (element.isInteger(1))
    return arith::ExtUIOp::create(b, k.loc, type, value);
  return element.isIndex() ? arith::IndexCastOp::create(b, k.loc, type, value).getResult() : value;
}

Value GenericLowering::loadScalar(OpOperand &operand) {
  Type element = getElementTypeOrSelf(operand.get().getType());
  if (!isa<MemRefType>(operand.get().getType()))
    return operand.get();
  Value pointer = pointerTo(operand, elementOffset(operand, positions));
  return fromStorage(k.load(storageType(b, element), pointer), element);
}

// ---- Pairs: one of two interleaved sequences, as rotations of neighbouring elements have them ----
// Which of the 16 consecutive elements `half` of 32 lie before the last wanted one: an access reaches not one element
// further, for that may be another's.
Value GenericLowering::spreadMask(int64_t half, Value mask) {
  if (!mask)
    return half == 0 ? Value() : k.maskOf(k.index(kLanes - 1));
  Value reach = k.sub(k.mul(tail, 2), k.index(1 + half * kLanes));
  return k.maskOf(k.minOf(k.maxOf(reach, k.index(0)), k.index(kLanes)));
}

Value GenericLowering::loadEvery2nd(VectorType stored, Value pointer, Value mask) {
  Value halves[2];
  for (int64_t half : {0, 1}) {
    Value from = k.at(pointer, half * kLanes * stored.getElementTypeBitWidth() / 8);
    Value reach = spreadMask(half, mask);
    halves[half] = reach ? k.loadMasked(stored, from, reach) : k.load(stored, from);
  }
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    lanes.push_back(2 * lane);
  return vector::ShuffleOp::create(b, k.loc, halves[0], halves[1], lanes);
}

void GenericLowering::storeEvery2nd(Value value, Value pointer, Value mask) {
  auto stored = cast<VectorType>(value.getType());
  SmallVector<bool> isWanted;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    isWanted.push_back(lane % 2 == 0);
  Value wanted = arith::ConstantOp::create(b, k.loc, DenseElementsAttr::get(k.lanes(b.getI1Type()), isWanted));
  for (int64_t half : {0, 1}) {
    SmallVector<int64_t> lanes;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes.push_back(half * kLanes / 2 + lane / 2);
    Value spread = vector::ShuffleOp::create(b, k.loc, value, value, lanes);
    Value reach = mask ? arith::AndIOp::create(b, k.loc, wanted, spreadMask(half, mask)).getResult() : wanted;
    k.storeMasked(spread, k.at(pointer, half * kLanes * stored.getElementTypeBitWidth() / 8), reach);
  }
}

Value GenericLowering::vectorOperand(OpOperand &operand, Value position, Value mask) {
  for (const auto &known : {still, given})
    if (auto it = known.find(&operand); it != known.end())
      return it->second;
  Type element = getElementTypeOrSelf(operand.get().getType());
  VectorType stored = k.lanes(storageType(b, element));
  SmallVector<Value> dimensions = positions;
  dimensions.back() = position;
  if (motionOf(operand) == Motion::Next) {
    Value pointer = pointerTo(operand, elementOffset(operand, dimensions));
    return fromStorage(mask ? k.loadMasked(stored, pointer, mask) : k.load(stored, pointer), element);
  }
  if (motionOf(operand) == Motion::Every2nd)
    return fromStorage(loadEvery2nd(stored, pointerTo(operand, elementOffset(operand, dimensions)), mask), element);
  dimensions.back() = k.add(k.splat(position), arith::IndexCastOp::create(b, k.loc, k.lanes(b.getIndexType()),
                                                                          k.laneNumbers()));
  Value pointers = pointerTo(operand, elementOffset(operand, dimensions));
  Value lanes = mask ? mask : k.integer(k.lanes(b.getI1Type()), 1);
  Value nothing = isa<FloatType>(stored.getElementType()) ? k.constant(stored, 0) : k.integer(stored, 0);
  unsigned bytes = stored.getElementTypeBitWidth() / 8;
  Value loaded = LLVM::masked_gather::create(b, k.loc, Type(stored), pointers, lanes, ValueRange(nothing), bytes);
  return fromStorage(loaded, element);
}

void GenericLowering::storeVector(OpOperand &operand, Value position, Value value, Value mask) {
  SmallVector<Value> dimensions = positions;
  dimensions.back() = position;
  value = toStorage(asVector(value));
  if (motionOf(operand) == Motion::Next) {
    Value pointer = pointerTo(operand, elementOffset(operand, dimensions));
    mask ? k.storeMasked(value, pointer, mask) : k.store(value, pointer);
    return;
  }
  if (motionOf(operand) == Motion::Every2nd)
    return storeEvery2nd(value, pointerTo(operand, elementOffset(operand, dimensions)), mask);
  dimensions.back() = k.add(k.splat(position), arith::IndexCastOp::create(b, k.loc, k.lanes(b.getIndexType()),
                                                                          k.laneNumbers()));
  Value lanes = mask ? mask : k.integer(k.lanes(b.getI1Type()), 1);
  unsigned bytes = cast<VectorType>(value.getType()).getElementTypeBitWidth() / 8;
  LLVM::masked_scatter::create(b, k.loc, value, pointerTo(operand, elementOffset(operand, dimensions)), lanes, bytes);
}

// ---- Bodies ----
// `source` on values of `width` lanes; 0 is a scalar.
Operation *GenericLowering::cloneAs(Operation *source, ValueRange operands, int64_t width) {
  SmallVector<Type> types;
  for (Type type : source->getResultTypes())
    types.push_back(width == 0 ? type : Type(VectorType::get(width, type)));
  OperationState state(k.loc, source->getName(), operands, types, source->getAttrs());
  return b.create(state);
}

Value GenericLowering::neutral(Operation *combiner, Type type) {
  std::optional<TypedAttr> element = arith::getNeutralElement(combiner);
  auto vector = cast<VectorType>(type);
  return arith::ConstantOp::create(b, k.loc, DenseElementsAttr::get(vector, Attribute(*element)));
}

// An index that was computed from data may be any number, and must not reach beyond the table.
Value GenericLowering::loadWithin(memref::LoadOp load, IRMapping &values) {
  SmallVector<Value> indices;
  Value table = values.lookupOrDefault(load.getMemRef());
  for (auto [dimension, index] : llvm::enumerate(load.getIndices()))
    indices.push_back(k.within(values.lookupOrDefault(index), k.extentOf(table, int64_t(dimension))));
  return memref::LoadOp::create(b, k.loc, table, indices);
}

void GenericLowering::scalarBody() {
  IRMapping values;
  Block &body = *op.getBody();
  for (OpOperand &operand : op->getOpOperands())
    if (BlockArgument argument = op.getMatchingBlockArgument(&operand); !argument.use_empty())
      values.map(argument, loadScalar(operand));
  for (Operation &inner : body.without_terminator()) {
    if (auto index = dyn_cast<linalg::IndexOp>(inner))
      values.map(index.getResult(), positions[index.getDim()]);
    else if (auto load = dyn_cast<memref::LoadOp>(inner))
      values.map(load.getResult(), loadWithin(load, values));
    else
      b.clone(inner, values);
  }
  for (auto [number, operand] : llvm::enumerate(op.getDpsInitsMutable())) {
    Value value = values.lookupOrDefault(body.getTerminator()->getOperand(number));
    k.store(toStorage(value), pointerTo(operand, elementOffset(operand, positions)));
  }
}

// What the body yields for the 16 elements from `position` on.
SmallVector<Value> GenericLowering::results(Value position, Value mask, ValueRange sums) {
  IRMapping values;
  Block &body = *op.getBody();
  for (auto [number, operand] : llvm::enumerate(op->getOpOperands())) {
    BlockArgument argument = op.getMatchingBlockArgument(&operand);
    bool isOutput = op.isDpsInit(&operand);
    if (isOutput && sumsInside)
      values.map(argument, sums[number - op.getNumDpsInputs()]);
    else if (!argument.use_empty())
      values.map(argument, vectorOperand(operand, position, mask));
  }
  for (Operation &inner : body.without_terminator()) {
    if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
      bool isInner = index.getDim() == op.getNumLoops() - 1;
      Value lanes = isInner ? arith::IndexCastOp::create(b, k.loc, k.lanes(b.getIndexType()), k.laneNumbers())
                            : Value();
      values.map(index.getResult(), isInner ? k.add(k.splat(position), lanes) : positions[index.getDim()]);
      continue;
    }
    SmallVector<Value> operands;
    for (Value operand : inner.getOperands())
      operands.push_back(values.lookupOrDefault(operand));
    bool isVector = llvm::any_of(operands, [](Value operand) { return isa<VectorType>(operand.getType()); });
    for (Value &operand : operands)
      operand = isVector ? asVector(operand) : operand;
    values.map(inner.getResults(), cloneAs(&inner, operands, isVector ? kLanes : 0)->getResults());
  }
  SmallVector<Value> results;
  for (Value yielded : body.getTerminator()->getOperands())
    results.push_back(values.lookupOrDefault(yielded));
  return results;
}

// Returns the new sums of a reduction; else stores and returns none.
SmallVector<Value> GenericLowering::chunk(Value position, Value mask, ValueRange sums) {
  if (partner) {
    pairOfChunks(position);
    return {};
  }
  SmallVector<Value> next;
  for (auto [operand, value] : llvm::zip(op.getDpsInitsMutable(), results(position, mask, sums))) {
    if (!sumsInside)
      storeVector(operand, position, value, mask);
    else
      next.push_back(mask ? k.select(mask, value, sums[next.size()]) : value);
  }
  return next;
}

// ---- Two ops whose results interleave ----
// The input that is indexed like `operand` and is wanted, null if there is none.
OpOperand *GenericLowering::likeOf(OpOperand &operand, llvm::function_ref<bool(Value)> isWanted) {
  AffineMap map = cast<linalg::GenericOp>(operand.getOwner()).getMatchingIndexingMap(&operand);
  for (OpOperand *input : op.getDpsInputOperands())
    if (op.getMatchingIndexingMap(input) == map && isWanted(input->get()))
      return input;
  return nullptr;
}

bool GenericLowering::pairsWith(GenericLowering &odd) {
  if (op.getNumDpsInits() != 1 || odd.op.getNumDpsInits() != 1 || op.getNumParallelLoops() != op.getNumLoops() ||
      odd.op.getNumParallelLoops() != odd.op.getNumLoops() || !isVectorizable() || !odd.isVectorizable())
    return false;
  OpOperand &out = op.getDpsInitsMutable()[0], &oddOut = odd.op.getDpsInitsMutable()[0];
  int64_t extent = op.getStaticLoopRanges().back();
  if (ShapedType::isDynamic(extent) || extent % kLanes != 0 || motionOf(out) != Motion::Every2nd ||
      op.getMatchingIndexingMap(&out) != odd.op.getMatchingIndexingMap(&oddOut) || !isOneFurther(out.get(), oddOut.get()) ||
      !op.getMatchingBlockArgument(&out).use_empty() || !odd.op.getMatchingBlockArgument(&oddOut).use_empty())
    return false;
  return llvm::all_of(odd.op.getDpsInputOperands(), [&](OpOperand *input) {
    bool isSame = likeOf(*input, [&](Value value) { return value == input->get(); });
    return isSame && (!isa<MemRefType>(input->get().getType()) || bufferOf(input->get()) != bufferOf(out.get()));
  });
}

void GenericLowering::lowerWith(GenericLowering &odd) {
  partner = &odd;
  lower();
}

std::pair<Value, Value> GenericLowering::loadPair(OpOperand &even, Value position) {
  Type element = getElementTypeOrSelf(even.get().getType());
  VectorType stored = k.lanes(storageType(b, element));
  SmallVector<Value> dimensions = positions;
  dimensions.back() = position;
  Value pointer = pointerTo(even, elementOffset(even, dimensions));
  Value low = k.load(stored, pointer), high = k.load(stored, k.at(pointer, kLanes * stored.getElementTypeBitWidth() / 8));
  SmallVector<int64_t> evens, odds;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    evens.push_back(2 * lane);
    odds.push_back(2 * lane + 1);
  }
  return {fromStorage(vector::ShuffleOp::create(b, k.loc, low, high, evens), element),
          fromStorage(vector::ShuffleOp::create(b, k.loc, low, high, odds), element)};
}

void GenericLowering::pairOfChunks(Value position) {
  given.clear();
  partner->given.clear();
  for (OpOperand *input : op.getDpsInputOperands()) {
    if (still.contains(input) || given.contains(input))
      continue;
    OpOperand *next = motionOf(*input) == Motion::Every2nd
                          ? likeOf(*input, [&](Value value) { return isOneFurther(input->get(), value); })
                          : nullptr;
    if (next)
      std::tie(given[input], given[next]) = loadPair(*input, position);
    else if (!llvm::any_of(op.getDpsInputOperands(), [&](OpOperand *other) { return isOneFurther(other->get(), input->get()); }))
      given[input] = vectorOperand(*input, position, Value());
  }
  for (OpOperand *input : partner->op.getDpsInputOperands())
    if (OpOperand *same = likeOf(*input, [&](Value value) { return value == input->get(); }); given.contains(same))
      partner->given[input] = given[same];
  Value even = toStorage(asVector(results(position, Value(), {})[0]));
  Value odd = toStorage(asVector(partner->results(position, Value(), {})[0]));
  OpOperand &out = op.getDpsInitsMutable()[0];
  SmallVector<Value> dimensions = positions;
  dimensions.back() = position;
  Value pointer = pointerTo(out, elementOffset(out, dimensions));
  int64_t bytes = cast<VectorType>(even.getType()).getElementTypeBitWidth() / 8;
  for (int64_t half : {0, 1}) {
    SmallVector<int64_t> lanes;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes.push_back(half * kLanes / 2 + lane / 2 + lane % 2 * kLanes);
    k.store(vector::ShuffleOp::create(b, k.loc, even, odd, lanes), k.at(pointer, half * kLanes * bytes));
  }
}

void GenericLowering::findStill() {
  still.clear();
  for (OpOperand &operand : op->getOpOperands()) {
    bool isInput = !op.isDpsInit(&operand);
    bool isStill = !isa<MemRefType>(operand.get().getType()) || motionOf(operand) == Motion::Still;
    if (isInput && isStill && !op.getMatchingBlockArgument(&operand).use_empty())
      still[&operand] = k.splat(loadScalar(operand));
  }
}

// Sums of the elements before `end` in chains that do not wait for each other.
SmallVector<Value> GenericLowering::sumInChains(Value end, SmallVector<Value> sums) {
  SmallVector<Value> chains;
  for (int64_t chain = 0; chain < kChains; ++chain)
    llvm::append_range(chains, sums);
  auto ofChain = [&](ValueRange all, int64_t chain) { return all.slice(chain * sums.size(), sums.size()); };
  chains = k.loop(k.index(0), end, kChains * kLanes, chains, [&](Value position, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t chain = 0; chain < kChains; ++chain)
      llvm::append_range(next, chunk(k.add(position, chain * kLanes), Value(), ofChain(carried, chain)));
    return next;
  });
  for (auto [number, sum] : llvm::enumerate(sums)) {
    sum = chains[number];
    for (int64_t chain = 1; chain < kChains; ++chain)
      sum = cloneAs(combinerOf(int64_t(number)), {sum, ofChain(chains, chain)[number]}, kLanes)->getResult(0);
  }
  return sums;
}

void GenericLowering::innerLoop() {
  findStill();
  if (partner) {
    partner->positions = positions;
    partner->findStill();
  }
  SmallVector<Value> sums;
  if (sumsInside)
    for (auto [number, operand] : llvm::enumerate(op.getDpsInitsMutable()))
      sums.push_back(neutral(combinerOf(number), k.lanes(getElementTypeOrSelf(operand.get().getType()))));
  Value extent = extents.back();
  Value whole = k.mul(k.div(extent, kLanes), kLanes);
  Value left = tail = k.sub(extent, whole);
  Value begin = k.index(0);
  if (sumsInside && mayReorder(op)) {
    begin = k.mul(k.div(extent, kChains * kLanes), kChains * kLanes);
    if (getConstantIntValue(begin) != 0)
      sums = sumInChains(begin, sums);
  }
  if (getConstantIntValue(k.sub(whole, begin)) != 0)
    sums = k.loop(begin, whole, kLanes, sums,
                  [&](Value position, ValueRange carried) { return chunk(position, Value(), carried); });
  // An empty tail changes nothing: its mask is empty, so no test is needed where the extent is dynamic.
  if (getConstantIntValue(left) != 0)
    sums = chunk(whole, k.maskOf(left), sums);
  if (!sumsInside)
    return;
  for (auto [number, operand] : llvm::enumerate(op.getDpsInitsMutable())) {
    Operation *combiner = combinerOf(number);
    Value total = k.reduceTree(sums[number], [&](Value x, Value y) {
      return cloneAs(combiner, {x, y}, cast<VectorType>(x.getType()).getNumElements())->getResult(0);
    });
    Value pointer = pointerTo(operand, elementOffset(operand, positions));
    Type element = getElementTypeOrSelf(operand.get().getType());
    Value initial = fromStorage(k.load(storageType(b, element), pointer), element);
    k.store(toStorage(cloneAs(combiner, {initial, total}, 0)->getResult(0)), pointer);
  }
}

void GenericLowering::nest(unsigned depth) {
  bool vectorize = isVectorizable();
  if (depth + (vectorize ? 1 : 0) == op.getNumLoops()) {
    vectorize ? innerLoop() : scalarBody();
    return;
  }
  k.loop(k.index(0), extents[depth], 1, [&](Value position) {
    positions[depth] = position;
    nest(depth + 1);
  });
}

void GenericLowering::lower() {
  for (Range range : cast<linalg::LinalgOp>(op.getOperation()).createLoopRanges(b, k.loc))
    extents.push_back(getValueOrCreateConstantIndexOp(b, k.loc, range.size));
  positions.assign(extents.size(), k.index(0));
  nest(0);
}

struct LowerElementwise : impl::LowerElementwiseBase<LowerElementwise> {
  void getDependentDialects(DialectRegistry &registry) const override {
    LowerElementwiseBase::getDependentDialects(registry);
    registry.insert<linalg::LinalgDialect>();
  }

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<memref::CopyOp> copies;
    getOperation().walk([&](memref::CopyOp op) { copies.push_back(op); });
    for (memref::CopyOp op : copies) {
      rewriter.setInsertionPoint(op);
      linalg::CopyOp::create(rewriter, op.getLoc(), ValueRange(op.getSource()), ValueRange(op.getTarget()));
      op.erase();
    }
    SmallVector<linalg::LinalgOp> ops;
    getOperation().walk([&](linalg::LinalgOp op) { ops.push_back(op); });
    for (size_t i = 0; i < ops.size(); ++i) {
      if (i + 1 < ops.size() && lowerPair(rewriter, ops[i], ops[i + 1]))
        ++i;
      else if (failed(lower(rewriter, ops[i])))
        return signalPassFailure();
    }
  }

  // In the place of the second: what stands between them has no effect on memory.
  bool lowerPair(IRRewriter &rewriter, linalg::LinalgOp first, linalg::LinalgOp second) {
    auto even = dyn_cast<linalg::GenericOp>(first.getOperation()), odd = dyn_cast<linalg::GenericOp>(second.getOperation());
    if (!even || !odd || even->getBlock() != odd->getBlock() || !even.hasPureBufferSemantics() || !odd.hasPureBufferSemantics())
      return false;
    for (Operation *between = even->getNextNode(); between != odd; between = between->getNextNode())
      if (!between || !isMemoryEffectFree(between))
        return false;
    rewriter.setInsertionPoint(odd);
    GenericLowering evens(even, rewriter), odds(odd, rewriter);
    if (!evens.pairsWith(odds))
      return false;
    evens.lowerWith(odds);
    rewriter.eraseOp(odd);
    rewriter.eraseOp(even);
    return true;
  }

  LogicalResult lower(IRRewriter &rewriter, linalg::LinalgOp op) {
    if (!op.hasPureBufferSemantics())
      return op->emitOpError("is still on tensors; bufferize first");
    rewriter.setInsertionPoint(op);
    auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
    if (!generic) {
      FailureOr<linalg::GenericOp> generalized = linalg::generalizeNamedOp(rewriter, op);
      if (failed(generalized))
        return op->emitOpError("has no body to lower");
      generic = *generalized;
    }
    rewriter.setInsertionPoint(generic);
    GenericLowering(generic, rewriter).lower();
    rewriter.eraseOp(generic);
    return success();
  }
};

}  // namespace

}  // namespace girih::cpu
