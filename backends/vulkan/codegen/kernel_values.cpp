// SPDX-License-Identifier: Apache-2.0
// Scalars are computed again in the shader when the step's extents decide them, and pushed when the host knows them.
#include "backends/vulkan/codegen/kernel_values.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "runtime/weights/packed_layout.h"

#include <numeric>

using namespace mlir;
using namespace girih::dialect;

namespace girih::vulkan {
namespace {

constexpr int64_t kWordBytes = 4;

int64_t elementBytes(Type element) {
  return element.isIntOrFloat() ? int64_t(element.getIntOrFloatBitWidth()) / 8 : 8;
}

bool isWord(Type element) { return element.isF32() || element.isInteger(32); }
bool isPartOfWord(Type element) { return element.isF16() || element.isBF16() || element.isInteger(8); }

// Whether it takes the step's extents to know the value.
bool asksExtents(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  if (isa<StepExtentOp, memref::DimOp>(op))
    return true;
  return llvm::any_of(op->getOperands(), asksExtents);
}

// All buffers that a memref of the host function may be, in whichever turn of the loops around it.
void collectLeaves(Value memref, llvm::SmallPtrSetImpl<Operation *> &leaves, llvm::DenseSet<Value> &visited) {
  if (!visited.insert(memref).second)
    return;
  auto argument = dyn_cast<BlockArgument>(memref);
  auto loop = argument ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp())
                       : memref.getDefiningOp<scf::ForOp>();
  if (loop && !(argument && argument.getArgNumber() == 0)) {
    unsigned number = argument ? argument.getArgNumber() - 1 : cast<OpResult>(memref).getResultNumber();
    collectLeaves(loop.getInitArgs()[number], leaves, visited);
    return collectLeaves(loop.getBody()->getTerminator()->getOperand(number), leaves, visited);
  }
  Operation *op = memref.getDefiningOp();
  if (auto view = dyn_cast_or_null<ViewLikeOpInterface>(op))
    return collectLeaves(view.getViewSource(), leaves, visited);
  if (op)
    leaves.insert(op);
}

llvm::SmallPtrSet<Operation *, 4> leavesOf(Value memref) {
  llvm::SmallPtrSet<Operation *, 4> leaves;
  llvm::DenseSet<Value> visited;
  collectLeaves(memref, leaves, visited);
  return leaves;
}

// Two operations may name the same part of the arena.
bool isSamePlace(Operation *x, Operation *y) {
  auto first = dyn_cast<BufferAtOp>(x), second = dyn_cast<BufferAtOp>(y);
  if (!first || !second || x == y)
    return true;
  auto begin = getConstantIntValue(first.getOffsetBytes()),
       other = getConstantIntValue(second.getOffsetBytes());
  return first.getSpace() == second.getSpace() && (!begin || !other || *begin == *other);
}

// A number of words of which the buffer's begin is always a multiple.
int64_t wordDivisorOf(Operation *leaf) {
  auto at = dyn_cast<BufferAtOp>(leaf);
  auto bytes = at ? getConstantIntValue(at.getOffsetBytes()) : std::nullopt;
  return bytes ? std::gcd(*bytes, int64_t(64)) / kWordBytes : 1;
}

} // namespace

int64_t divisorOf(OpFoldResult index) {
  if (auto constant = getConstantIntValue(index))
    return *constant;
  auto value = cast<Value>(index);
  if (auto argument = dyn_cast<BlockArgument>(value))
    if (auto dispatch = dyn_cast<scf::ForallOp>(argument.getOwner()->getParentOp())) {
      unsigned axis = argument.getArgNumber();
      auto step = getConstantIntValue(dispatch.getMixedStep()[axis]);
      auto begin = getConstantIntValue(dispatch.getMixedLowerBound()[axis]);
      return step && begin ? std::gcd(*step, *begin) : 1;
    }
  auto apply = value.getDefiningOp<affine::AffineApplyOp>();
  return apply ? std::max<int64_t>(1, apply.getAffineMap().getResult(0).getLargestKnownDivisor()) : 1;
}

