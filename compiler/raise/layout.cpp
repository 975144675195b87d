// SPDX-License-Identifier: Apache-2.0
// How a tensor's dimensions are made of variables, and the views that lead from one such layout to another.
#include "compiler/raise/layout.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace girih::compiler {

using namespace mlir;

namespace {

SmallVector<unsigned> flatten(const Layout &layout) {
  SmallVector<unsigned> all;
  for (auto &group : layout)
    all.append(group.begin(), group.end());
  return all;
}

// The variables of `position` = constant + sum of stride * variable, outermost first, when their strides are
// those of a dense box; `offset` is the constant.
std::optional<SmallVector<unsigned, 2>> denseVariables(const PullBack &pullBack, AffineExpr position,
                                                       int64_t &offset) {
  SmallVector<std::pair<int64_t, unsigned>> terms;
  offset = 0;
  std::function<bool(AffineExpr, int64_t)> collect = [&](AffineExpr expr, int64_t factor) {
    if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
      offset += constant.getValue() * factor;
      return true;
    }
    if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
      terms.push_back({factor, dim.getPosition()});
      return true;
    }
    auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
    if (binary && binary.getKind() == AffineExprKind::Add)
      return collect(binary.getLHS(), factor) && collect(binary.getRHS(), factor);
    if (binary && binary.getKind() == AffineExprKind::Mul)
      if (auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS()))
        return collect(binary.getLHS(), factor * constant.getValue());
    return false;
  };
  if (!collect(position, 1) || offset < 0)
    return std::nullopt;
  llvm::sort(terms);
  int64_t stride = 1;
  SmallVector<unsigned, 2> variables;
  for (auto [factor, variable] : terms) {
    if (factor != stride)
      return std::nullopt;
    variables.insert(variables.begin(), variable);
    int64_t extent = pullBack.extentOf(variable);
    // A dynamic extent can only be the outermost one.
    stride = ShapedType::isDynamic(extent) ? ShapedType::kDynamic : stride * extent;
  }
  return variables;
}

// Per dimension of `layout`, its extent: the product of its variables' extents.
SmallVector<int64_t> shapeOf(const PullBack &pullBack, const Layout &layout) {
  SmallVector<int64_t> shape;
  for (auto &group : layout) {
    int64_t extent = 1;
    for (unsigned variable : group)
      extent = ShapedType::isDynamic(extent) || ShapedType::isDynamic(pullBack.extentOf(variable))
                   ? ShapedType::kDynamic
                   : extent * pullBack.extentOf(variable);
    shape.push_back(extent);
  }
  return shape;
}

// `tensor`, of one dimension per variable in `variables`, collapsed or expanded to `layout` of the same
// order.
Value reshapeFromVariables(OpBuilder &builder, Location loc, const PullBack &pullBack, Value tensor,
                           const Layout &layout) {
  SmallVector<ReassociationIndices> groups;
  int64_t next = 0;
  bool hasUnit = false, hasCollapse = false;
  for (auto &group : layout) {
    hasUnit |= group.empty();
    hasCollapse |= group.size() > 1;
    if (group.empty())
      continue;
    ReassociationIndices dims;
    for (size_t i = 0; i < group.size(); ++i)
      dims.push_back(next++);
    groups.push_back(dims);
  }
  if (hasCollapse)
    tensor = tensor::CollapseShapeOp::create(builder, loc, tensor, groups);
  if (!hasUnit)
    return tensor;
  // Units stand beside the dimension before them; leading ones beside the first.
  SmallVector<int64_t> shape = shapeOf(pullBack, layout);
  SmallVector<ReassociationIndices> expanded;
  SmallVector<OpFoldResult> sizes;
  int64_t dim = -1;
  for (auto [position, group] : llvm::enumerate(layout)) {
    if (!group.empty())
      ++dim;
    if (expanded.empty() || (!group.empty() && dim > 0))
      expanded.emplace_back();
    expanded.back().push_back(position);
    if (ShapedType::isDynamic(shape[position]))
      sizes.push_back(tensor::getMixedSize(builder, loc, tensor, dim));
    else
      sizes.push_back(builder.getIndexAttr(shape[position]));
  }
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  return tensor::ExpandShapeOp::create(builder, loc, RankedTensorType::get(shape, element), tensor, expanded,
                                       sizes);
}

