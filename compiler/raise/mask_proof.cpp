// SPDX-License-Identifier: Apache-2.0
// Proof that an attention mask is the causal one, with or without a window.
//
// A mask is a piecewise constant function of query t and key u. Its pieces are integer sets (Presburger), so
// "these are the same positions" is decided for all lengths at once. A mask read from a constant tensor is
// compared position by position over the constant's extent instead.
#include "compiler/raise/mask_proof.h"

#include "mlir/Analysis/Presburger/IntegerRelation.h"
#include "mlir/Analysis/Presburger/PresburgerRelation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

namespace girih::compiler {

using namespace mlir;
using presburger::IntegerPolyhedron;
using presburger::PresburgerSet;
using presburger::PresburgerSpace;

namespace {

// Positions to look for the window at; further than any window is wide.
constexpr int64_t kFarQuery = int64_t(1) << 30;
// A mask of more pieces than this was not written to be a causal one.
constexpr size_t kMaxPieces = 64;

struct Piece {
  PresburgerSet where;
  double value;
};

using Pieces = std::vector<Piece>;

class MaskReader {
public:
  MaskReader(PullBack &pullBack, unsigned query, unsigned key, std::string &reason)
      : pullBack(pullBack), query(query), key(key), reason(reason), space(PresburgerSpace::getSetSpace(2)) {}

  // The pieces of `expr`, disjoint and together everything; empty (with a reason) when it is not piecewise
  // constant.
  Pieces read(const Expr *expr) {
    expr = pullBack.resolve(expr);
    switch (expr->kind) {
    case Expr::Kind::Constant:
      return {Piece{PresburgerSet::getUniverse(space), expr->constant}};
    case Expr::Kind::Compare:
      return readCompare(expr);
    case Expr::Kind::Select:
      return readSelect(expr);
    case Expr::Kind::Apply:
      return readApply(expr);
    default:
      reason = "the mask reads values that are not known when compiling";
      return {};
    }
  }

  PresburgerSet halfPlane(int64_t queryFactor, int64_t keyFactor, int64_t constant) {
    IntegerPolyhedron plane(space);
    plane.addInequality(ArrayRef<int64_t>{queryFactor, keyFactor, constant});
    return PresburgerSet(plane);
  }

private:
  // `expr` as queryFactor * t + keyFactor * u + constant.
  std::optional<std::array<int64_t, 3>> linear(AffineExpr expr) {
    if (auto constant = dyn_cast<AffineConstantExpr>(expr))
      return std::array<int64_t, 3>{0, 0, constant.getValue()};
    if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
      if (dim.getPosition() == query)
        return std::array<int64_t, 3>{1, 0, 0};
      if (dim.getPosition() == key)
        return std::array<int64_t, 3>{0, 1, 0};
      return std::nullopt;
    }
    auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
    auto left = binary ? linear(binary.getLHS()) : std::nullopt;
    auto right = binary ? linear(binary.getRHS()) : std::nullopt;
    if (!left || !right)
      return std::nullopt;
    if (binary.getKind() == AffineExprKind::Add)
      return std::array<int64_t, 3>{(*left)[0] + (*right)[0], (*left)[1] + (*right)[1],
                                    (*left)[2] + (*right)[2]};
    if (binary.getKind() == AffineExprKind::Mul && isa<AffineConstantExpr>(binary.getRHS())) {
      int64_t factor = (*right)[2];
      return std::array<int64_t, 3>{(*left)[0] * factor, (*left)[1] * factor, (*left)[2] * factor};
    }
    return std::nullopt;
  }

  std::optional<std::array<int64_t, 3>> linear(const Expr *expr) {
    if (expr->kind == Expr::Kind::Index)
      return linear(expr->index);
    if (expr->isConstant() && std::floor(expr->constant) == expr->constant &&
        std::fabs(expr->constant) < 1e15)
      return std::array<int64_t, 3>{0, 0, static_cast<int64_t>(expr->constant)};
    return std::nullopt;
  }

