// SPDX-License-Identifier: Apache-2.0
// girih-fuse-elementwise: makes one op of a chain of elementwise ops.
#include "compiler/fuse/passes.h"

#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"

namespace girih::compiler {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;

namespace {

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
      signalPassFailure();
  }
};

}  // namespace
