// SPDX-License-Identifier: Apache-2.0
// A graph of a batch of sequences as the graph of one.
#include "compiler/import/drop_batch.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace girih::compiler {

using namespace mlir;

namespace {

// Whether a type's first dimension may be a batch of one.
bool isBatched(Type type, int64_t rank) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == rank && (tensor.isDynamicDim(0) || tensor.getDimSize(0) == 1);
}

// `ids` [S] of i32 as [1, S] of `type`'s elements, cast to `type`.
Value widen(OpBuilder &builder, Location loc, Value ids, RankedTensorType type) {
  Value length = tensor::DimOp::create(builder, loc, ids, 0);
  Type element = type.getElementType();
  auto rowType = RankedTensorType::get({ShapedType::kDynamic}, element);
  if (element != cast<RankedTensorType>(ids.getType()).getElementType()) {
    Value init = tensor::EmptyOp::create(builder, loc, rowType.getShape(), element, length);
    auto identity = builder.getMultiDimIdentityMap(1);
    ids = linalg::GenericOp::create(builder, loc, rowType, ids, init, ArrayRef<AffineMap>{identity, identity},
                                    utils::IteratorType::parallel,
                                    [&](OpBuilder &body, Location bodyLoc, ValueRange v) {
                                      Value wide = arith::ExtSIOp::create(body, bodyLoc, element, v[0]);
                                      linalg::YieldOp::create(body, bodyLoc, wide);
                                    })
              .getResult(0);
  }
  auto batchType = RankedTensorType::get({1, ShapedType::kDynamic}, element);
  SmallVector<ReassociationIndices> groups = {{0, 1}};
  SmallVector<OpFoldResult> sizes = {builder.getIndexAttr(1), length};
  Value batch = tensor::ExpandShapeOp::create(builder, loc, batchType, ids, groups, sizes);
  return batchType == type ? batch : Value(tensor::CastOp::create(builder, loc, type, batch));
}

// A reshape to extents that are constants has a static shape.
struct FoldConstantExtents : OpRewritePattern<tensor::ExpandShapeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::ExpandShapeOp op, PatternRewriter &rewriter) const override {
    SmallVector<OpFoldResult> sizes = op.getMixedOutputShape();
    SmallVector<int64_t> shape(op.getResultType().getShape());
    bool isChanged = false;
    for (auto [extent, size] : llvm::zip_equal(shape, sizes)) {
      std::optional<int64_t> fixed = getConstantIntValue(size);
      if (!ShapedType::isDynamic(extent) || !fixed)
        continue;
      extent = *fixed;
      size = rewriter.getIndexAttr(*fixed);
      isChanged = true;
    }
    // A group of constants only would contradict a dynamic source; that is the canonicalizer's to see.
    for (auto [dim, group] : llvm::enumerate(op.getReassociationIndices()))
      if (op.getSrcType().isDynamicDim(dim) &&
          llvm::none_of(group, [&](int64_t inner) { return ShapedType::isDynamic(shape[inner]); }))
        isChanged = false;
    if (!isChanged)
      return rewriter.notifyMatchFailure(op, "no extent is a constant that the type does not know");
    auto type = RankedTensorType::get(shape, op.getResultType().getElementType());
    Value expanded = tensor::ExpandShapeOp::create(rewriter, op.getLoc(), type, op.getSrc(),
                                                   op.getReassociationIndices(), sizes);
    rewriter.replaceOpWithNewOp<tensor::CastOp>(op, op.getType(), expanded);
    return success();
  }
};

} // namespace

bool dropBatch(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.getNumArguments() == 0 || !isBatched(main.getArgumentTypes()[0], 2))
    return false;
  OpBuilder builder = OpBuilder::atBlockBegin(&main.front());
  Location loc = main.getLoc();
  auto idsType = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  for (BlockArgument argument : main.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!isBatched(type, 2) || !type.getElementType().isInteger())
      continue;
    argument.setType(idsType);
    // Before `widen` reads the ids themselves.
    SmallVector<OpOperand *> uses =
        llvm::map_to_vector(argument.getUses(), [](OpOperand &use) { return &use; });
    Value wide = widen(builder, loc, argument, type);
    for (OpOperand *use : uses)
      use->set(wide);
  }
  Operation *ret = main.front().getTerminator();
  builder.setInsertionPoint(ret);
  for (OpOperand &result : ret->getOpOperands()) {
    auto type = dyn_cast<RankedTensorType>(result.get().getType());
    if (!isBatched(type, 3))
      continue;
    SmallVector<int64_t> shape(type.getShape());
    shape[0] = 1;
    Value one = tensor::CastOp::create(builder, loc, RankedTensorType::get(shape, type.getElementType()),
                                       result.get());
    SmallVector<ReassociationIndices> groups = {{0, 1}, {2}};
    result.set(tensor::CollapseShapeOp::create(builder, loc, one, groups));
  }
  main.setType(
      FunctionType::get(module.getContext(), main.front().getArgumentTypes(), ret->getOperandTypes()));
  return true;
}

LogicalResult foldUnitExtents(ModuleOp module) {
  RewritePatternSet patterns(module.getContext());
  patterns.add<FoldConstantExtents>(module.getContext());
  // Named operations have no unit-extent patterns of their own.
  linalg::populateLinalgNamedOpsGeneralizationPatterns(patterns);
  linalg::ControlDropUnitDims options;
  linalg::populateFoldUnitExtentDimsPatterns(patterns, options);
  linalg::populateFoldUnitExtentDimsCanonicalizationPatterns(patterns, options);
  tensor::populateReassociativeReshapeFoldingPatterns(patterns);
  tensor::populateFoldTensorEmptyPatterns(patterns);
  // An extent of a reshaped tensor is one of what was reshaped.
  memref::populateResolveRankedShapedTypeResultDimsPatterns(patterns);
  return applyPatternsGreedily(module, std::move(patterns));
}

} // namespace girih::compiler