  Pieces readCompare(const Expr *expr) {
    const Expr *leftExpr = pullBack.resolve(expr->args[0]), *rightExpr = pullBack.resolve(expr->args[1]);
    auto left = linear(leftExpr), right = linear(rightExpr);
    if (!left || !right)
      return combine({read(leftExpr), read(rightExpr)}, [&](ArrayRef<double> v) -> std::optional<double> {
        return compareNumbers(expr->comparison, v[0], v[1]);
      });
    int64_t t = (*left)[0] - (*right)[0], u = (*left)[1] - (*right)[1], c = (*left)[2] - (*right)[2];
    PresburgerSet isTrue = PresburgerSet::getEmpty(space);
    switch (expr->comparison) {
    case Comparison::GreaterOrEqual:
      isTrue = halfPlane(t, u, c);
      break;
    case Comparison::Greater:
      isTrue = halfPlane(t, u, c - 1);
      break;
    case Comparison::LessOrEqual:
      isTrue = halfPlane(-t, -u, -c);
      break;
    case Comparison::Less:
      isTrue = halfPlane(-t, -u, -c - 1);
      break;
    case Comparison::Equal:
      isTrue = halfPlane(t, u, c).intersect(halfPlane(-t, -u, -c));
      break;
    case Comparison::NotEqual:
      isTrue = halfPlane(t, u, c).intersect(halfPlane(-t, -u, -c)).complement();
      break;
    }
    return {Piece{isTrue, 1}, Piece{isTrue.complement(), 0}};
  }

  Pieces readSelect(const Expr *expr) {
    return combine({read(expr->args[0]), read(expr->args[1]), read(expr->args[2])},
                   [](ArrayRef<double> v) -> std::optional<double> { return v[0] != 0 ? v[1] : v[2]; });
  }

  Pieces readApply(const Expr *expr) {
    std::vector<Pieces> args;
    for (const Expr *arg : expr->args)
      args.push_back(read(arg));
    return combine(args,
                   [&](ArrayRef<double> v) -> std::optional<double> { return foldScalar(expr->op, v); });
  }

  // The pieces of a function of several piecewise constant arguments.
  Pieces combine(const std::vector<Pieces> &args,
                 llvm::function_ref<std::optional<double>(ArrayRef<double>)> function) {
    using Row = std::pair<PresburgerSet, SmallVector<double>>;
    std::vector<Row> product = {{PresburgerSet::getUniverse(space), {}}};
    for (const Pieces &pieces : args) {
      std::vector<Row> next;
      for (auto &[where, values] : product)
        for (const Piece &piece : pieces) {
          PresburgerSet both = where.intersect(piece.where);
          if (both.isIntegerEmpty())
            continue;
          next.push_back({both, values});
          next.back().second.push_back(piece.value);
        }
      product = std::move(next);
      if (product.empty() || product.size() > kMaxPieces)
        return {};
    }
    Pieces result;
    for (auto &[where, values] : product) {
      std::optional<double> value = function(values);
      if (!value) {
        reason = "the mask computes with an operation that is not known here";
        return {};
      }
      auto same = llvm::find_if(result, [&](Piece &piece) { return piece.value == *value; });
      if (same == result.end())
        result.push_back(Piece{where, *value});
      else
        same->where = same->where.unionSet(where);
    }
    return result;
  }