Value firstLeafOf(Value memref) {
  while (true) {
    if (auto argument = dyn_cast<BlockArgument>(memref)) {
      auto loop = dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp());
      if (!loop || argument.getArgNumber() == 0)
        return memref;
      memref = loop.getInitArgs()[argument.getArgNumber() - 1];
      continue;
    }
    Operation *op = memref.getDefiningOp();
    if (auto loop = dyn_cast<scf::ForOp>(op))
      memref = loop.getInitArgs()[cast<OpResult>(memref).getResultNumber()];
    else if (auto view = dyn_cast<ViewLikeOpInterface>(op))
      memref = view.getViewSource();
    else
      return memref;
  }
}

// ---- Scalars ----
Value KernelValues::scalar(OpFoldResult value) {
  if (auto constant = getConstantIntValue(value))
    return k.c(*constant);
  return scalar(cast<Value>(value));
}

Value KernelValues::scalar(Value value) {
  if (auto known = scalars.find(value); known != scalars.end())
    return known->second;
  Value made = computeScalar(value);
  scalars[value] = made;
  return made;
}

Value KernelValues::pushed(Value value, bool isOffset) {
  uint32_t number = uint32_t(inputs.words.size());
  for (auto [at, word] : llvm::enumerate(inputs.words))
    if (word.value == value && word.isOffset == isOffset)
      number = uint32_t(at);
  if (number == inputs.words.size())
    inputs.words.push_back({value, isOffset});
  if (kMaxWeights + number >= kMaxPushWords) {
    fail("a dispatch takes more than " + Twine(kMaxPushWords - kMaxWeights) + " values from the host");
    return k.c(0);
  }
  // The first constants are the weights', however many there turn out to be.
  return k.pushConstant(kMaxWeights + number);
}

Value KernelValues::computeScalar(Value value) {
  if (auto constant = getConstantIntValue(value); constant && !value.getType().isInteger(1))
    return k.c(*constant);
  Operation *op = value.getDefiningOp();
  if (auto extent = dyn_cast_or_null<StepExtentOp>(op)) {
    StringRef name = extent.getName();
    return k.step(name == "num_tokens"       ? kNumTokens
                  : name == "num_logit_rows" ? kNumLogitRows
                                             : kLongestContext);
  }
  if (auto dim = dyn_cast_or_null<memref::DimOp>(op))
    return anyView(dim.getSource()).extents[size_t(*dim.getConstantIndex())];
  auto dispatch = op ? op->getParentOfType<scf::ForallOp>() : scf::ForallOp();
  if (!dispatch && !asksExtents(value) && (!op || !isa<arith::ConstantOp>(op)))
    return pushed(value, false);
  if (auto apply = dyn_cast_or_null<affine::AffineApplyOp>(op)) {
    SmallVector<Value> operands =
        llvm::map_to_vector(apply.getOperands(), [&](Value v) { return scalar(v); });
    AffineMap map = apply.getAffineMap();
    return evaluate(map.getResult(0), ArrayRef(operands).take_front(map.getNumDims()),
                    ArrayRef(operands).drop_front(map.getNumDims()));
  }
  if (op && isa<affine::AffineMinOp, affine::AffineMaxOp>(op)) {
    SmallVector<Value> operands = llvm::map_to_vector(op->getOperands(), [&](Value v) { return scalar(v); });
    AffineMap map = cast<AffineMapAttr>(op->getAttr("map")).getValue();
    Value best;
    for (AffineExpr expr : map.getResults()) {
      Value next = evaluate(expr, ArrayRef(operands).take_front(map.getNumDims()),
                            ArrayRef(operands).drop_front(map.getNumDims()));
      best = !best ? next : isa<affine::AffineMinOp>(op) ? k.min(best, next) : k.max(best, next);
    }
    return best;
  }
  if (op && isa<arith::IndexCastOp, arith::IndexCastUIOp>(op))
    return scalar(op->getOperand(0));
  if (op && isa<arith::ArithDialect>(op->getDialect()))
    return cloneArithmetic(op);
  fail("a dispatch takes a value of " +
       (op ? Twine(op->getName().getStringRef()) : Twine("an unknown argument")));
  return value.getType().isF32() ? k.f(0) : k.c(0);
}

