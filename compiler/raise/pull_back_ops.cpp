// SPDX-License-Identifier: Apache-2.0
// What one element of a tensor means: one step through each operation that is understood.
#include "compiler/raise/pull_back.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

namespace girih::compiler {

using namespace mlir;

namespace {

// From here on a value is as good as minus infinity for a running maximum.
constexpr double kLowest = -1e30;

ScalarOp kindOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, ScalarOp>(op)
      .Case<arith::AddFOp, arith::AddIOp>([](auto) { return ScalarOp::Add; })
      .Case<arith::SubFOp, arith::SubIOp>([](auto) { return ScalarOp::Sub; })
      .Case<arith::MulFOp, arith::MulIOp>([](auto) { return ScalarOp::Mul; })
      .Case<arith::DivFOp>([](auto) { return ScalarOp::Div; })
      .Case<arith::MaximumFOp, arith::MaxNumFOp, arith::MaxSIOp>([](auto) { return ScalarOp::Max; })
      .Case<arith::MinimumFOp, arith::MinNumFOp, arith::MinSIOp>([](auto) { return ScalarOp::Min; })
      .Case<arith::NegFOp>([](auto) { return ScalarOp::Neg; })
      .Case<math::ExpOp>([](auto) { return ScalarOp::Exp; })
      .Case<math::Exp2Op>([](auto) { return ScalarOp::Exp2; })
      .Case<math::TanhOp>([](auto) { return ScalarOp::Tanh; })
      .Case<math::SqrtOp>([](auto) { return ScalarOp::Sqrt; })
      .Case<math::RsqrtOp>([](auto) { return ScalarOp::Rsqrt; })
      .Case<math::PowFOp>([](auto) { return ScalarOp::Pow; })
      .Case<arith::AndIOp, arith::OrIOp, arith::XOrIOp>([](Operation *bitwise) {
        // Bits of wider integers are no truth values.
        if (!getElementTypeOrSelf(bitwise->getResult(0)).isInteger(1))
          return ScalarOp::Other;
        return isa<arith::AndIOp>(bitwise)  ? ScalarOp::And
               : isa<arith::OrIOp>(bitwise) ? ScalarOp::Or
                                            : ScalarOp::Xor;
      })
      .Default([](auto) { return ScalarOp::Other; });
}

std::optional<Comparison> comparisonOf(arith::CmpIPredicate predicate) {
  switch (predicate) {
  case arith::CmpIPredicate::eq:
    return Comparison::Equal;
  case arith::CmpIPredicate::ne:
    return Comparison::NotEqual;
  case arith::CmpIPredicate::slt:
    return Comparison::Less;
  case arith::CmpIPredicate::sle:
    return Comparison::LessOrEqual;
  case arith::CmpIPredicate::sgt:
    return Comparison::Greater;
  case arith::CmpIPredicate::sge:
    return Comparison::GreaterOrEqual;
  // Unsigned compares differ from signed ones for differences of indices, which may be negative.
  default:
    return std::nullopt;
  }
}

std::optional<Comparison> comparisonOf(arith::CmpFPredicate predicate) {
  switch (predicate) {
  case arith::CmpFPredicate::OEQ:
  case arith::CmpFPredicate::UEQ:
    return Comparison::Equal;
  case arith::CmpFPredicate::ONE:
  case arith::CmpFPredicate::UNE:
    return Comparison::NotEqual;
  case arith::CmpFPredicate::OLT:
  case arith::CmpFPredicate::ULT:
    return Comparison::Less;
  case arith::CmpFPredicate::OLE:
  case arith::CmpFPredicate::ULE:
    return Comparison::LessOrEqual;
  case arith::CmpFPredicate::OGT:
  case arith::CmpFPredicate::UGT:
    return Comparison::Greater;
  case arith::CmpFPredicate::OGE:
  case arith::CmpFPredicate::UGE:
    return Comparison::GreaterOrEqual;
  default:
    return std::nullopt;
  }
}

std::optional<double> numberOf(Attribute attribute) {
  if (auto value = dyn_cast<FloatAttr>(attribute))
    return value.getValueAsDouble();
  if (auto value = dyn_cast<IntegerAttr>(attribute))
    return value.getType().isInteger(1) ? double(value.getValue().getBoolValue()) : double(value.getInt());
  return std::nullopt;
}

} // namespace