  PullBack &pullBack;
  unsigned query, key;
  std::string &reason;
  PresburgerSpace space;
};

// Whether the number that a term has somewhere leaves the score alone; null when it does neither that nor
// hide it.
std::optional<bool> isSeen(const MaskTerm &term, double value) {
  if (!term.isAdded)
    return (value != 0) == term.seenWhen;
  if (value == 0)
    return true;
  return value <= kHidden ? std::optional<bool>(false) : std::nullopt;
}

// ---- Masks that are constant tensors: compared position by position. ----

// The constant tensor that `expr` reads, if any.
DenseElementsAttr tableIn(PullBack &pullBack, const Expr *expr, const Expr *&at) {
  expr = pullBack.resolve(expr);
  DenseElementsAttr table;
  if (expr->isAccess() && matchPattern(expr->tensor, m_Constant(&table))) {
    at = expr;
    return table;
  }
  for (const Expr *arg : expr->args)
    if ((table = tableIn(pullBack, arg, at)))
      return table;
  return {};
}

class PointwiseMask {
public:
  PointwiseMask(PullBack &pullBack, unsigned query, unsigned key)
      : pullBack(pullBack), query(query), key(key) {}

  std::optional<double> evaluate(const Expr *expr, int64_t t, int64_t u) {
    switch (expr->kind) {
    case Expr::Kind::Constant:
      return expr->constant;
    case Expr::Kind::Index: {
      std::optional<int64_t> position = at(expr->index, t, u);
      return position ? std::optional<double>(*position) : std::nullopt;
    }
    case Expr::Kind::Access:
      return evaluateAccess(expr, t, u);
    case Expr::Kind::Apply:
    case Expr::Kind::Compare:
    case Expr::Kind::Select:
      break;
    default:
      return std::nullopt;
    }
    SmallVector<double> args;
    for (const Expr *arg : expr->args) {
      std::optional<double> value = evaluate(stepped(arg), t, u);
      if (!value)
        return std::nullopt;
      args.push_back(*value);
    }
    if (expr->kind == Expr::Kind::Select)
      return args[0] != 0 ? args[1] : args[2];
    return expr->kind == Expr::Kind::Compare ? double(compareNumbers(expr->comparison, args[0], args[1]))
                                             : foldScalar(expr->op, args);
  }

  // `expr` pulled back as far as it goes, once for all positions.
  const Expr *stepped(const Expr *expr) {
    const Expr *&known = resolved[expr];
    return known ? known : known = pullBack.resolve(expr);
  }

private:
  std::optional<double> evaluateAccess(const Expr *expr, int64_t t, int64_t u) {
    DenseElementsAttr table;
    if (!matchPattern(expr->tensor, m_Constant(&table)))
      return std::nullopt;
    int64_t flat = 0;
    for (auto [position, extent] : llvm::zip_equal(expr->indices, table.getType().getShape())) {
      std::optional<int64_t> fixed = at(position, t, u);
      if (!fixed || *fixed < 0 || *fixed >= extent)
        return std::nullopt;
      flat = flat * extent + *fixed;
    }
    if (isa<FloatType>(table.getElementType())) {
      APFloat value = table.getValues<APFloat>()[flat];
      bool losesInfo = false;
      value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
      return value.convertToDouble();
    }
    APInt value = table.getValues<APInt>()[flat];
    return value.getBitWidth() == 1 ? double(value.getBoolValue()) : double(value.getSExtValue());
  }

  std::optional<int64_t> at(AffineExpr expr, int64_t t, int64_t u) {
    MLIRContext *context = expr.getContext();
    AffineExpr fixed = expr.replace(getAffineDimExpr(query, context), getAffineConstantExpr(t, context))
                           .replace(getAffineDimExpr(key, context), getAffineConstantExpr(u, context));
    auto constant = dyn_cast<AffineConstantExpr>(fixed);
    return constant ? std::optional<int64_t>(constant.getValue()) : std::nullopt;
  }

