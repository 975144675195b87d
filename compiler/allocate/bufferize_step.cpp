// SPDX-License-Identifier: Apache-2.0
// girih-bufferize-step: one-shot bufferization of the step functions.
#include "compiler/allocate/passes.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotModuleBufferize.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"

namespace girih::compiler {
#define GEN_PASS_DEF_BUFFERIZESTEP
#include "compiler/allocate/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;

namespace {

// Gives every destination an empty tensor of its own: two results that share one cannot both be placed.
void separateEmptyTensors(ModuleOp module) {
  SmallVector<tensor::EmptyOp> shared;
  module.walk([&](tensor::EmptyOp op) {
    if (!op->use_empty() && !op->hasOneUse())
      shared.push_back(op);
  });
  for (tensor::EmptyOp op : shared)
    for (OpOperand &use : llvm::make_early_inc_range(llvm::drop_begin(op->getUses())))
      use.set(OpBuilder(use.getOwner()).clone(*op)->getResult(0));
}

struct BufferizeStepPass : girih::compiler::impl::BufferizeStepBase<BufferizeStepPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    // A tile's temporaries get a tensor of the tile's size instead of a slice of a whole one.
    RewritePatternSet patterns(&getContext());
    tensor::populateFoldTensorEmptyPatterns(patterns);
    if (failed(applyPatternsGreedily(module, std::move(patterns))))
      return signalPassFailure();
    separateEmptyTensors(module);
    bufferization::OneShotBufferizationOptions options;
    options.allowReturnAllocsFromLoops = true;
    // Results are computed where they are wanted: the logits in the executor's buffer.
    IRRewriter rewriter(&getContext());
    bufferization::BufferizationState bufferizationState;
    for (auto function : module.getOps<func::FuncOp>()) {
      bufferization::OneShotAnalysisState functionState(function, options);
      if (failed(bufferization::analyzeOp(function, functionState)) ||
          failed(bufferization::eliminateEmptyTensors(rewriter, function, functionState)))
        return signalPassFailure();
    }
    if (failed(bufferization::runOneShotModuleBufferize(module, options, bufferizationState)))
      return signalPassFailure();
    // Views of the same place become one value, so that a copy onto itself shows.
    DominanceInfo dominance(module);
    eliminateCommonSubExpressions(rewriter, dominance, module);
    WalkResult copies = module.walk([](memref::CopyOp copy) {
      if (copy->getParentOfType<scf::ForallOp>())
        return WalkResult::advance();
      if (copy.getSource() == copy.getTarget()) {  // computed where it was wanted
        copy.erase();
        return WalkResult::advance();
      }
      copy.emitOpError("of ") << copy.getSource().getType()
                              << " would run on every thread; a value is updated while it is still read";
      return WalkResult::interrupt();
    });
    if (copies.wasInterrupted())
      signalPassFailure();
  }
};

}  // namespace
