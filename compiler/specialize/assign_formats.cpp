// SPDX-License-Identifier: Apache-2.0
// Computes with weights as they are stored.
#include "compiler/specialize/passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/IR/LinalgInterfaces.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace girih::compiler {

#define GEN_PASS_DEF_ASSIGNFORMATS
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

bool isStored(Value value) { return !dialect::storageFormat(value.getType()).empty(); }

// What a zero fill fills, or null.
Value filledWithZero(Value init) {
  auto fill = init.getDefiningOp<linalg::FillOp>();
  return fill && matchPattern(fill.getInputs()[0], m_AnyZeroFloat()) ? fill.getOutputs()[0] : Value();
}

// sum over k of x[t, k] * w[n, k], in any of linalg's spellings.
struct ContractionToQMatmul : OpInterfaceRewritePattern<linalg::LinalgOp> {
  using OpInterfaceRewritePattern::OpInterfaceRewritePattern;

  LogicalResult matchAndRewrite(linalg::LinalgOp op, PatternRewriter &rewriter) const override {
    if (!linalg::isaContractionOpInterface(op) || !op.hasPureTensorSemantics() || op.getNumLoops() != 3)
      return rewriter.notifyMatchFailure(op, "no contraction of two matrices");
    unsigned weightNumber = isStored(op->getOperand(1)) ? 1 : 0;
    Value weight = op->getOperand(weightNumber), x = op->getOperand(1 - weightNumber);
    if (!isStored(weight) || isStored(x))
      return rewriter.notifyMatchFailure(op, "not one stored operand");
    AffineMap weightMap = op.getMatchingIndexingMap(&op->getOpOperand(weightNumber));
    AffineMap xMap = op.getMatchingIndexingMap(&op->getOpOperand(1 - weightNumber));
    AffineMap outMap = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
    if (weightMap.getNumResults() != 2 || xMap.getNumResults() != 2 || outMap.getNumResults() != 2)
      return rewriter.notifyMatchFailure(op, "an operand is no matrix");
    bool isProjection = outMap.getResult(0) == xMap.getResult(0) &&
                        outMap.getResult(1) == weightMap.getResult(0) &&
                        xMap.getResult(1) == weightMap.getResult(1);
    if (!isProjection)
      return rewriter.notifyMatchFailure(op, "not x[t, k] * w[n, k]");
    Value init = op.getDpsInits()[0];
    Value target = filledWithZero(init);
    Location loc = op.getLoc();
    if (target) {
      rewriter.replaceOp(op, multiply(rewriter, loc, x, weight, target));
      return success();
    }
    // The sum starts from something: add that to the product.
    Value product = multiply(rewriter, loc, x, weight, init);
    auto map = rewriter.getMultiDimIdentityMap(2);
    SmallVector<utils::IteratorType> loops(2, utils::IteratorType::parallel);
    auto sum = linalg::GenericOp::create(rewriter, loc, product.getType(), ValueRange{product, init},
                                         ValueRange{init}, ArrayRef<AffineMap>{map, map, map}, loops,
                                         [](OpBuilder &builder, Location bodyLoc, ValueRange v) {
                                           Value added = arith::AddFOp::create(builder, bodyLoc, v[0], v[1]);
                                           linalg::YieldOp::create(builder, bodyLoc, added);
                                         });
    rewriter.replaceOp(op, sum);
    return success();
  }

  Value multiply(PatternRewriter &rewriter, Location loc, Value x, Value weight, Value init) const {
    return dialect::QMatmulOp::create(rewriter, loc, init.getType(), x, weight, /*column_offset=*/Value(),
                                      init,
                                      /*strategy=*/StringAttr(), /*row_tile=*/IntegerAttr(),
                                      /*column_tile=*/IntegerAttr(), /*k_tile=*/IntegerAttr())
        .getResult();
  }
};

// out[t, e] = table[indices[t], e].
struct LookupToGatherRows : OpRewritePattern<linalg::GenericOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(linalg::GenericOp op, PatternRewriter &rewriter) const override {
    if (op.getNumLoops() != 2 || op.getNumReductionLoops() || op.getNumDpsInputs() != 1 ||
        op->getNumResults() != 1)
      return rewriter.notifyMatchFailure(op, "no lookup of rows");
    AffineMap indexMap = op.getIndexingMapsArray()[0], outMap = op.getIndexingMapsArray()[1];
    if (indexMap.getNumResults() != 1 || indexMap.getResult(0) != rewriter.getAffineDimExpr(0) ||
        !outMap.isIdentity())
      return rewriter.notifyMatchFailure(op, "indices are not one for each row");
    auto extract =
        cast<linalg::YieldOp>(op.getBody()->getTerminator()).getOperand(0).getDefiningOp<tensor::ExtractOp>();
    if (!extract || !isStored(extract.getTensor()) || extract.getIndices().size() != 2)
      return rewriter.notifyMatchFailure(op, "reads no stored matrix");
    Value row = extract.getIndices()[0];
    auto column = extract.getIndices()[1].getDefiningOp<linalg::IndexOp>();
    // Widening keeps an index: it is not negative, or the lookup has no meaning.
    while (Operation *cast = row.getDefiningOp())
      if (isa<arith::IndexCastOp, arith::IndexCastUIOp, arith::ExtSIOp, arith::ExtUIOp>(cast))
        row = cast->getOperand(0);
      else
        break;
    bool isIndexOfRow = row == op.getBody()->getArgument(0) && row.getType().isInteger(32);
    if (!isIndexOfRow || !column || column.getDim() != 1)
      return rewriter.notifyMatchFailure(op, "not a whole row by its index");
    auto width = cast<RankedTensorType>(extract.getTensor().getType()).getDimSize(1);
    if (cast<RankedTensorType>(op->getResult(0).getType()).getDimSize(1) != width)
      return rewriter.notifyMatchFailure(op, "reads a part of each row");
    Value init = op.getDpsInits()[0];
    rewriter.replaceOpWithNewOp<dialect::GatherRowsOp>(op, init.getType(), op.getDpsInputs()[0],
                                                       extract.getTensor(), init);
    return success();
  }
};

struct AssignFormatsPass : impl::AssignFormatsBase<AssignFormatsPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ContractionToQMatmul, LookupToGatherRows>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace girih::compiler