// The same operation on 32-bit integers where it was on indices.
Value KernelValues::cloneArithmetic(Operation *op) {
  SmallVector<Value> operands = llvm::map_to_vector(op->getOperands(), [&](Value v) { return scalar(v); });
  Type type = op->getResult(0).getType().isIndex() ? Type(k.b.getI32Type()) : op->getResult(0).getType();
  OperationState state(k.loc, op->getName(), operands, {type}, op->getAttrs());
  return k.b.create(state)->getResult(0);
}

Value KernelValues::evaluate(AffineExpr expr, ValueRange dimensions, ValueRange symbols) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return k.c(constant.getValue());
  if (auto dimension = dyn_cast<AffineDimExpr>(expr))
    return dimensions[dimension.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return symbols[symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value x = evaluate(binary.getLHS(), dimensions, symbols),
        y = evaluate(binary.getRHS(), dimensions, symbols);
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
    return k.div(k.add(x, k.sub(y, k.c(1))), y);
  }
}

// ---- Views ----
View KernelValues::view(Value memref) {
  View made = anyView(memref);
  if (!isWord(made.element))
    fail("an operation takes elements of " + Twine(elementBytes(made.element)) + " bytes, not of 4");
  return made;
}

View KernelValues::anyView(Value memref) {
  if (auto known = views.find(memref); known != views.end())
    return known->second;
  View made = computeView(memref);
  made.source = made.array ? 0 : sourceOf(made.memory, memref);
  if (!isWord(made.element) && (made.array || !isPartOfWord(made.element))) {
    std::string name;
    llvm::raw_string_ostream(name) << made.element;
    fail("elements of type " + name + " are not read or written yet");
    made.element = k.b.getI32Type();
  }
  views[memref] = made;
  return made;
}

View KernelValues::shapeOf(Value memref, Value rows) {
  auto type = cast<MemRefType>(memref.getType());
  View view;
  view.element = type.getElementType();
  int64_t offset = 0;
  if (failed(type.getStridesAndOffset(view.strides, offset)))
    fail("a buffer has no strides");
  for (int64_t extent : type.getShape())
    view.extents.push_back(ShapedType::isDynamic(extent) ? rows : k.c(extent));
  return view;
}

View KernelValues::computeView(Value memref) {
  Operation *op = memref.getDefiningOp();
  if (auto buffer = dyn_cast_or_null<BufferAtOp>(op))
    return bufferView(buffer);
  if (auto sub = dyn_cast_or_null<memref::SubViewOp>(op))
    return subview(sub);
  if (auto cast = dyn_cast_or_null<memref::CastOp>(op))
    return withShape(anyView(cast.getSource()), llvm::cast<MemRefType>(cast.getType()),
                     anyView(cast.getSource()).extents);
  if (auto collapse = dyn_cast_or_null<memref::CollapseShapeOp>(op)) {
    View source = anyView(collapse.getSrc());
    SmallVector<Value> extents;
    for (ReassociationIndices group : collapse.getReassociationIndices()) {
      Value extent = k.c(1);
      for (int64_t dimension : group)
        extent = k.mul(extent, source.extents[size_t(dimension)]);
      extents.push_back(extent);
    }
    return withShape(source, collapse.getResultType(), extents);
  }
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(op)) {
    SmallVector<Value> extents;
    for (OpFoldResult extent : expand.getMixedOutputShape())
      extents.push_back(scalar(extent));
    return withShape(anyView(expand.getSrc()), expand.getResultType(), extents);
  }
  if (auto global = dyn_cast_or_null<memref::GetGlobalOp>(op)) {
    auto symbol = SymbolTable::lookupNearestSymbolFrom<memref::GlobalOp>(global, global.getNameAttr());
    auto values =
        symbol ? dyn_cast_or_null<DenseElementsAttr>(symbol.getConstantInitValue()) : DenseElementsAttr();
    View view = shapeOf(memref, Value());
    if (values)
      view.array = k.constantArray(values);
    else
      fail("a dispatch reads a global without values");
    view.offset = k.c(0);
    return view;
  }
  // A buffer that a loop hands on: another one in each turn, which the host knows.
  auto leaf = firstLeafOf(memref).getDefiningOp<BufferAtOp>();
  if (!leaf || leaf.getSpace() != "arena") {
    fail("a dispatch takes a buffer that is not the arena's from a loop");
    return shapeOf(memref, k.c(1));
  }
  View view = shapeOf(memref, leaf.getRows() ? scalar(leaf.getRows()) : Value());
  view.memory = kArenaBinding;
  view.offset = pushed(memref, true);
  view.divisor = 0;
  for (Operation *one : leavesOf(memref))
    view.divisor = std::gcd(view.divisor, wordDivisorOf(one));
  return view;
}

