// SPDX-License-Identifier: Apache-2.0
// girih-fuse-elementwise: makes one op of a chain of elementwise ops.
#include "compiler/fuse/passes.h"

#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/IR/IRMapping.h"

namespace girih::compiler {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;

namespace {

// A generic of several results becomes one for each, right before its first use: where the results are parts of one
// tensor (the halves of a rotation), each can then be computed in its place.
void splitResults(linalg::GenericOp op) {
  for (auto [index, result] : llvm::enumerate(op->getResults())) {
    if (result.use_empty())
      continue;
    Operation *firstUser = nullptr;
    for (Operation *user : result.getUsers())
      if (user->getBlock() == op->getBlock() && (!firstUser || user->isBeforeInBlock(firstUser)))
        firstUser = user;
    OpBuilder b(firstUser ? firstUser : op.getOperation());
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    unsigned numInputs = op.getNumDpsInputs();
    maps = SmallVector<AffineMap>(maps.begin(), maps.begin() + numInputs);
    maps.push_back(op.getIndexingMapMatchingResult(result));
    auto single = linalg::GenericOp::create(b, op.getLoc(), result.getType(), op.getInputs(), op.getOutputs()[index],
                                            maps, op.getIteratorTypesArray());
    IRMapping mapping;
    op.getRegion().cloneInto(&single.getRegion(), mapping);
    Block &body = single.getRegion().front();
    body.getTerminator()->setOperands(body.getTerminator()->getOperand(index));
    for (unsigned output = op.getNumDpsInits(); output-- > 0;)
      if (output != index)
        body.eraseArgument(numInputs + output);
    result.replaceAllUsesWith(single.getResult(0));
  }
  op.erase();
}

// Elementwise, and no result reads what another destination held.
bool canSplit(linalg::GenericOp op) {
  return op.getNumResults() > 1 && op.getNumParallelLoops() == op.getNumLoops() && op.hasPureTensorSemantics() &&
         llvm::all_of(op.getRegionOutputArgs(), [](BlockArgument argument) { return argument.use_empty(); });
}

struct FuseElementwisePass : girih::compiler::impl::FuseElementwiseBase<FuseElementwisePass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    // Fusing a producer with several users would compute it once for each.
    auto singleUse = [](OpOperand *operand) {
      Operation *producer = operand->get().getDefiningOp();
      return producer && producer->hasOneUse();
    };
    linalg::populateElementwiseOpsFusionPatterns(patterns, singleUse);
    linalg::populateFoldReshapeOpsByExpansionPatterns(patterns, [&](OpOperand *operand) {
      // Only reshapes between two elementwise ops: a projection's result keeps its [T, N] form for `tile`.
      Operation *producer = operand->get().getDefiningOp();
      return producer && producer->hasOneUse() && isa<linalg::GenericOp>(producer) &&
             isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(operand->getOwner());
    });
    linalg::GenericOp::getCanonicalizationPatterns(patterns, &getContext());
    tensor::ExpandShapeOp::getCanonicalizationPatterns(patterns, &getContext());
    tensor::CollapseShapeOp::getCanonicalizationPatterns(patterns, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    SmallVector<linalg::GenericOp> several;
    getOperation().walk([&](linalg::GenericOp op) {
      if (canSplit(op))
        several.push_back(op);
    });
    for (linalg::GenericOp op : several)
      splitResults(op);
  }
};

}  // namespace