const Expr *PullBack::scalarOp(Operation *op, ArrayRef<const Expr *> args) {
  // Changes of type keep the number: indices are far below 2^24, and widening a float is exact.
  if (isa<arith::IndexCastOp, arith::SIToFPOp, arith::ExtFOp, arith::ExtSIOp>(op))
    return args[0];
  // Of unsigned ones only truth values are known to be non-negative.
  if (isa<arith::UIToFPOp, arith::ExtUIOp>(op) && getElementTypeOrSelf(op->getOperand(0)).isInteger(1))
    return args[0];
  if (isa<arith::TruncIOp>(op) && args[0]->kind == Expr::Kind::Index &&
      !getElementTypeOrSelf(op->getResult(0)).isInteger(1))
    return args[0];
  if (isa<arith::SelectOp>(op)) {
    if (args[0]->isConstant())
      return args[0]->constant != 0 ? args[1] : args[2];
    Expr expr;
    expr.kind = Expr::Kind::Select;
    expr.args.assign(args.begin(), args.end());
    expr.source = op;
    return make(std::move(expr));
  }
  std::optional<Comparison> comparison;
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    comparison = comparisonOf(compare.getPredicate());
  else if (auto compareFloats = dyn_cast<arith::CmpFOp>(op))
    comparison = comparisonOf(compareFloats.getPredicate());
  if (comparison) {
    Expr expr;
    expr.kind = Expr::Kind::Compare;
    expr.comparison = *comparison;
    expr.args.assign(args.begin(), args.end());
    expr.source = op;
    return make(std::move(expr));
  }
  return apply(kindOf(op), args, op);
}

const Expr *PullBack::scalar(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto constantOp = dyn_cast_or_null<arith::ConstantOp>(op))
    if (std::optional<double> number = numberOf(constantOp.getValue()))
      return constant(*number);
  if (auto extract = dyn_cast_or_null<tensor::ExtractOp>(op)) {
    SmallVector<AffineExpr> indices;
    for (Value position : extract.getIndices())
      if (std::optional<int64_t> fixed = getConstantIntValue(position))
        indices.push_back(getAffineConstantExpr(*fixed, context));
    if (indices.size() == extract.getIndices().size())
      return access(extract.getTensor(), indices);
  }
  bool isScalarMath = op && op->getNumRegions() == 0 && op->getNumResults() == 1 &&
                      op->getNumOperands() > 0 &&
                      isa<arith::ArithDialect, math::MathDialect>(op->getDialect());
  if (isScalarMath) {
    SmallVector<const Expr *> args =
        llvm::map_to_vector(op->getOperands(), [&](Value v) { return scalar(v); });
    return scalarOp(op, args);
  }
  Expr expr;
  expr.kind = Expr::Kind::Scalar;
  expr.tensor = value;
  expr.source = op;
  return make(std::move(expr));
}

const Expr *PullBack::step(const Expr *access) {
  Operation *op = access->tensor.getDefiningOp();
  if (!op)
    return nullptr;
  const Expr *next = llvm::TypeSwitch<Operation *, const Expr *>(op)
                         .Case([&](tensor::CastOp cast) -> const Expr * {
                           return this->access(cast.getSource(), access->indices);
                         })
                         .Case([&](tensor::ExpandShapeOp) { return stepExpandShape(op, access); })
                         .Case([&](tensor::CollapseShapeOp) { return stepCollapseShape(op, access); })
                         .Case([&](tensor::ExtractSliceOp) { return stepExtractSlice(op, access); })
                         .Case([&](tensor::ConcatOp) { return stepConcat(op, access); })
                         .Case([&](arith::ConstantOp) { return stepConstant(op, access); })
                         .Case([&](linalg::SoftmaxOp) { return stepSoftmax(op, access); })
                         .Case([&](linalg::LinalgOp) { return stepLinalg(op, access); })
                         .Default([&](Operation *) { return stepElementwise(op, access); });
  if (next)
    steppedThrough.insert(op);
  return next;
}

