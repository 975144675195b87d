// SPDX-License-Identifier: Apache-2.0
// Folds the layout games of importers away.
//
// Recognition reads meaning through any layout; what is folded here is what later stages would otherwise have
// to copy.
#include "compiler/import/drop_batch.h"
#include "compiler/import/passes.h"

#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/TensorInferTypeOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

namespace girih::compiler {

#define GEN_PASS_DEF_CANONICALIZEGRAPH
#include "compiler/import/passes.h.inc"

namespace {

using namespace mlir;

// The permutation that `op` applies to its one input, or null when it does anything else.
std::optional<AffineMap> inputMapOfTranspose(linalg::LinalgOp op) {
  if (op.getNumDpsInputs() != 1 || op.getNumDpsInits() != 1 || op.getNumReductionLoops() ||
      !op.hasPureTensorSemantics())
    return std::nullopt;
  auto yield = cast<linalg::YieldOp>(op.getBlock()->getTerminator());
  if (yield.getOperand(0) != op.getBlock()->getArgument(0))
    return std::nullopt;
  AffineMap in = op.getMatchingIndexingMap(op.getDpsInputOperand(0));
  AffineMap out = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  if (!in.isPermutation() || !out.isPermutation())
    return std::nullopt;
  // Element `i` of the result is element `in(out^-1(i))` of the input.
  return in.compose(inversePermutation(out));
}

// A contraction reads a transposed operand through its indexing map instead.
struct FoldTransposeIntoContraction : OpInterfaceRewritePattern<linalg::LinalgOp> {
  using OpInterfaceRewritePattern::OpInterfaceRewritePattern;

  LogicalResult matchAndRewrite(linalg::LinalgOp consumer, PatternRewriter &rewriter) const override {
    if (!consumer.hasPureTensorSemantics() || !consumer.getNumReductionLoops())
      return rewriter.notifyMatchFailure(consumer, "no contraction");
    for (OpOperand *operand : consumer.getDpsInputOperands()) {
      auto producer = operand->get().getDefiningOp<linalg::LinalgOp>();
      std::optional<AffineMap> permutation = producer ? inputMapOfTranspose(producer) : std::nullopt;
      if (!permutation || permutation->isIdentity())
        continue;
      if (!isa<linalg::GenericOp>(consumer)) {
        // A named operation may not carry the map; its general form does, and the next round folds into that.
        FailureOr<linalg::GenericOp> generic = linalg::generalizeNamedOp(rewriter, consumer);
        return success(succeeded(generic));
      }
      SmallVector<AffineMap> maps = consumer.getIndexingMapsArray();
      unsigned number = operand->getOperandNumber();
      maps[number] = permutation->compose(maps[number]);
      rewriter.modifyOpInPlace(consumer, [&] {
        operand->set(producer.getDpsInputOperand(0)->get());
        consumer->setAttr("indexing_maps", rewriter.getAffineMapArrayAttr(maps));
      });
      return success();
    }
    return rewriter.notifyMatchFailure(consumer, "no operand is a transpose");
  }
};

// A fill that was generalised is a fill again: later stages look for the zero that a sum starts from.
struct NameFill : OpRewritePattern<linalg::GenericOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(linalg::GenericOp op, PatternRewriter &rewriter) const override {
    std::optional<Value> number = linalg::isaFillOpInterface(op);
    if (!number || !op.hasPureTensorSemantics())
      return rewriter.notifyMatchFailure(op, "does not write one number everywhere");
    rewriter.replaceOpWithNewOp<linalg::FillOp>(op, *number, op.getDpsInits()[0]);
    return success();
  }
};

// A transpose that was generalised is named again: whoever looks for views of a tensor sees it.
struct NameTranspose : OpRewritePattern<linalg::GenericOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(linalg::GenericOp op, PatternRewriter &rewriter) const override {
    std::optional<SmallVector<int64_t>> permutation = linalg::isaTransposeOpInterface(op);
    if (!permutation || !op.hasPureTensorSemantics())
      return rewriter.notifyMatchFailure(op, "does more than reorder dimensions");
    rewriter.replaceOpWithNewOp<linalg::TransposeOp>(op, op.getDpsInputs()[0], op.getDpsInits()[0], *permutation);
    return success();
  }
};

// Whether `op` only computes with whole numbers, each from those at its place.
bool isIntegerArithmetic(Operation *op) {
  auto generic = dyn_cast_or_null<linalg::GenericOp>(op);
  if (!generic || generic.getNumReductionLoops() > 0)
    return false;
  return llvm::all_of(*generic.getBody(), [](Operation &inner) {
    auto isWhole = [](Type type) { return type.isIntOrIndex(); };
    return isa<arith::ArithDialect, linalg::LinalgDialect>(inner.getDialect()) &&
           llvm::all_of(inner.getOperandTypes(), isWhole) && llvm::all_of(inner.getResultTypes(), isWhole);
  });
}

struct CanonicalizeGraphPass : impl::CanonicalizeGraphBase<CanonicalizeGraphPass> {
  void getDependentDialects(DialectRegistry &registry) const override {
    CanonicalizeGraphBase::getDependentDialects(registry);
    // An extent of a reshaped tensor is told by what was reshaped.
    tensor::registerInferTypeOpInterfaceExternalModels(registry);
  }

  void runOnOperation() override {
    // What an importer relies on (extents above 0) holds of every step, and has no code.
    getOperation().walk([](cf::AssertOp promise) { promise.erase(); });
    if (dropBatch(getOperation())) {
      // Casts travel from the ends inwards first, so that the batch is seen to be 1 everywhere.
      if (failed(clean()) || failed(foldUnitExtents(getOperation())))
        return signalPassFailure();
    }
    RewritePatternSet patterns(&getContext());
    patterns.add<FoldTransposeIntoContraction, NameFill, NameTranspose>(&getContext());
    // Arithmetic on whole tensors has no destination; its general form does.
    linalg::populateElementwiseToLinalgConversionPatterns(patterns);
    // Token ids and positions come in many widths: whoever reads them casts them himself.
    linalg::populateElementwiseOpsFusionPatterns(
        patterns, [](OpOperand *operand) { return isIntegerArithmetic(operand->get().getDefiningOp()); });
    linalg::GenericOp::getCanonicalizationPatterns(patterns, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    if (failed(clean()))
      return signalPassFailure();
  }

  LogicalResult clean() {
    OpPassManager passes("builtin.module");
    passes.addPass(createCanonicalizerPass());
    passes.addPass(createCSEPass());
    // What counts a negative id from the end has nothing to do.
    passes.addPass(arith::createArithIntRangeOpts());
    passes.addPass(createCanonicalizerPass());
    return runPipeline(passes, getOperation());
  }
};

} // namespace
} // namespace girih::compiler
