// SPDX-License-Identifier: Apache-2.0
// Recognition of attention in the meaning of a contraction.
//
// One element of the result is taken apart from the outside in: sum over keys of weight * value, weight =
// softmax of the score, score = masked, capped, scaled sum over channels of query * key. No step looks at
// which operations the graph used, so their number, order and layout do not matter.
#include "compiler/raise/match_attention.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <cmath>
#include <numbers>

namespace girih::compiler {

using namespace mlir;

namespace {

// A chain of accesses that all mean the same element, each a view further back, and the factor before it.
struct Operand {
  SmallVector<const Expr *> spellings;
};

// A score taken apart.
struct Score {
  const Expr *dot = nullptr; // the sum over channels
  double scale = 1;
  std::optional<double> softCap;
  SmallVector<MaskTerm> masks;
};

unsigned variableOf(AffineExpr expr) { return cast<AffineDimExpr>(expr).getPosition(); }

class Matcher {
public:
  Matcher(PullBack &pullBack, std::string &reason) : pullBack(pullBack), reason(reason) {}

  std::optional<AttentionMatch> match(linalg::LinalgOp mix);

private:
  const Expr *constantFactor(const Expr *expr, double &factor);
  bool flattenProduct(const Expr *expr, double &factor, SmallVectorImpl<const Expr *> &factors);
  const Expr *matchSoftmax(const Expr *weight, unsigned key);
  bool matchScore(const Expr *expr, Score &score);
  bool addMask(const Expr *left, const Expr *right, Score &score);
  Operand pullOperand(const Expr *expr, double &scale);
  bool matchDot(const Score &score, AttentionMatch &match, double &scale, Operand &query, Operand &key);
  void splitHeads(ArrayRef<const Expr *> spellings);
  std::optional<Source> chooseSource(const Operand &operand, const Layout &wanted);
  bool findHeads(AttentionMatch &match, const Operand &query, const Operand &key, const Operand &value);
  MLIRContext *mlirContext() const { return pullBack.getContext(); }
  std::nullopt_t fail(std::string why) {
    reason = std::move(why);
    return std::nullopt;
  }