// `tensor` of layout `layout` with one dimension for each variable.
Value reshapeToVariables(OpBuilder &builder, Location loc, const PullBack &pullBack, Value tensor,
                         const Layout &layout) {
  // Drop the units first: each joins a neighbour.
  SmallVector<ReassociationIndices> kept;
  bool hasUnit = false;
  for (auto [position, group] : llvm::enumerate(layout)) {
    hasUnit |= group.empty();
    bool startsDim =
        kept.empty() ||
        (!group.empty() && llvm::any_of(kept.back(), [&](int64_t dim) { return !layout[dim].empty(); }));
    if (startsDim)
      kept.emplace_back();
    kept.back().push_back(position);
  }
  SmallVector<unsigned> variables = flatten(layout);
  if (variables.empty())
    kept.clear();
  if (hasUnit)
    tensor = tensor::CollapseShapeOp::create(builder, loc, tensor, kept);
  SmallVector<ReassociationIndices> groups;
  SmallVector<OpFoldResult> sizes;
  SmallVector<int64_t> shape;
  int64_t dim = -1;
  bool isExpanded = false;
  for (auto &group : layout) {
    if (group.empty())
      continue;
    ++dim;
    isExpanded |= group.size() > 1;
    groups.emplace_back();
    int64_t inner = 1;
    for (unsigned variable : ArrayRef(group).drop_front())
      inner *= pullBack.extentOf(variable);
    for (unsigned variable : group) {
      groups.back().push_back(shape.size());
      shape.push_back(pullBack.extentOf(variable));
      if (!ShapedType::isDynamic(shape.back())) {
        sizes.push_back(builder.getIndexAttr(shape.back()));
        continue;
      }
      Value all = tensor::DimOp::create(builder, loc, tensor, dim);
      Value divisor = arith::ConstantIndexOp::create(builder, loc, inner);
      sizes.push_back(inner == 1 ? all : Value(arith::DivUIOp::create(builder, loc, all, divisor)));
    }
  }
  if (!isExpanded)
    return tensor;
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  return tensor::ExpandShapeOp::create(builder, loc, RankedTensorType::get(shape, element), tensor, groups,
                                       sizes);
}

} // namespace

bool Source::isWhole() const {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(tensor.getType()).getShape();
  return ArrayRef<int64_t>(sizes) == shape &&
         llvm::all_of(offsets, [](int64_t offset) { return offset == 0; });
}

std::optional<Source> sourceOf(const PullBack &pullBack, const Expr *access) {
  Source source;
  source.tensor = access->tensor;
  ArrayRef<int64_t> shape = cast<RankedTensorType>(access->tensor.getType()).getShape();
  llvm::DenseSet<unsigned> seen;
  for (auto [position, extent] : llvm::zip_equal(access->indices, shape)) {
    int64_t offset = 0;
    auto variables = denseVariables(pullBack, position, offset);
    if (!variables)
      return std::nullopt;
    int64_t size = 1;
    for (unsigned variable : *variables) {
      if (!seen.insert(variable).second)
        return std::nullopt;
      int64_t each = pullBack.extentOf(variable);
      size = ShapedType::isDynamic(size) || ShapedType::isDynamic(each) ? ShapedType::kDynamic : size * each;
    }
    bool isDynamic = ShapedType::isDynamic(extent);
    if (isDynamic != ShapedType::isDynamic(size) || (isDynamic && offset != 0) ||
        (!isDynamic && offset + size > extent))
      return std::nullopt;
    source.offsets.push_back(offset);
    source.sizes.push_back(size);
    source.layout.push_back(*variables);
  }
  return source;
}

bool isReshape(const Layout &from, const Layout &to) { return flatten(from) == flatten(to); }

Value relayout(OpBuilder &builder, Location loc, const PullBack &pullBack, const Source &source,
               const Layout &to) {
  Value tensor = source.tensor;
  if (!source.isWhole()) {
    SmallVector<OpFoldResult> offsets, sizes, strides;
    for (auto [dim, offset, size] : llvm::enumerate(source.offsets, source.sizes)) {
      offsets.push_back(builder.getIndexAttr(offset));
      sizes.push_back(ShapedType::isDynamic(size) ? tensor::getMixedSize(builder, loc, tensor, dim)
                                                  : OpFoldResult(builder.getIndexAttr(size)));
      strides.push_back(builder.getIndexAttr(1));
    }
    tensor = tensor::ExtractSliceOp::create(builder, loc, tensor, offsets, sizes, strides);
  }
  if (source.layout == to)
    return tensor;
  tensor = reshapeToVariables(builder, loc, pullBack, tensor, source.layout);
  SmallVector<unsigned> from = flatten(source.layout), wanted = flatten(to);
  assert(from.size() == wanted.size() && "the same variables on both sides");
  if (from != wanted) {
    SmallVector<int64_t> permutation;
    SmallVector<OpFoldResult> sizes;
    for (unsigned variable : wanted) {
      permutation.push_back(llvm::find(from, variable) - from.begin());
      sizes.push_back(tensor::getMixedSize(builder, loc, tensor, permutation.back()));
    }
    Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
    Value init = tensor::EmptyOp::create(builder, loc, sizes, element);
    tensor = linalg::TransposeOp::create(builder, loc, tensor, init, permutation)->getResult(0);
  }
  return reshapeFromVariables(builder, loc, pullBack, tensor, to);
}

} // namespace girih::compiler