// Row-major position of `indices` in a group of extents; null when a dynamic extent has to be multiplied by.
static AffineExpr linearize(ArrayRef<AffineExpr> indices, ArrayRef<int64_t> extents, MLIRContext *context) {
  AffineExpr sum = getAffineConstantExpr(0, context);
  int64_t stride = 1;
  for (size_t dim = indices.size(); dim-- > 0;) {
    bool isZero = indices[dim] == getAffineConstantExpr(0, context);
    if (ShapedType::isDynamic(stride) && !isZero)
      return {};
    if (!isZero)
      sum = sum + indices[dim] * stride;
    bool isDynamic = ShapedType::isDynamic(stride) || ShapedType::isDynamic(extents[dim]);
    stride = isDynamic ? ShapedType::kDynamic : stride * extents[dim];
  }
  return sum;
}

const Expr *PullBack::stepExpandShape(Operation *op, const Expr *access) {
  auto expand = cast<tensor::ExpandShapeOp>(op);
  SmallVector<AffineExpr> indices;
  for (const ReassociationIndices &group : expand.getReassociationIndices()) {
    ArrayRef<AffineExpr> part = ArrayRef(access->indices).slice(group.front(), group.size());
    AffineExpr position =
        linearize(part, expand.getResultType().getShape().slice(group.front(), group.size()), context);
    if (!position)
      return nullptr;
    indices.push_back(position);
  }
  return this->access(expand.getSrc(), indices);
}

const Expr *PullBack::stepCollapseShape(Operation *op, const Expr *access) {
  auto collapse = cast<tensor::CollapseShapeOp>(op);
  ArrayRef<int64_t> shape = collapse.getSrcType().getShape();
  SmallVector<AffineExpr> indices(shape.size(), getAffineConstantExpr(0, context));
  for (auto [number, group] : llvm::enumerate(collapse.getReassociationIndices())) {
    AffineExpr rest = access->indices[number];
    // Extents of 1 take nothing of the position, so the outermost of the others may be dynamic.
    SmallVector<int64_t> large;
    llvm::copy_if(group, std::back_inserter(large), [&](int64_t dim) { return shape[dim] != 1; });
    while (large.size() > 1) {
      int64_t dim = large.pop_back_val();
      if (ShapedType::isDynamic(shape[dim]))
        return nullptr;
      indices[dim] = rest % shape[dim];
      rest = rest.floorDiv(shape[dim]);
    }
    if (!large.empty())
      indices[large.front()] = rest;
  }
  return this->access(collapse.getSrc(), indices);
}

const Expr *PullBack::stepExtractSlice(Operation *op, const Expr *access) {
  auto slice = cast<tensor::ExtractSliceOp>(op);
  llvm::SmallBitVector dropped = slice.getDroppedDims();
  SmallVector<AffineExpr> indices;
  unsigned resultDim = 0;
  for (auto [dim, offset, stride] : llvm::enumerate(slice.getMixedOffsets(), slice.getMixedStrides())) {
    std::optional<int64_t> start = getConstantIntValue(offset), step = getConstantIntValue(stride);
    if (!start || !step)
      return nullptr;
    AffineExpr position =
        dropped.test(dim) ? getAffineConstantExpr(0, context) : access->indices[resultDim++];
    indices.push_back(position * *step + *start);
  }
  return this->access(slice.getSource(), indices);
}

// Copies of one tensor side by side (a repeat); a concatenation of different tensors is a leaf.
const Expr *PullBack::stepConcat(Operation *op, const Expr *access) {
  auto concat = cast<tensor::ConcatOp>(op);
  Value first = concat.getInputs().front();
  int64_t extent = cast<RankedTensorType>(first.getType()).getDimSize(concat.getDim());
  if (ShapedType::isDynamic(extent) || !llvm::all_equal(concat.getInputs()))
    return nullptr;
  SmallVector<AffineExpr> indices(access->indices.begin(), access->indices.end());
  indices[concat.getDim()] = indices[concat.getDim()] % extent;
  return this->access(first, indices);
}

