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
                                      // Ids and positions are not negative, and this way it shows.
                                      Value wide = arith::ExtUIOp::create(body, bodyLoc, element, v[0]);
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

// What a cast to a type that says less was made of, else `value`.
Value withoutCast(Value value) {
  auto cast = value.getDefiningOp<tensor::CastOp>();
  bool isRanked = cast && isa<RankedTensorType>(cast.getSource().getType());
  return isRanked && tensor::canFoldIntoConsumerOp(cast) ? cast.getSource() : value;
}

// A concatenation of tensors that all have an extent of 1 somewhere else: without it.
struct DropUnitExtentsOfConcat : OpRewritePattern<tensor::ConcatOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::ConcatOp op, PatternRewriter &rewriter) const override {
    SmallVector<Value> inputs = llvm::map_to_vector(op.getInputs(), [](Value v) { return withoutCast(v); });
    auto typeOf = [](Value v) { return cast<RankedTensorType>(v.getType()); };
    SmallVector<ReassociationIndices> groups(1);
    int64_t rank = op.getRank(), numKept = 0, joinedDim = 0;
    llvm::SmallBitVector isUnit(rank);
    for (int64_t dim = 0; dim < rank; ++dim) {
      isUnit[dim] = dim != int64_t(op.getDim()) &&
                    llvm::any_of(inputs, [&](Value v) { return typeOf(v).getDimSize(dim) == 1; });
      if (!isUnit[dim] && numKept++ > 0)
        groups.emplace_back();
      groups.back().push_back(dim);
      if (dim == int64_t(op.getDim()))
        joinedDim = numKept - 1;
    }
    if (numKept == rank)
      return rewriter.notifyMatchFailure(op, "no other extent is 1");
    Location loc = op.getLoc();
    for (Value &input : inputs) {
      SmallVector<int64_t> shape(typeOf(input).getShape());
      for (int64_t dim = 0; dim < rank; ++dim)
        shape[dim] = isUnit[dim] ? 1 : shape[dim];
      auto type = RankedTensorType::get(shape, typeOf(input).getElementType());
      if (type != input.getType())
        input = tensor::CastOp::create(rewriter, loc, type, input);
      input = tensor::CollapseShapeOp::create(rewriter, loc, input, groups);
    }
    Value joined = tensor::ConcatOp::create(rewriter, loc, joinedDim, inputs);
    SmallVector<int64_t> shape(rank, 1);
    SmallVector<OpFoldResult> sizes(rank, rewriter.getIndexAttr(1));
    int64_t next = 0;
    for (int64_t dim = 0; dim < rank; ++dim)
      if (!isUnit[dim]) {
        shape[dim] = typeOf(joined).getDimSize(next);
        sizes[dim] = tensor::getMixedSize(rewriter, loc, joined, next++);
      }
    auto type = RankedTensorType::get(shape, typeOf(joined).getElementType());
    Value wide = tensor::ExpandShapeOp::create(rewriter, loc, type, joined, groups, sizes);
    rewriter.replaceOpWithNewOp<tensor::CastOp>(op, op.getType(), wide);
    return success();
  }
};

// How dimensions of one shape answer to those of another: groups of equal size, in order.
struct ReshapeGroups {
  SmallVector<ReassociationIndices> from, to;
  SmallVector<int64_t> extents; // of each group; dynamic where it holds the one dynamic extent of either side
};