  PullBack &pullBack;
  std::string &reason;
  SmallVector<unsigned> outputs; // variables of the result's dimensions, split where kv heads are shared
  Layout resultDims;             // the result's dimensions in those variables
  SmallVector<std::pair<unsigned, AffineExpr>> splits;
};

// `expr` without a constant factor or divisor, which is multiplied into `factor`; null when it has none.
const Expr *Matcher::constantFactor(const Expr *expr, double &factor) {
  if (expr->isApply(ScalarOp::Neg)) {
    factor = -factor;
    return expr->args[0];
  }
  if (!expr->isApply(ScalarOp::Mul) && !expr->isApply(ScalarOp::Div))
    return nullptr;
  const Expr *left = pullBack.resolve(expr->args[0]), *right = pullBack.resolve(expr->args[1]);
  if (right->isConstant() && right->constant != 0) {
    factor = expr->op == ScalarOp::Mul ? factor * right->constant : factor / right->constant;
    return expr->args[0];
  }
  if (left->isConstant() && expr->op == ScalarOp::Mul) {
    factor *= left->constant;
    return expr->args[1];
  }
  return nullptr;
}

bool Matcher::flattenProduct(const Expr *expr, double &factor, SmallVectorImpl<const Expr *> &factors) {
  if (const Expr *rest = constantFactor(expr, factor))
    return flattenProduct(rest, factor, factors);
  if (expr->isApply(ScalarOp::Mul))
    return flattenProduct(expr->args[0], factor, factors) && flattenProduct(expr->args[1], factor, factors);
  factors.push_back(expr);
  return factors.size() <= 2;
}

// The score whose softmax over `key` is `weight`, or null. Whatever is subtracted before exp, if only it is
// the same for all keys, falls out of the quotient.
const Expr *Matcher::matchSoftmax(const Expr *weight, unsigned key) {
  const Expr *quotient = pullBack.resolve(weight);
  const Expr *power = nullptr, *sum = nullptr;
  if (quotient->isApply(ScalarOp::Div)) {
    power = quotient->args[0];
    sum = quotient->args[1];
  } else if (quotient->isApply(ScalarOp::Mul)) {
    for (unsigned side : {0u, 1u}) {
      const Expr *inverse = pullBack.resolve(quotient->args[side]);
      if (!inverse->isApply(ScalarOp::Div) || !pullBack.resolve(inverse->args[0])->isConstant())
        continue;
      if (pullBack.resolve(inverse->args[0])->constant != 1)
        continue;
      power = quotient->args[1 - side];
      sum = inverse->args[1];
    }
  }
  if (!power)
    return nullptr;
  const Expr *exponential = pullBack.resolve(power);
  bool isBase2 = exponential->isApply(ScalarOp::Exp2);
  if (!isBase2 && !exponential->isApply(ScalarOp::Exp))
    return nullptr;
  sum = pullBack.resolve(sum);
  if (!sum->isReduce(ScalarOp::Add))
    return nullptr;

  // From here on it is a softmax: what does not fit is worth telling.
  AffineExpr running = getAffineDimExpr(sum->variable, mlirContext());
  bool isOverKeys = pullBack.extentOf(sum->variable) == pullBack.extentOf(key) &&
                    PullBack::dependsOn(power, key) && !PullBack::dependsOn(sum, key) &&
                    pullBack.isEqual(pullBack.substitute(power, key, running), sum->args[0]);
  if (!isOverKeys) {
    reason = "the softmax does not normalise over the keys that the values are summed over";
    return nullptr;
  }
  const Expr *score = exponential->args[0];
  double base = isBase2 ? std::numbers::ln2 : 1;
  const Expr *difference = pullBack.resolve(score);
  if (difference->isApply(ScalarOp::Sub) && !PullBack::dependsOn(difference->args[1], key))
    score = difference->args[0];
  return isBase2 ? pullBack.apply(ScalarOp::Mul, {score, pullBack.constant(base)}, exponential->source)
                 : score;
}

bool Matcher::addMask(const Expr *left, const Expr *right, Score &score) {
  for (auto [scored, mask] : {std::pair(left, right), std::pair(right, left)}) {
    Score attempt;
    std::string why;
    std::swap(why, reason);
    bool isScore = matchScore(scored, attempt);
    std::swap(why, reason);
    if (!isScore)
      continue;
    score = attempt;
    score.masks.push_back({mask, /*isAdded=*/true});
    return true;
  }
  return false;
}

// Takes the score apart from the outside in.
bool Matcher::matchScore(const Expr *expr, Score &score) {
  expr = pullBack.resolve(expr);
  if (expr->isReduce(ScalarOp::Add)) {
    score.dot = expr;
    return true;
  }
  double factor = 1;
  if (const Expr *inner = constantFactor(expr, factor)) {
    const Expr *curve = pullBack.resolve(inner);
    if (curve->isApply(ScalarOp::Tanh)) {
      // c * tanh(a * s) is the cap c on the score c * a * s.
      if (!matchScore(curve->args[0], score) || score.softCap || !score.masks.empty() || factor <= 0) {
        reason = "the score is not capped as c * tanh(x / c)";
        return false;
      }
      score.softCap = factor;
      score.scale *= factor;
      return true;
    }
    if (!matchScore(inner, score))
      return false;
    if (score.softCap || factor <= 0) {
      // A positive factor keeps a mask's infinities; a capped score cannot be scaled.
      reason = "the capped score is scaled again";
      return factor == 1;
    }
    score.scale *= factor;
    return true;
  }
  if (expr->isApply(ScalarOp::Add) || expr->isApply(ScalarOp::Sub)) {
    if (expr->isApply(ScalarOp::Add) && addMask(expr->args[0], expr->args[1], score))
      return true;
    if (expr->isApply(ScalarOp::Sub) && matchScore(expr->args[0], score)) {
      score.masks.push_back({pullBack.apply(ScalarOp::Neg, {expr->args[1]}, expr->source), /*isAdded=*/true});
      return true;
    }
  }
  if (expr->kind == Expr::Kind::Select) {
    for (bool seenWhen : {true, false}) {
      const Expr *hidden = pullBack.resolve(expr->args[seenWhen ? 2 : 1]);
      if (!hidden->isConstant() || hidden->constant > kHidden)
        continue;
      if (!matchScore(expr->args[seenWhen ? 1 : 2], score))
        return false;
      score.masks.push_back({expr->args[0], /*isAdded=*/false, seenWhen});
      return true;
    }
  }
  if (reason.empty())
    reason = "the score is more than a masked, capped and scaled product of queries and keys";
  return false;
}

// Peels constant factors and views off an operand.
Operand Matcher::pullOperand(const Expr *expr, double &scale) {
  Operand operand;
  double pending = 1;
  SmallVector<const Expr *> spellings;
  while (true) {
    if (expr->isAccess()) {
      spellings.push_back(expr);
      operand.spellings = spellings;
      scale *= pending;
      pending = 1;
      const Expr *next = pullBack.step(expr);
      if (!next)
        return operand;
      expr = next;
      continue;
    }
    const Expr *inner = constantFactor(expr, pending);
    if (!inner)
      return operand;
    spellings.clear();
    expr = inner;
  }
}

bool Matcher::matchDot(const Score &score, AttentionMatch &match, double &scale, Operand &query,
                       Operand &key) {
  SmallVector<const Expr *> factors;
  double factor = 1;
  if (!flattenProduct(score.dot->args[0], factor, factors) || factors.size() != 2) {
    reason = "the score is not a product of one query and one key channel";
    return false;
  }
  match.channel = score.dot->variable;
  scale *= factor;
  if (PullBack::dependsOn(factors[0], match.keyToken))
    std::swap(factors[0], factors[1]);
  if (PullBack::dependsOn(factors[0], match.keyToken) || !PullBack::dependsOn(factors[1], match.keyToken)) {
    reason = "the score is not a product of a query and a key";
    return false;
  }
  query = pullOperand(factors[0], scale);
  key = pullOperand(factors[1], scale);
  if (query.spellings.empty() || key.spellings.empty()) {
    reason = "queries or keys are computed where they are multiplied";
    return false;
  }
  return true;
}

// Splits head variables h into (h floordiv c, h mod c) where a spelling reads them so: kv heads are shared
// there.
void Matcher::splitHeads(ArrayRef<const Expr *> spellings) {
  for (const Expr *spelling : spellings)
    for (AffineExpr position : spelling->indices)
      position.walk([&](AffineExpr part) {
        auto binary = dyn_cast<AffineBinaryOpExpr>(part);
        if (!binary ||
            (binary.getKind() != AffineExprKind::FloorDiv && binary.getKind() != AffineExprKind::Mod))
          return;
        auto dim = dyn_cast<AffineDimExpr>(binary.getLHS());
        auto divisor = dyn_cast<AffineConstantExpr>(binary.getRHS());
        if (!dim || !divisor || !llvm::is_contained(outputs, dim.getPosition()))
          return;
        int64_t extent = pullBack.extentOf(dim.getPosition());
        if (ShapedType::isDynamic(extent) || extent % divisor.getValue() ||
            llvm::any_of(splits, [&](auto &split) { return split.first == dim.getPosition(); }))
          return;
        AffineExpr outer = pullBack.newVariable(extent / divisor.getValue());
        AffineExpr inner = pullBack.newVariable(divisor.getValue());
        splits.push_back({dim.getPosition(), outer * divisor.getValue() + inner});
        auto *place = llvm::find(outputs, dim.getPosition());
        *place = variableOf(inner);
        outputs.insert(place, variableOf(outer));
        for (auto &group : resultDims) {
          auto *old = llvm::find(group, dim.getPosition());
          if (old == group.end())
            continue;
          *old = variableOf(inner);
          group.insert(old, variableOf(outer));
        }
      });
}

// The spelling that costs least to bring to `wanted`: a reshape before a copy, the first of equals.
std::optional<Source> Matcher::chooseSource(const Operand &operand, const Layout &wanted) {
  std::optional<Source> best;
  SmallVector<unsigned> wantedVariables;
  for (auto &group : wanted)
    wantedVariables.append(group.begin(), group.end());
  llvm::sort(wantedVariables);
  for (const Expr *spelling : operand.spellings) {
    std::optional<Source> source = sourceOf(pullBack, spelling);
    if (!source)
      continue;
    SmallVector<unsigned> variables;
    for (auto &group : source->layout)
      variables.append(group.begin(), group.end());
    llvm::sort(variables);
    if (variables != wantedVariables)
      continue;
    if (isReshape(source->layout, wanted) && source->isWhole())
      return source;
    best = source;
  }
  return best;
}

// Of the result's variables that are neither the query's token nor a value channel: which ones do keys and
// values depend on (kv heads), and which only queries (the heads that share one)?
bool Matcher::findHeads(AttentionMatch &match, const Operand &query, const Operand &key,
                        const Operand &value) {
  // The deepest spelling has shed every repeat that a view made.
  const Expr *deepKey = key.spellings.back(), *deepValue = value.spellings.back();
  for (unsigned variable : outputs) {
    bool inKey = PullBack::dependsOn(deepKey, variable), inValue = PullBack::dependsOn(deepValue, variable);
    bool inQuery = PullBack::dependsOn(query.spellings.back(), variable);
    if (variable == match.queryToken) {
      if (inKey || inValue || !inQuery) {
        reason = "keys or values depend on the query's token, or queries do not";
        return false;
      }
    } else if (inValue && !inKey && !inQuery) {
      match.valueChannels.push_back(variable);
    } else if (inKey && inValue && inQuery) {
      match.kvHeads.push_back(variable);
    } else if (inQuery && !inKey && !inValue) {
      match.headsOfGroup.push_back(variable);
    } else {
      reason = "queries, keys and values are not of the same heads";
      return false;
    }
  }
  return true;
}

std::optional<AttentionMatch> Matcher::match(linalg::LinalgOp mix) {
  if (!mix.hasPureTensorSemantics() || mix.getNumDpsInputs() != 2 || mix->getNumResults() != 1)
    return std::nullopt;
  AttentionMatch match;
  SmallVector<AffineExpr> element;
  for (int64_t extent : cast<RankedTensorType>(mix->getResult(0).getType()).getShape()) {
    if (extent == 1) {
      element.push_back(getAffineConstantExpr(0, mlirContext()));
      resultDims.emplace_back();
      continue;
    }
    element.push_back(pullBack.newVariable(extent));
    outputs.push_back(variableOf(element.back()));
    resultDims.push_back({outputs.back()});
  }
  const Expr *sum = pullBack.step(pullBack.access(mix->getResult(0), element));
  if (!sum || !sum->isReduce(ScalarOp::Add))
    return std::nullopt;
  SmallVector<const Expr *> factors;
  double factor = 1;
  if (!flattenProduct(sum->args[0], factor, factors) || factors.size() != 2)
    return std::nullopt;
  match.keyToken = sum->variable;
  const Expr *score = matchSoftmax(factors[0], match.keyToken);
  if (!score && reason.empty()) {
    std::swap(factors[0], factors[1]);
    score = matchSoftmax(factors[0], match.keyToken);
  }
  if (!score)
    return std::nullopt;
  if (factor != 1)
    return fail("the weighted sum is scaled");

  Score parts;
  if (!matchScore(score, parts))
    return std::nullopt;
  reason.clear();
  match.dotProducers = {parts.dot->source};
  match.scale = parts.scale;
  match.softCap = parts.softCap;
  Operand query, key, value;
  if (!matchDot(parts, match, match.scale, query, key))
    return std::nullopt;
  double valueScale = 1;
  value = pullOperand(factors[1], valueScale);
  if (valueScale != 1 || value.spellings.empty()) {
    // A scaled value is a value: take it before its factor was peeled off.
    value.spellings = {factors[1]};
    if (!factors[1]->isAccess())
      return fail("values are computed where they are summed");
  }

  // The query's token is the result's variable that no key and no value knows and that a mask compares keys
  // with.
  std::string maskReason = "no mask hides later keys, so it is not causal";
  std::optional<CausalMask> mask;
  for (unsigned variable : outputs) {
    if (PullBack::dependsOn(value.spellings.back(), variable) ||
        PullBack::dependsOn(key.spellings.back(), variable))
      continue;
    bool isKeyLike = pullBack.extentOf(variable) == pullBack.extentOf(match.keyToken);
    if (!isKeyLike)
      continue;
    std::string why;
    if ((mask = proveCausal(pullBack, parts.masks, variable, match.keyToken, why))) {
      match.queryToken = variable;
      break;
    }
    maskReason = why;
  }
  if (!mask)
    return fail(maskReason);
  match.window = mask->window;

  splitHeads(key.spellings);
  splitHeads(value.spellings);
  for (Operand *operand : {&query, &key, &value})
    for (const Expr *&spelling : operand->spellings)
      for (auto [variable, by] : splits)
        spelling = pullBack.substitute(spelling, variable, by);
  match.result = resultDims;
  if (!findHeads(match, query, key, value))
    return std::nullopt;
  std::optional<Source> querySource = chooseSource(query, match.queryLayout());
  std::optional<Source> keySource = chooseSource(key, match.keyLayout());
  std::optional<Source> valueSource = chooseSource(value, match.valueLayout());
  if (!querySource || !keySource || !valueSource)
    return fail("queries, keys or values are not tensors of tokens, heads and channels");
  match.query = *querySource;
  match.key = *keySource;
  match.value = *valueSource;
  return match;
}

} // namespace

std::optional<AttentionMatch> matchAttention(PullBack &pullBack, linalg::LinalgOp mix, std::string &reason) {
  return Matcher(pullBack, reason).match(mix);
}

} // namespace girih::compiler
