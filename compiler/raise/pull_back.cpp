// SPDX-License-Identifier: Apache-2.0
// What one element of a tensor means: expressions, substitution and equality.
#include "compiler/raise/pull_back.h"

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Operation.h"

#include <cmath>

namespace girih::compiler {

using namespace mlir;

AffineExpr PullBack::newVariable(int64_t extent) {
  extents.push_back(extent);
  return getAffineDimExpr(extents.size() - 1, context);
}

const Expr *PullBack::make(Expr expr) {
  nodes.push_back(std::move(expr));
  return &nodes.back();
}

const Expr *PullBack::constant(double value) {
  Expr expr;
  expr.kind = Expr::Kind::Constant;
  expr.constant = value;
  return make(std::move(expr));
}

const Expr *PullBack::index(AffineExpr affine) {
  affine = simplify(affine);
  if (auto value = dyn_cast<AffineConstantExpr>(affine))
    return constant(value.getValue());
  Expr expr;
  expr.kind = Expr::Kind::Index;
  expr.index = affine;
  return make(std::move(expr));
}

const Expr *PullBack::access(Value tensor, ArrayRef<AffineExpr> indices) {
  Expr expr;
  expr.kind = Expr::Kind::Access;
  expr.tensor = tensor;
  expr.source = tensor.getDefiningOp();
  ArrayRef<int64_t> shape = cast<RankedTensorType>(tensor.getType()).getShape();
  for (auto [affine, extent] : llvm::zip_equal(indices, shape))
    // The only index of an extent of 1 is 0, however it was written.
    expr.indices.push_back(extent == 1 ? getAffineConstantExpr(0, context) : simplify(affine));
  return make(std::move(expr));
}

const Expr *PullBack::reduce(ScalarOp op, unsigned variable, const Expr *body, Operation *source) {
  Expr expr;
  expr.kind = Expr::Kind::Reduce;
  expr.op = op;
  expr.variable = variable;
  expr.args = {body};
  expr.source = source;
  return make(std::move(expr));
}

bool compareNumbers(Comparison comparison, double left, double right) {
  switch (comparison) {
  case Comparison::Equal:
    return left == right;
  case Comparison::NotEqual:
    return left != right;
  case Comparison::Less:
    return left < right;
  case Comparison::LessOrEqual:
    return left <= right;
  case Comparison::Greater:
    return left > right;
  case Comparison::GreaterOrEqual:
    return left >= right;
  }
  return false;
}

std::optional<double> foldScalar(ScalarOp op, ArrayRef<double> v) {
  switch (op) {
  case ScalarOp::Add:
    return v[0] + v[1];
  case ScalarOp::Sub:
    return v[0] - v[1];
  case ScalarOp::Mul:
    return v[0] * v[1];
  case ScalarOp::Div:
    return v[0] / v[1];
  case ScalarOp::Max:
    return std::fmax(v[0], v[1]);
  case ScalarOp::Min:
    return std::fmin(v[0], v[1]);
  case ScalarOp::Exp:
    return std::exp(v[0]);
  case ScalarOp::Exp2:
    return std::exp2(v[0]);
  case ScalarOp::Tanh:
    return std::tanh(v[0]);
  case ScalarOp::Sqrt:
    return std::sqrt(v[0]);
  case ScalarOp::Rsqrt:
    return 1 / std::sqrt(v[0]);
  case ScalarOp::Neg:
    return -v[0];
  case ScalarOp::Pow:
    return std::pow(v[0], v[1]);
  case ScalarOp::And:
    return v[0] != 0 && v[1] != 0;
  case ScalarOp::Or:
    return v[0] != 0 || v[1] != 0;
  case ScalarOp::Xor:
    return (v[0] != 0) != (v[1] != 0);
  case ScalarOp::Other:
    return std::nullopt;
  }
  return std::nullopt;
}

const Expr *PullBack::apply(ScalarOp op, ArrayRef<const Expr *> args, Operation *source) {
  if (llvm::all_of(args, [](const Expr *arg) { return arg->isConstant(); })) {
    SmallVector<double> values = llvm::map_to_vector(args, [](const Expr *arg) { return arg->constant; });
    if (std::optional<double> folded = foldScalar(op, values))
      return constant(*folded);
  }
  // Sums and integer multiples of indices are indices: compares of them can be decided.
  auto affine = [&](const Expr *arg) -> AffineExpr {
    if (arg->kind == Expr::Kind::Index)
      return arg->index;
    bool isWhole = arg->isConstant() && std::fabs(arg->constant) < (int64_t(1) << 40) &&
                   std::floor(arg->constant) == arg->constant;
    return isWhole ? getAffineConstantExpr(static_cast<int64_t>(arg->constant), context) : AffineExpr();
  };
  if (args.size() == 2 && (op == ScalarOp::Add || op == ScalarOp::Sub || op == ScalarOp::Mul)) {
    AffineExpr left = affine(args[0]), right = affine(args[1]);
    if (left && right && op == ScalarOp::Add)
      return index(left + right);
    if (left && right && op == ScalarOp::Sub)
      return index(left - right);
    if (left && right && (args[0]->isConstant() || args[1]->isConstant()))
      return index(left * right);
  }
  Expr expr;
  expr.kind = Expr::Kind::Apply;
  expr.op = op;
  expr.args.assign(args.begin(), args.end());
  expr.source = source;
  return make(std::move(expr));
}

const Expr *PullBack::resolve(const Expr *expr) {
  while (expr->isAccess()) {
    const Expr *next = step(expr);
    if (!next)
      return expr;
    expr = next;
  }
  return expr;
}

const Expr *PullBack::substitute(const Expr *expr, unsigned variable, AffineExpr by) {
  if (!dependsOn(expr, variable))
    return expr;
  AffineExpr from = getAffineDimExpr(variable, context);
  Expr copy = *expr;
  if (copy.index)
    return index(copy.index.replace(from, by));
  for (AffineExpr &position : copy.indices)
    position = simplify(position.replace(from, by));
  for (const Expr *&arg : copy.args)
    arg = substitute(arg, variable, by);
  return make(std::move(copy));
}

bool PullBack::dependsOn(const Expr *expr, unsigned variable) {
  if (expr->index && expr->index.isFunctionOfDim(variable))
    return true;
  if (llvm::any_of(expr->indices, [&](AffineExpr position) { return position.isFunctionOfDim(variable); }))
    return true;
  return llvm::any_of(expr->args, [&](const Expr *arg) { return dependsOn(arg, variable); });
}

bool PullBack::isEqual(const Expr *left, const Expr *right) {
  if (left == right)
    return true;
  if (left->isAccess() && right->isAccess() && left->tensor == right->tensor &&
      left->indices == right->indices)
    return true;
  // Two spellings of one value meet at a common producer: pull the later one back first.
  if (left->isAccess() || right->isAccess()) {
    const Expr *nextLeft = left->isAccess() ? step(left) : nullptr;
    const Expr *nextRight = right->isAccess() ? step(right) : nullptr;
    bool leftIsLater = nextLeft && (!nextRight || !right->source || !left->source ||
                                    left->source->getBlock() != right->source->getBlock() ||
                                    right->source->isBeforeInBlock(left->source));
    if (leftIsLater)
      return isEqual(nextLeft, right);
    return nextRight && isEqual(left, nextRight);
  }
  if (left->kind != right->kind || left->op != right->op || left->args.size() != right->args.size())
    return false;
  switch (left->kind) {
  case Expr::Kind::Constant:
    return left->constant == right->constant;
  case Expr::Kind::Index:
    return left->index == right->index;
  case Expr::Kind::Scalar:
    return left->tensor == right->tensor;
  case Expr::Kind::Access:
    return false;
  case Expr::Kind::Compare:
    if (left->comparison != right->comparison)
      return false;
    break;
  case Expr::Kind::Reduce:
    if (extents[left->variable] != extents[right->variable])
      return false;
    return isEqual(left->args[0],
                   substitute(right->args[0], right->variable, getAffineDimExpr(left->variable, context)));
  case Expr::Kind::Apply:
    // Operations that are not told apart may be equal only as the same operation, which `source` decides.
    if (left->op == ScalarOp::Other &&
        (!left->source || !right->source || left->source->getName() != right->source->getName()))
      return false;
    break;
  case Expr::Kind::Select:
    break;
  }
  return llvm::all_of(llvm::zip_equal(left->args, right->args),
                      [&](auto pair) { return isEqual(std::get<0>(pair), std::get<1>(pair)); });
}

std::optional<std::pair<int64_t, int64_t>> PullBack::boundsOf(AffineExpr expr) const {
  using Bounds = std::pair<int64_t, int64_t>;
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return Bounds{constant.getValue(), constant.getValue()};
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    int64_t extent = extents[dim.getPosition()];
    return ShapedType::isDynamic(extent) ? std::nullopt : std::optional<Bounds>({0, extent - 1});
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  auto right = binary ? dyn_cast<AffineConstantExpr>(binary.getRHS()) : AffineConstantExpr();
  if (binary && binary.getKind() == AffineExprKind::Mod && right && right.getValue() > 0)
    return Bounds{0, right.getValue() - 1};
  std::optional<Bounds> left = binary ? boundsOf(binary.getLHS()) : std::nullopt;
  if (!left)
    return std::nullopt;
  if (binary.getKind() == AffineExprKind::Add) {
    std::optional<Bounds> other = boundsOf(binary.getRHS());
    return other ? std::optional<Bounds>({left->first + other->first, left->second + other->second})
                 : std::nullopt;
  }
  if (!right)
    return std::nullopt;
  int64_t factor = right.getValue();
  if (binary.getKind() == AffineExprKind::Mul)
    return factor >= 0 ? Bounds{left->first * factor, left->second * factor}
                       : Bounds{left->second * factor, left->first * factor};
  if (binary.getKind() == AffineExprKind::FloorDiv && factor > 0 && left->first >= 0)
    return Bounds{left->first / factor, left->second / factor};
  return std::nullopt;
}

namespace {

// A sum as (coefficient, atom) terms plus a constant; atoms are dimensions, quotients and remainders.
struct LinearSum {
  SmallVector<std::pair<int64_t, AffineExpr>> terms;
  int64_t constant = 0;