  PullBack &pullBack;
  unsigned query, key;
  llvm::DenseMap<const Expr *, const Expr *> resolved;
};

// Requires: `term` reads the constant `table`, whose last two extents are queries and keys.
std::optional<CausalMask> compareTable(PullBack &pullBack, const MaskTerm &term, const Expr *at,
                                       unsigned query, unsigned key, std::string &reason) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(at->tensor.getType()).getShape();
  if (shape.size() < 2) {
    reason = "the mask is a constant of less than two dimensions";
    return std::nullopt;
  }
  int64_t numPositions = std::min(shape[shape.size() - 1], shape[shape.size() - 2]);
  PointwiseMask mask(pullBack, query, key);
  std::optional<int64_t> window;
  for (int64_t t = 0; t < numPositions; ++t) {
    int64_t numSeen = 0;
    for (int64_t u = 0; u < numPositions; ++u) {
      std::optional<double> value = mask.evaluate(mask.stepped(term.expr), t, u);
      std::optional<bool> seen = value ? isSeen(term, *value) : std::nullopt;
      int64_t distance = t - u;
      if (!seen || (*seen && (distance < 0 || (window && distance >= *window)))) {
        reason = llvm::formatv("the constant mask lets query {0} see key {1}, which is not causal", t, u);
        return std::nullopt;
      }
      if (!*seen && distance == 0) {
        reason = llvm::formatv("the constant mask hides key {0} from query {0}, which is not causal", t);
        return std::nullopt;
      }
      if (!*seen && distance > 0) {
        // The first key that a causal mask hides gives the window; from then on it is the rule.
        if (!window)
          window = distance;
        if (distance < *window) {
          reason = llvm::formatv("the constant mask hides key {1} from query {0}, which is not causal", t, u);
          return std::nullopt;
        }
        window = std::min(*window, distance);
      }
      numSeen += *seen;
    }
    if (numSeen != std::min(t + 1, window.value_or(t + 1))) {
      reason =
          llvm::formatv("the constant mask lets query {0} see {1} keys, which is not causal", t, numSeen);
      return std::nullopt;
    }
  }
  return CausalMask{window};
}

} // namespace

std::optional<CausalMask> proveCausal(PullBack &pullBack, ArrayRef<MaskTerm> terms, unsigned query,
                                      unsigned key, std::string &reason) {
  if (terms.empty()) {
    reason = "no mask hides later keys, so it is not causal";
    return std::nullopt;
  }
  const Expr *at = nullptr;
  if (terms.size() == 1 && tableIn(pullBack, terms[0].expr, at))
    return compareTable(pullBack, terms[0], at, query, key, reason);

  MaskReader reader(pullBack, query, key, reason);
  PresburgerSet domain = reader.halfPlane(1, 0, 0).intersect(reader.halfPlane(0, 1, 0));
  PresburgerSet seen = domain;
  for (const MaskTerm &term : terms) {
    Pieces pieces = reader.read(term.expr);
    if (pieces.empty()) {
      if (reason.empty())
        reason = "the mask is not made of comparisons of positions";
      return std::nullopt;
    }
    for (const Piece &piece : pieces) {
      std::optional<bool> leavesScore = isSeen(term, piece.value);
      if (leavesScore && *leavesScore)
        continue;
      if (!leavesScore && !piece.where.intersect(domain).isIntegerEmpty()) {
        reason = llvm::formatv("the mask adds {0} to some scores; only 0 and at most {1:e0} are a mask",
                               piece.value, kHidden);
        return std::nullopt;
      }
      seen = seen.subtract(piece.where);
    }
  }
  // How far back does a late query see? The answer is only a guess until the sets are proved equal.
  auto sees = [&](int64_t distance) {
    return seen.containsPoint(ArrayRef<int64_t>{kFarQuery, kFarQuery - distance});
  };
  std::optional<int64_t> window;
  if (!sees(kFarQuery)) {
    int64_t low = 0, high = kFarQuery;
    while (high - low > 1) {
      int64_t middle = low + (high - low) / 2;
      (sees(middle) ? low : high) = middle;
    }
    window = high;
  }
  PresburgerSet causal = domain.intersect(reader.halfPlane(1, -1, 0));
  if (window)
    causal = causal.intersect(reader.halfPlane(-1, 1, *window - 1));
  if (seen.isEqual(causal))
    return CausalMask{window};
  reason = "the mask is not `key <= query`, with or without a window";
  return std::nullopt;
}

} // namespace girih::compiler