const Expr *PullBack::stepConstant(Operation *op, const Expr *access) {
  auto dense = dyn_cast<DenseElementsAttr>(cast<arith::ConstantOp>(op).getValue());
  if (!dense)
    return nullptr;
  if (dense.isSplat()) {
    std::optional<double> number = numberOf(dense.getSplatValue<Attribute>());
    return number ? constant(*number) : nullptr;
  }
  SmallVector<uint64_t> position;
  for (AffineExpr affine : access->indices) {
    auto fixed = dyn_cast<AffineConstantExpr>(affine);
    if (!fixed)
      return nullptr;
    position.push_back(fixed.getValue());
  }
  if (!ElementsAttr::isValidIndex(dense.getType(), position))
    return nullptr;
  std::optional<double> number = numberOf(dense.getValues<Attribute>()[position]);
  return number ? constant(*number) : nullptr;
}

const Expr *PullBack::stepSoftmax(Operation *op, const Expr *access) {
  auto softmax = cast<linalg::SoftmaxOp>(op);
  unsigned dim = softmax.getDimension();
  auto sourceAt = [&](AffineExpr position) {
    SmallVector<AffineExpr> indices(access->indices.begin(), access->indices.end());
    indices[dim] = position;
    return this->access(softmax.getInput(), indices);
  };
  int64_t extent = cast<RankedTensorType>(softmax.getInput().getType()).getDimSize(dim);
  AffineExpr highestAt = newVariable(extent), sumAt = newVariable(extent);
  const Expr *highest =
      reduce(ScalarOp::Max, cast<AffineDimExpr>(highestAt).getPosition(), sourceAt(highestAt), op);
  auto powerAt = [&](AffineExpr position) {
    return apply(ScalarOp::Exp, {apply(ScalarOp::Sub, {sourceAt(position), highest}, op)}, op);
  };
  const Expr *sum = reduce(ScalarOp::Add, cast<AffineDimExpr>(sumAt).getPosition(), powerAt(sumAt), op);
  return apply(ScalarOp::Div, {powerAt(access->indices[dim]), sum}, op);
}

const Expr *PullBack::stepElementwise(Operation *op, const Expr *access) {
  if (!op->hasTrait<OpTrait::Elementwise>() || op->getNumResults() != 1)
    return nullptr;
  SmallVector<const Expr *> args;
  for (Value operand : op->getOperands())
    args.push_back(isa<RankedTensorType>(operand.getType()) ? this->access(operand, access->indices)
                                                            : scalar(operand));
  return scalarOp(op, args);
}

