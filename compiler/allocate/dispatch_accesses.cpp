// SPDX-License-Identifier: Apache-2.0
// Accesses of a dispatch, read off its destination-style operations and the views around them.
#include "compiler/allocate/dispatch_accesses.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

Value sourceOf(Value view) {
  auto op = view.getDefiningOp<ViewLikeOpInterface>();
  return op ? op.getViewSource() : Value();
}

Value rootOf(Value view) {
  while (Value source = sourceOf(view))
    view = source;
  return view;
}

template <typename Reshape>
bool keepsFirstDimension(Reshape op) {
  return !op.getReassociationIndices().empty() && op.getReassociationIndices().front().size() == 1;
}

// Whether row i of `view` lies in row i of the memory it is of.
bool keepsRows(Value view) {
  Operation *op = view.getDefiningOp();
  if (auto slice = dyn_cast_or_null<memref::SubViewOp>(op))
    return isZeroInteger(slice.getMixedOffsets().front()) && isOneInteger(slice.getMixedStrides().front()) &&
           !slice.getDroppedDims().test(0) && keepsRows(slice.getSource());
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(op))
    return keepsFirstDimension(expand) && keepsRows(expand.getSrc());
  if (auto collapse = dyn_cast_or_null<memref::CollapseShapeOp>(op))
    return keepsFirstDimension(collapse) && keepsRows(collapse.getSrc());
  if (auto cast = dyn_cast_or_null<memref::CastOp>(op))
    return keepsRows(cast.getSource());
  return !sourceOf(view);
}

// Whether `view`, used in a unit, is within the row of the unit's number. A view of one row stays in it.
bool isInOwnRow(Value view, scf::ForallOp dispatch) {
  while (Operation *op = view.getDefiningOp()) {
    if (!dispatch->isProperAncestor(op))
      return false;
    if (auto slice = dyn_cast<memref::SubViewOp>(op)) {
      auto offset = dyn_cast<Value>(slice.getMixedOffsets().front());
      if (offset == dispatch.getInductionVars().front() && isOneInteger(slice.getMixedSizes().front()))
        return keepsRows(slice.getSource());
    }
    Value source = sourceOf(view);
    if (!source)
      return false;
    view = source;
  }
  return false;
}

class AccessCollector {
public:
  explicit AccessCollector(scf::ForallOp dispatch) : dispatch(dispatch) {}

  // False when the operation's effects are not known.
  bool collect(Operation *op) {
    if (isa<memref::AllocOp, memref::DeallocOp, ViewLikeOpInterface, memref::DimOp, scf::ForallOp, scf::InParallelOp,
            scf::ForOp, scf::IfOp, scf::YieldOp>(op))
      return true;
    if (auto append = dyn_cast<KvAppendOp>(op)) {
      add(append.getKey(), false);
      add(append.getValue(), false);
      accesses.push_back({Value(), true, false});
      return true;
    }
    if (auto structured = dyn_cast<DestinationStyleOpInterface>(op)) {
      for (OpOperand &operand : op->getOpOperands())
        add(operand.get(), structured.isDpsInit(&operand));
      return true;
    }
    if (auto copy = dyn_cast<memref::CopyOp>(op)) {
      add(copy.getSource(), false);
      add(copy.getTarget(), true);
      return true;
    }
    if (auto load = dyn_cast<memref::LoadOp>(op)) {
      accesses.push_back({memoryOf(load.getMemref()), false, false});
      return true;
    }
    return isMemoryEffectFree(op) || op->getParentOfType<linalg::LinalgOp>();
  }

  SmallVector<Access> accesses;

private:
  void add(Value operand, bool isWrite) {
    if (isa<KvType>(operand.getType()))
      accesses.push_back({Value(), isWrite, false});
    if (!isa<MemRefType>(operand.getType()))
      return;
    Operation *root = rootOf(operand).getDefiningOp();
    if (root && dispatch->isProperAncestor(root))
      return;  // a unit's own temporary
    accesses.push_back({memoryOf(operand), isWrite, isInOwnRow(operand, dispatch)});
  }

  scf::ForallOp dispatch;
};

}  // namespace

Value memoryOf(Value view) {
  Value root = rootOf(view);
  auto loop = dyn_cast_or_null<scf::ForOp>(root.getParentBlock()->getParentOp());
  if (!loop || !root.getDefiningOp())
    return root;
  for (OpOperand &yielded : root.getParentBlock()->getTerminator()->getOpOperands())
    if (isa<MemRefType>(yielded.get().getType()) && rootOf(yielded.get()) == root)
      return loop.getRegionIterArg(yielded.getOperandNumber());
  return root;
}

std::optional<SmallVector<Access>> accessesOf(scf::ForallOp dispatch) {
  AccessCollector collector(dispatch);
  WalkResult walked = dispatch.getBody()->walk([&](Operation *op) {
    return collector.collect(op) ? WalkResult::advance() : WalkResult::interrupt();
  });
  if (walked.wasInterrupted())
    return std::nullopt;
  return collector.accesses;
}

scf::ForallOp nextDispatch(scf::ForallOp dispatch) {
  for (Operation *op = dispatch->getNextNode(); op; op = op->getNextNode()) {
    if (auto next = dyn_cast<scf::ForallOp>(op))
      return next;
    // A table in the code, of weights' offsets, never changes.
    auto load = dyn_cast<memref::LoadOp>(op);
    bool readsTable = load && load.getMemref().getDefiningOp<memref::GetGlobalOp>();
    if (!isMemoryEffectFree(op) && !isa<memref::AllocOp>(op) && !readsTable)
      return nullptr;
  }
  return nullptr;
}

OpFoldResult originOf(OpFoldResult extent) {
  auto value = dyn_cast<Value>(extent);
  auto dim = value ? value.getDefiningOp<memref::DimOp>() : memref::DimOp();
  if (!dim || getConstantIntValue(dim.getIndex()) != 0)
    return extent;
  Value of = dim.getSource();
  for (;;) {
    Operation *op = of.getDefiningOp();
    auto argument = dyn_cast<BlockArgument>(of);
    auto loop = argument ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp()) : scf::ForOp();
    if (auto slice = dyn_cast_or_null<memref::SubViewOp>(op); slice && !slice.getDroppedDims().test(0))
      return originOf(slice.getMixedSizes().front());
    if (auto alloc = dyn_cast_or_null<memref::AllocOp>(op); alloc && alloc.getType().isDynamicDim(0))
      return originOf(alloc.getDynamicSizes().front());
    if (auto buffer = dyn_cast_or_null<BufferAtOp>(op); buffer && buffer.getRows())
      return originOf(OpFoldResult(buffer.getRows()));
    if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(op); expand && keepsFirstDimension(expand))
      of = expand.getSrc();
    else if (auto collapse = dyn_cast_or_null<memref::CollapseShapeOp>(op); collapse && keepsFirstDimension(collapse))
      of = collapse.getSrc();
    else if (auto cast = dyn_cast_or_null<memref::CastOp>(op))
      of = cast.getSource();
    else if (loop && argument != loop.getInductionVar())
      of = loop.getTiedLoopInit(argument)->get();
    else
      return extent;
  }
}

}  // namespace girih::compiler