// Null when a dynamic extent would have to be merged or split.
std::optional<ReshapeGroups> groupReshape(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  ReshapeGroups groups;
  size_t i = 0, j = 0;
  // Appends the next dimension to a group of size `size`.
  auto take = [](ArrayRef<int64_t> shape, size_t &next, ReassociationIndices &group, int64_t &size) {
    if (next == shape.size())
      return false;
    int64_t extent = shape[next];
    bool isDynamic = ShapedType::isDynamic(size) || ShapedType::isDynamic(extent);
    if (isDynamic && size != 1 && extent != 1)
      return false;
    size = size == 1 ? extent : extent == 1 ? size : size * extent;
    group.push_back(next++);
    return true;
  };
  while (i < from.size() && j < to.size()) {
    ReassociationIndices left, right;
    int64_t a = 1, b = 1;
    if (!take(from, i, left, a) || !take(to, j, right, b))
      return std::nullopt;
    while (a != b) {
      bool growsLeft = !ShapedType::isDynamic(a) && (ShapedType::isDynamic(b) || a < b);
      if (growsLeft ? !take(from, i, left, a) : !take(to, j, right, b))
        return std::nullopt;
    }
    groups.from.push_back(left);
    groups.to.push_back(right);
    groups.extents.push_back(a);
  }
  // What is left can only be extents of 1.
  for (auto [shape, next, side] : {std::tuple(from, i, &groups.from), std::tuple(to, j, &groups.to)})
    for (; next < shape.size(); ++next) {
      if (shape[next] != 1 || side->empty())
        return std::nullopt;
      side->back().push_back(next);
    }
  return groups;
}

// A reshape by a computed shape whose numbers are known but for one: dimensions are merged, then split.
struct ResolveReshape : OpRewritePattern<tensor::ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(tensor::ReshapeOp op, PatternRewriter &rewriter) const override {
    auto shape = op.getShape().getDefiningOp<tensor::FromElementsOp>();
    Value value = withoutCast(op.getSource());
    auto source = dyn_cast<RankedTensorType>(value.getType());
    auto result = dyn_cast<RankedTensorType>(op.getType());
    if (!shape || !source || !result)
      return rewriter.notifyMatchFailure(op, "the shape is not made of numbers");
    SmallVector<int64_t> extents;
    for (auto [element, extent] : llvm::zip_equal(shape.getElements(), result.getShape()))
      extents.push_back(ShapedType::isDynamic(extent) ? getConstantIntValue(element).value_or(extent) : extent);
    std::optional<ReshapeGroups> groups = groupReshape(source.getShape(), extents);
    if (!groups || llvm::count_if(groups->extents, ShapedType::isDynamic) > 1)
      return rewriter.notifyMatchFailure(op, "merges or splits an extent that is not known");
    Type element = source.getElementType();
    Location loc = op.getLoc();
    if (source.getRank() != int64_t(groups->extents.size()))
      value = tensor::CollapseShapeOp::create(rewriter, loc, RankedTensorType::get(groups->extents, element), value,
                                              groups->from);
    if (extents.size() != groups->extents.size()) {
      SmallVector<OpFoldResult> sizes;
      for (auto [number, group] : llvm::enumerate(groups->to))
        for (int64_t dim : group)
          sizes.push_back(ShapedType::isDynamic(extents[dim]) ? tensor::getMixedSize(rewriter, loc, value, number)
                                                              : OpFoldResult(rewriter.getIndexAttr(extents[dim])));
      value = tensor::ExpandShapeOp::create(rewriter, loc, RankedTensorType::get(extents, element), value, groups->to,
                                            sizes);
    }
    rewriter.replaceOpWithNewOp<tensor::CastOp>(op, result, value);
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
  patterns.add<DropUnitExtentsOfConcat, FoldConstantExtents, ResolveReshape>(module.getContext());
  // Named operations have no unit-extent patterns of their own.
  linalg::populateLinalgNamedOpsGeneralizationPatterns(patterns);
  // The place of a maximum, which exporters compute beside it, is often read by none.
  linalg::populateEraseUnusedOperandsAndResultsPatterns(patterns);
  linalg::ControlDropUnitDims options;
  linalg::populateFoldUnitExtentDimsPatterns(patterns, options);
  linalg::populateFoldUnitExtentDimsCanonicalizationPatterns(patterns, options);
  // Not the reassociative folds of slices: they bring extents of 1 back, and the two would go round in circles.
  tensor::ExpandShapeOp::getCanonicalizationPatterns(patterns, module.getContext());
  tensor::CollapseShapeOp::getCanonicalizationPatterns(patterns, module.getContext());
  tensor::populateFoldTensorEmptyPatterns(patterns);
  // An extent of a reshaped tensor is one of what was reshaped.
  memref::populateResolveRankedShapedTypeResultDimsPatterns(patterns);
  return applyPatternsGreedily(module, std::move(patterns));
}

} // namespace girih::compiler