  void add(AffineExpr expr, int64_t factor) {
    if (auto value = dyn_cast<AffineConstantExpr>(expr)) {
      constant += value.getValue() * factor;
      return;
    }
    auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
    if (binary && binary.getKind() == AffineExprKind::Add) {
      add(binary.getLHS(), factor);
      return add(binary.getRHS(), factor);
    }
    if (binary && binary.getKind() == AffineExprKind::Mul)
      if (auto value = dyn_cast<AffineConstantExpr>(binary.getRHS()))
        return add(binary.getLHS(), factor * value.getValue());
    addTerm(expr, factor);
  }

  void addTerm(AffineExpr atom, int64_t factor) {
    auto *known = llvm::find_if(terms, [&](auto &term) { return term.second == atom; });
    if (known == terms.end())
      terms.push_back({factor, atom});
    else if ((known->first += factor) == 0)
      terms.erase(known);
  }

  // (x floordiv c) * c * k + (x mod c) * k is x * k.
  bool joinQuotientAndRemainder() {
    for (auto &remainder : terms) {
      auto mod = dyn_cast<AffineBinaryOpExpr>(remainder.second);
      if (!mod || mod.getKind() != AffineExprKind::Mod)
        continue;
      auto divisor = dyn_cast<AffineConstantExpr>(mod.getRHS());
      for (auto &quotient : terms) {
        auto div = dyn_cast<AffineBinaryOpExpr>(quotient.second);
        if (!divisor || !div || div.getKind() != AffineExprKind::FloorDiv || div.getRHS() != mod.getRHS() ||
            div.getLHS() != mod.getLHS() || quotient.first != remainder.first * divisor.getValue())
          continue;
        AffineExpr whole = mod.getLHS();
        int64_t factor = remainder.first;
        AffineExpr first = remainder.second, second = quotient.second;
        llvm::erase_if(terms, [&](auto &term) { return term.second == first || term.second == second; });
        add(whole, factor);
        return true;
      }
    }
    return false;
  }

