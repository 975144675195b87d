// SPDX-License-Identifier: Apache-2.0
// Makes one contraction of the projections of one input.
//
// One parallel loop serves q, k and v; what each was is a view of the columns of the result. Projections whose
// results meet in one elementwise op, as gate and up do, stay apart: a tile of that op computes the tiles of both,
// and neither result is ever stored.
#include "compiler/raise/passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/IR/LinalgInterfaces.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/DebugLog.h"

#define DEBUG_TYPE "girih-merge-projections"

namespace girih::compiler {

#define GEN_PASS_DEF_MERGEPROJECTIONS
#include "compiler/raise/passes.h.inc"

namespace {

using namespace mlir;

// sum over k of x[t, k] * w[n, k], started from zeros, with a weight that nothing else reads.
bool isProjection(linalg::LinalgOp op) {
  if (!linalg::isaContractionOpInterface(op) || !op.hasPureTensorSemantics() || op.getNumLoops() != 3)
    return false;
  Value weight = op->getOperand(1);
  if (dialect::storageFormat(weight.getType()).empty() || !weight.hasOneUse())
    return false;
  AffineExpr t, n, k;
  bindDims(op.getContext(), t, n, k);
  auto map = [&](AffineExpr a, AffineExpr b) { return AffineMap::get(3, 0, {a, b}, op.getContext()); };
  SmallVector<AffineMap> wanted = {map(t, k), map(n, k), map(t, n)};
  auto fill = op.getDpsInits()[0].getDefiningOp<linalg::FillOp>();
  return op.getIndexingMapsArray() == wanted && fill && matchPattern(fill.getInputs()[0], m_AnyZeroFloat());
}

// Whether the weight is there where the first of its group is computed.
bool isThereAt(Value weight, Operation *place) {
  Operation *producer = weight.getDefiningOp();
  return !producer || (producer->getBlock() == place->getBlock() && producer->isBeforeInBlock(place));
}

bool isElementwise(linalg::LinalgOp op) {
  return op.hasPureTensorSemantics() && op.getNumParallelLoops() == op.getNumLoops() &&
         llvm::all_of(op.getIndexingMapsArray(), [](AffineMap map) { return map.isProjectedPermutation(); });
}

// The elementwise ops, one after the other, that a projection's result goes through and nothing else reads.
SmallVector<Operation *> readersOf(linalg::LinalgOp projection) {
  SmallVector<Operation *> readers;
  Value value = projection->getResult(0);
  while (value.hasOneUse()) {
    auto reader = dyn_cast<linalg::LinalgOp>(*value.user_begin());
    if (!reader || !isElementwise(reader) || reader->getNumResults() != 1)
      break;
    readers.push_back(reader);
    value = reader->getResult(0);
  }
  return readers;
}

// Drops from `group` the projections whose results meet that of another.
void keepLoners(SmallVectorImpl<linalg::LinalgOp> &group) {
  DenseMap<Operation *, int64_t> counts;
  for (linalg::LinalgOp op : group)
    for (Operation *reader : readersOf(op))
      ++counts[reader];
  llvm::erase_if(group, [&](linalg::LinalgOp op) {
    return llvm::any_of(readersOf(op), [&](Operation *reader) { return counts[reader] > 1; });
  });
}

struct MergeProjectionsPass : impl::MergeProjectionsBase<MergeProjectionsPass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      // Same input, same format: the stacked weight has one type.
      llvm::MapVector<std::pair<Value, StringRef>, SmallVector<linalg::LinalgOp>> groups;
      for (auto op : function.getOps<linalg::LinalgOp>())
        if (isProjection(op))
          groups[{op->getOperand(0), dialect::storageFormat(op->getOperand(1).getType())}].push_back(op);
      for (auto &[key, group] : groups) {
        keepLoners(group);
        if (group.empty())
          continue;
        llvm::erase_if(group,
                       [&](linalg::LinalgOp op) { return !isThereAt(op->getOperand(1), group.front()); });
        if (group.size() > 1)
          merge(group);
      }
    }
  }

  void merge(ArrayRef<linalg::LinalgOp> group) {
    linalg::LinalgOp first = group.front();
    LDBG() << group.size() << " projections at " << first.getLoc();
    OpBuilder builder(first);
    SmallVector<Location> locations =
        llvm::map_to_vector(group, [](linalg::LinalgOp op) { return op.getLoc(); });
    Location loc = builder.getFusedLoc(locations);
    SmallVector<Value> weights =
        llvm::map_to_vector(group, [](linalg::LinalgOp op) { return op->getOperand(1); });
    auto weightType = cast<RankedTensorType>(weights[0].getType());
    int64_t numColumns = 0;
    for (Value weight : weights)
      numColumns += cast<RankedTensorType>(weight.getType()).getDimSize(0);
    auto stackedType = RankedTensorType::get({numColumns, weightType.getDimSize(1)},
                                             weightType.getElementType(), weightType.getEncoding());
    Value stacked =
        dialect::ConcatRowsOp::create(builder, loc, stackedType, weights, builder.getI64IntegerAttr(0))
            .getResult();

    Value zero = first.getDpsInits()[0].getDefiningOp<linalg::FillOp>().getInputs()[0];
    OpFoldResult numTokens = tensor::getMixedSize(builder, loc, first->getOperand(0), 0);
    Value empty = tensor::EmptyOp::create(builder, loc, {numTokens, builder.getIndexAttr(numColumns)},
                                          builder.getF32Type());
    Value init = linalg::FillOp::create(builder, loc, zero, empty).getResult(0);
    // The first one with the stacked weight: the same sum over k in the same order.
    Operation *merged = mlir::clone(builder, first, init.getType(), {first->getOperand(0), stacked, init});
    merged->setLoc(loc);

    int64_t offset = 0;
    for (linalg::LinalgOp op : group) {
      int64_t width = cast<RankedTensorType>(op->getResult(0).getType()).getDimSize(1);
      SmallVector<OpFoldResult> offsets = {builder.getIndexAttr(0), builder.getIndexAttr(offset)};
      SmallVector<OpFoldResult> sizes = {numTokens, builder.getIndexAttr(width)};
      SmallVector<OpFoldResult> strides(2, builder.getIndexAttr(1));
      Value columns = tensor::ExtractSliceOp::create(builder, op.getLoc(),
                                                     cast<RankedTensorType>(op->getResult(0).getType()),
                                                     merged->getResult(0), offsets, sizes, strides);
      op->getResult(0).replaceAllUsesWith(columns);
      offset += width;
    }
    for (linalg::LinalgOp op : group)
      op->erase();
  }
};

} // namespace
} // namespace girih::compiler