View KernelValues::bufferView(BufferAtOp op) {
  View view = shapeOf(op.getResult(), op.getRows() ? scalar(op.getRows()) : Value());
  StringRef space = op.getSpace();
  auto constant = getConstantIntValue(op.getOffsetBytes());
  int64_t perWord = isPartOfWord(view.element) ? view.perWord() : 1;
  auto words = [&]() -> Value {
    if (constant && *constant % kWordBytes != 0)
      fail("a buffer begins at byte " + Twine(*constant) + ", within a word");
    if (constant)
      return k.c(*constant / kWordBytes);
    return k.div(scalar(op.getOffsetBytes()), kWordBytes);
  };
  const StepLayout &layout = entry.layout;
  if (space == "weights") {
    int64_t numBytes = cast<MemRefType>(op.getType()).getNumElements() * elementBytes(view.element);
    view.memory = weightBinding(op.getOffsetBytes(), numBytes, view.offset);
  } else if (space == "arena") {
    view.memory = kArenaBinding;
    view.offset = words();
    view.divisor = wordDivisorOf(op);
  } else if (space == "scratch" && !op->getParentOfType<scf::ForallOp>()) {
    // Each thread's own where a team runs the step; here one for all, behind the arena.
    view.memory = kArenaBinding;
    view.offset = k.add(words(), entry.arenaBytes / kWordBytes);
  } else if (space == "scratch" && constant) {
    view.memory = kSharedMemory;
    view.offset = k.c(scratch.lookup(*constant));
  } else if (space == "logits" || space == "kv_pool") {
    view.memory = space == "logits" ? kLogitsBinding : kKvBinding;
    view.offset = words();
  } else {
    view.memory = kStepBinding;
    uint32_t begin = space == "tokens"      ? layout.tokens()
                     : space == "positions" ? layout.positions()
                                            : layout.logitRows();
    if (space != "tokens" && space != "positions" && space != "logit_rows")
      fail("a dispatch reads the step's \"" + space + "\"");
    view.offset = k.add(words(), begin);
  }
  view.offset = k.mul(view.offset, perWord);
  return view;
}

View KernelValues::withShape(View view, MemRefType type, ArrayRef<Value> extents) {
  int64_t offset = 0;
  view.strides.clear();
  if (failed(type.getStridesAndOffset(view.strides, offset)) ||
      llvm::is_contained(view.strides, ShapedType::kDynamic))
    fail("a view has strides that are not known");
  view.extents.assign(extents.begin(), extents.end());
  return view;
}

View KernelValues::subview(memref::SubViewOp op) {
  View source = anyView(op.getSource());
  Value offset = source.offset;
  int64_t divisor = source.divisor;
  for (auto [at, stride] : llvm::zip(op.getMixedOffsets(), source.strides)) {
    offset = k.add(offset, k.mul(scalar(at), stride));
    divisor = std::gcd(divisor, divisorOf(at) * stride);
  }
  SmallVector<Value> extents;
  auto dropped = op.getDroppedDims();
  for (auto [dimension, extent] : llvm::enumerate(op.getMixedSizes()))
    if (!dropped.test(unsigned(dimension)))
      extents.push_back(scalar(extent));
  View result = withShape(source, op.getType(), extents);
  result.offset = offset;
  result.divisor = divisor;
  return result;
}