  AffineExpr toExpr(MLIRContext *context) {
    // One order for equal sums, so that equality of expressions is equality of pointers.
    llvm::sort(terms, [](auto &a, auto &b) {
      auto key = [](AffineExpr e) {
        return std::pair(isa<AffineDimExpr>(e) ? cast<AffineDimExpr>(e).getPosition() : ~0u,
                         e.getAsOpaquePointer());
      };
      return key(a.second) < key(b.second);
    });
    AffineExpr sum = getAffineConstantExpr(0, context);
    for (auto [factor, atom] : terms)
      sum = sum + atom * factor;
    return sum + constant;
  }
};

} // namespace

AffineExpr PullBack::simplify(AffineExpr expr) const {
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return expr;
  AffineExpr left = simplify(binary.getLHS());
  auto divisor = dyn_cast<AffineConstantExpr>(binary.getRHS());
  bool isDivision = binary.getKind() == AffineExprKind::FloorDiv || binary.getKind() == AffineExprKind::Mod;
  if (!isDivision || !divisor || divisor.getValue() <= 0) {
    LinearSum sum;
    sum.add(getAffineBinaryOpExpr(binary.getKind(), left, simplify(binary.getRHS())), 1);
    while (sum.joinQuotientAndRemainder()) {
    }
    return sum.toExpr(context);
  }
  int64_t c = divisor.getValue();
  LinearSum all, whole, rest;
  all.add(left, 1);
  for (auto [factor, atom] : all.terms)
    (factor % c == 0 ? whole : rest).addTerm(atom, factor % c == 0 ? factor / c : factor);
  rest.constant = ((all.constant % c) + c) % c;
  whole.constant = (all.constant - rest.constant) / c;
  AffineExpr remainder = rest.toExpr(context);
  std::optional<std::pair<int64_t, int64_t>> bounds = boundsOf(remainder);
  bool isSmall = bounds && bounds->first >= 0 && bounds->second < c;
  if (binary.getKind() == AffineExprKind::Mod)
    return isSmall ? remainder : remainder % c;
  AffineExpr quotient = whole.toExpr(context);
  if (isSmall)
    return quotient;
  auto inner = dyn_cast<AffineBinaryOpExpr>(remainder);
  if (inner && inner.getKind() == AffineExprKind::FloorDiv)
    if (auto first = dyn_cast<AffineConstantExpr>(inner.getRHS()))
      return quotient + simplify(inner.getLHS().floorDiv(first.getValue() * c));
  return quotient + remainder.floorDiv(c);
}

} // namespace girih::compiler
