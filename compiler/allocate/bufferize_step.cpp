// SPDX-License-Identifier: Apache-2.0
// girih-bufferize-step: one-shot bufferization of the step functions.
#include "compiler/allocate/passes.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotModuleBufferize.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"

namespace girih::compiler {
#define GEN_PASS_DEF_BUFFERIZESTEP
#include "compiler/allocate/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;

namespace {

// Outside of tiles a part of an empty tensor is wanted as such: rows that lie further apart than they are long.
const std::vector<std::string> kKeepPaddedRows = {"(anonymous namespace)::FoldEmptyTensorWithExtractSliceOp"};

// A tile's temporaries get a tensor of the tile's size instead of a slice of a whole one.
struct SizeTemporaries : OpRewritePattern<tensor::ExtractSliceOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::ExtractSliceOp slice, PatternRewriter &rewriter) const override {
    auto empty = slice.getSource().getDefiningOp<tensor::EmptyOp>();
    if (!empty || !slice->getParentOfType<scf::ForallOp>() || slice.getType().getRank() != empty.getType().getRank())
      return failure();
    rewriter.replaceOpWithNewOp<tensor::EmptyOp>(slice, slice.getMixedSizes(), slice.getType().getElementType());
    return success();
  }
};

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

// A value that is updated while it is still read is kept by a copy. Outside of a dispatch every thread of the team would
// make it, while others already write: it becomes a dispatch of its own, over the rows.
void copyByRows(memref::CopyOp copy) {
  OpBuilder b(copy);
  Location loc = copy.getLoc();
  auto type = cast<MemRefType>(copy.getSource().getType());
  int64_t rank = type.getRank();
  OpFoldResult one = b.getIndexAttr(1);
  OpFoldResult rows = rank == 0 ? one : memref::getMixedSize(b, loc, copy.getSource(), 0);
  auto loop = scf::ForallOp::create(b, loc, rows, ValueRange(), std::nullopt);
  loop->setAttr("girih.dispatch", b.getStringAttr("copy"));
  b.setInsertionPointToStart(loop.getBody());
  auto rowOf = [&](Value whole) -> Value {
    if (rank == 0)
      return whole;
    SmallVector<OpFoldResult> offsets(rank, b.getIndexAttr(0)), strides(rank, one);
    SmallVector<OpFoldResult> sizes = memref::getMixedSizes(b, loc, whole);
    offsets[0] = loop.getInductionVar(0);
    sizes[0] = one;
    return memref::SubViewOp::create(b, loc, whole, offsets, sizes, strides);
  };
  memref::CopyOp::create(b, loc, rowOf(copy.getSource()), rowOf(copy.getTarget()));
}

struct BufferizeStepPass : girih::compiler::impl::BufferizeStepBase<BufferizeStepPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    RewritePatternSet patterns(&getContext());
    tensor::populateFoldTensorEmptyPatterns(patterns);
    patterns.add<SizeTemporaries>(&getContext());
    if (failed(applyPatternsGreedily(module, FrozenRewritePatternSet(std::move(patterns), kKeepPaddedRows))))
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
    SmallVector<memref::CopyOp> copies;
    module.walk([&](memref::CopyOp copy) {
      if (!copy->getParentOfType<scf::ForallOp>())
        copies.push_back(copy);
    });
    for (memref::CopyOp copy : copies) {
      if (copy.getSource() != copy.getTarget())  // else computed where it was wanted
        copyByRows(copy);
      copy.erase();
    }
  }
};

}  // namespace