const Expr *PullBack::stepLinalg(Operation *op, const Expr *access) {
  auto linalgOp = cast<linalg::LinalgOp>(op);
  if (!linalgOp.hasPureTensorSemantics())
    return nullptr;
  unsigned resultNumber = cast<OpResult>(access->tensor).getResultNumber();
  OpOperand *init = linalgOp.getDpsInitOperand(resultNumber);
  AffineMap resultMap = linalgOp.getMatchingIndexingMap(init);
  if (!resultMap.isProjectedPermutation())
    return nullptr;

  // Loops that the result has are its indices; the others are bound by reductions.
  SmallVector<int64_t> ranges = linalgOp.getStaticLoopRanges();
  SmallVector<AffineExpr> loops(linalgOp.getNumLoops());
  for (auto [affine, position] : llvm::zip_equal(resultMap.getResults(), access->indices))
    loops[cast<AffineDimExpr>(affine).getPosition()] = position;
  SmallVector<unsigned> bound;
  for (auto [loop, position] : llvm::enumerate(loops))
    if (!position && ranges[loop] == 1) {
      position = getAffineConstantExpr(0, context);
    } else if (!position) {
      position = newVariable(ranges[loop]);
      bound.push_back(cast<AffineDimExpr>(position).getPosition());
    }
  bool isReduction = linalgOp.getNumReductionLoops() > 0;

  // A body that computes with what no expression can say (a gather, say) makes the operation a leaf: its
  // value depends on the loops in a way that is not seen.
  bool isUnderstood = true;
  Block *body = linalgOp.getBlock();
  llvm::DenseMap<Value, const Expr *> meaning;
  for (OpOperand &operand : op->getOpOperands()) {
    BlockArgument argument = linalgOp.getMatchingBlockArgument(&operand);
    if (!isa<RankedTensorType>(operand.get().getType())) {
      meaning[argument] = scalar(operand.get());
      continue;
    }
    AffineMap map = linalgOp.getMatchingIndexingMap(&operand);
    SmallVector<AffineExpr> indices =
        llvm::map_to_vector(map.getResults(), [&](AffineExpr affine) { return affine.replaceDims(loops); });
    meaning[argument] = this->access(operand.get(), indices);
  }
  std::function<const Expr *(Value)> meaningOf = [&](Value value) -> const Expr * {
    auto known = meaning.find(value);
    if (known != meaning.end())
      return known->second;
    Operation *inner = value.getDefiningOp();
    const Expr *expr = nullptr;
    if (!inner || inner->getBlock() != body) {
      expr = scalar(value);
    } else if (auto loopIndex = dyn_cast<linalg::IndexOp>(inner)) {
      expr = index(loops[loopIndex.getDim()]);
    } else if (auto extract = dyn_cast<tensor::ExtractOp>(inner)) {
      SmallVector<AffineExpr> indices;
      for (Value position : extract.getIndices()) {
        const Expr *at = meaningOf(position);
        if (at->kind == Expr::Kind::Index)
          indices.push_back(at->index);
        else if (at->isConstant())
          indices.push_back(getAffineConstantExpr(static_cast<int64_t>(at->constant), context));
      }
      // A gather, by numbers that a tensor holds, is no affine access.
      isUnderstood &= indices.size() == extract.getIndices().size();
      expr = isUnderstood ? this->access(extract.getTensor(), indices) : constant(0);
    } else if (isa<arith::ConstantOp>(inner)) {
      expr = scalar(value);
    } else if (inner->getNumOperands() == 0 || inner->getNumRegions() || inner->getNumResults() != 1) {
      isUnderstood = false;
      expr = constant(0);
    } else {
      SmallVector<const Expr *> args = llvm::map_to_vector(inner->getOperands(), meaningOf);
      expr = scalarOp(inner, args);
    }
    return meaning[value] = expr;
  };

  Value yielded = cast<linalg::YieldOp>(body->getTerminator()).getOperand(resultNumber);
  if (!isReduction) {
    const Expr *element = meaningOf(yielded);
    return isUnderstood ? element : nullptr;
  }

  // A reduction: one operation joins the accumulator with a number that does not read it.
  Operation *combiner = yielded.getDefiningOp();
  BlockArgument accumulator = linalgOp.getMatchingBlockArgument(init);
  if (!combiner || combiner->getBlock() != body || combiner->getNumOperands() != 2 ||
      !accumulator.hasOneUse())
    return nullptr;
  bool isFirst = combiner->getOperand(0) == accumulator;
  if (!isFirst && combiner->getOperand(1) != accumulator)
    return nullptr;
  ScalarOp kind = kindOf(combiner);
  if (kind != ScalarOp::Add && kind != ScalarOp::Max)
    return nullptr;
  const Expr *total = meaningOf(combiner->getOperand(isFirst ? 1 : 0));
  if (!isUnderstood)
    return nullptr;
  for (unsigned variable : llvm::reverse(bound))
    total = reduce(kind, variable, total, op);
  const Expr *start = resolve(meaning[accumulator]);
  bool isNeutral =
      start->isConstant() && (kind == ScalarOp::Add ? start->constant == 0 : start->constant <= kLowest);
  return isNeutral ? total : apply(kind, {start, total}, op);
}

} // namespace girih::compiler
