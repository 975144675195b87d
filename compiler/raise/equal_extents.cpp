// SPDX-License-Identifier: Apache-2.0
// Which dynamic extents of a function's tensors are the same number.
#include "compiler/raise/equal_extents.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"

namespace girih::compiler {

using namespace mlir;

void EqualExtents::join(Value left, int64_t leftDim, Value right, int64_t rightDim) {
  classes.unionSets({left.getAsOpaquePointer(), leftDim}, {right.getAsOpaquePointer(), rightDim});
}

void EqualExtents::joinSize(Value tensor, int64_t dim, OpFoldResult size) {
  if (auto value = dyn_cast<Value>(size))
    join(tensor, dim, value, -1);
}

EqualExtents::EqualExtents(func::FuncOp function) {
  function.walk([&](Operation *op) {
    // Results have the extents of what they are written into.
    if (auto structured = dyn_cast<DestinationStyleOpInterface>(op))
      for (OpResult result : op->getResults())
        if (auto type = dyn_cast<RankedTensorType>(result.getType()))
          for (int64_t dim = 0; dim < type.getRank(); ++dim)
            join(result, dim, structured.getTiedOpOperand(result)->get(), dim);
    if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
      llvm::DenseMap<unsigned, std::pair<Value, int64_t>> firstOfLoop;
      for (OpOperand &operand : op->getOpOperands()) {
        if (!isa<RankedTensorType>(operand.get().getType()))
          continue;
        for (auto [dim, affine] : llvm::enumerate(linalgOp.getMatchingIndexingMap(&operand).getResults()))
          if (auto loop = dyn_cast<AffineDimExpr>(affine)) {
            auto [first, isNew] =
                firstOfLoop.try_emplace(loop.getPosition(), operand.get(), static_cast<int64_t>(dim));
            join(first->second.first, first->second.second, operand.get(), dim);
          }
      }
    } else if (auto softmax = dyn_cast<linalg::SoftmaxOp>(op)) {
      for (int64_t dim = 0; dim < softmax.getInputOperandRank(); ++dim)
        join(softmax.getInput(), dim, softmax.getOutput(), dim);
    } else if (auto extent = dyn_cast<tensor::DimOp>(op)) {
      if (std::optional<int64_t> dim = extent.getConstantIndex())
        join(extent.getSource(), *dim, extent.getResult(), -1);
    } else if (auto empty = dyn_cast<tensor::EmptyOp>(op)) {
      for (auto [dim, size] : llvm::enumerate(empty.getMixedSizes()))
        joinSize(empty, dim, size);
    } else if (auto retyped = dyn_cast<tensor::CastOp>(op)) {
      if (auto type = dyn_cast<RankedTensorType>(retyped.getType()))
        for (int64_t dim = 0; dim < type.getRank(); ++dim)
          join(retyped, dim, retyped.getSource(), dim);
    } else if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
      llvm::SmallBitVector dropped = slice.getDroppedDims();
      int64_t resultDim = 0;
      for (auto [dim, size] : llvm::enumerate(slice.getMixedSizes()))
        if (!dropped.test(dim))
          joinSize(slice, resultDim++, size);
    } else if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op)) {
      auto expand = dyn_cast<tensor::ExpandShapeOp>(op);
      auto groups = expand ? expand.getReassociationIndices()
                           : cast<tensor::CollapseShapeOp>(op).getReassociationIndices();
      Value narrow = expand ? op->getOperand(0) : op->getResult(0),
            wide = expand ? op->getResult(0) : op->getOperand(0);
      ArrayRef<int64_t> shape = cast<RankedTensorType>(wide.getType()).getShape();
      for (auto [dim, group] : llvm::enumerate(groups)) {
        // A group of one extent other than 1 keeps it.
        SmallVector<int64_t> large;
        llvm::copy_if(group, std::back_inserter(large), [&](int64_t inner) { return shape[inner] != 1; });
        if (large.size() == 1)
          join(narrow, dim, wide, large.front());
      }
    }
  });
}

bool EqualExtents::areEqual(Value left, unsigned leftDim, Value right, unsigned rightDim) const {
  int64_t leftSize = cast<RankedTensorType>(left.getType()).getDimSize(leftDim);
  int64_t rightSize = cast<RankedTensorType>(right.getType()).getDimSize(rightDim);
  if (!ShapedType::isDynamic(leftSize) && !ShapedType::isDynamic(rightSize))
    return leftSize == rightSize;
  Extent leftExtent{left.getAsOpaquePointer(), leftDim}, rightExtent{right.getAsOpaquePointer(), rightDim};
  return leftExtent == rightExtent || classes.isEquivalent(leftExtent, rightExtent);
}

} // namespace girih::compiler