uint32_t KernelValues::weightBinding(Value offset, int64_t numBytes, Value &wordOffset) {
  if (auto known = weights.find(offset); known != weights.end()) {
    wordOffset = known->second.second;
    return known->second.first;
  }
  uint32_t number = uint32_t(inputs.weightOffsets.size());
  if (number >= kMaxWeights) {
    fail("a dispatch reads more than " + Twine(kMaxWeights) + " weights");
    number = 0;
  }
  inputs.weightOffsets.push_back(offset);
  inputs.weightBytes.push_back(numBytes);
  wordOffset = k.pushConstant(number);
  weights[offset] = {kWeightBinding + number, wordOffset};
  return kWeightBinding + number;
}

PackedWeight KernelValues::packed(Value weight) {
  auto type = cast<PackedType>(weight.getType());
  PackedWeight result{0, {}, type};
  auto at = weight.getDefiningOp<PackedAtOp>();
  auto layout = weights::PackedLayout::parse(std::string_view(type.getLayout()));
  auto numBytes =
      layout.isOk() ? layout->tensorBytes(type.getColumns(), type.getDepth()) : Expected<int64_t>(0);
  if (!at || !layout.isOk() || !numBytes.isOk()) {
    fail("a packed weight has no address or an unknown layout");
    result.offset = k.c(0);
    return result;
  }
  result.memory = sourceOf(weightBinding(at.getOffsetBytes(), *numBytes, result.offset));
  return result;
}

Cache KernelValues::cache(Value kv) {
  while (auto append = kv.getDefiningOp<KvAppendOp>())
    kv = append.getKv();
  auto at = kv.getDefiningOp<KvAtOp>();
  if (!at) {
    fail("a cache has no address");
    return {kKvBinding, k.c(0), 1, cast<KvType>(kv.getType())};
  }
  return {sourceOf(kKvBinding), k.div(scalar(at.getOffsetBytes()), kWordBytes),
          int64_t(at.getBlockBytes()) / kWordBytes, at.getType()};
}

void KernelValues::noteWrites(Operation *dispatch) {
  dispatch->walk([&](Operation *op) {
    SmallVector<Value> targets;
    if (isa<KvAppendOp>(op))
      writesCache = true;
    else if (auto copy = dyn_cast<memref::CopyOp>(op))
      targets.push_back(copy.getTarget());
    else if (auto structured = dyn_cast<DestinationStyleOpInterface>(op))
      llvm::append_range(targets, structured.getDpsInits());
    for (Value target : targets)
      if (isa<MemRefType>(target.getType()))
        for (Operation *leaf : leavesOf(target)) {
          auto buffer = dyn_cast<BufferAtOp>(leaf);
          writesCache |= buffer && buffer.getSpace() == "kv_pool";
          written.insert(leaf);
        }
  });
}

// Texels may be cached apart from what the shader writes: only what nobody writes in this dispatch is loaded so.
uint32_t KernelValues::sourceOf(uint32_t memory, Value memref) const {
  if (!entry.traits.readsTexels || memory == kSharedMemory)
    return memory;
  bool isWritten = memory == kKvBinding ? writesCache : memory == kLogitsBinding;
  if (memory == kArenaBinding)
    for (Operation *leaf : leavesOf(memref))
      isWritten |= llvm::any_of(written, [&](Operation *other) { return isSamePlace(leaf, other); });
  return isWritten ? memory : memory + kTexelBinding;
}

void KernelValues::shareScratch(Operation *dispatch, int64_t maxTokens) {
  llvm::MapVector<int64_t, int64_t> words;
  dispatch->walk([&](BufferAtOp op) {
    auto offset = getConstantIntValue(op.getOffsetBytes());
    if (op.getSpace() != "scratch" || !offset)
      return;
    int64_t rows = maxTokens;
    if (auto least = op.getRows() ? op.getRows().getDefiningOp<affine::AffineMinOp>() : affine::AffineMinOp())
      for (AffineExpr bound : least.getAffineMap().getResults())
        if (auto constant = dyn_cast<AffineConstantExpr>(bound))
          rows = std::min(rows, constant.getValue());
    int64_t count = 1;
    for (int64_t extent : cast<MemRefType>(op.getType()).getShape())
      count *= ShapedType::isDynamic(extent) ? rows : extent;
    words[*offset] = std::max(words[*offset], count);
  });
  for (auto [offset, count] : words)
    scratch[offset] = k.share(count);
}

} // namespace girih::vulkan
