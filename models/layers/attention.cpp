// SPDX-License-Identifier: Apache-2.0
// Causal self-attention as the textbook has it: project, rotate, score, mask, softmax, mix, project.
#include "models/layers/attention.h"

#include "models/layers/norm.h"
#include "models/layers/projection.h"
#include "models/layers/rotary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <limits>

using namespace mlir;

namespace girih::models {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// [T, N * D] -> [T, N, D]
Value splitHeads(GraphBuilder &g, Value x, int64_t numHeads) {
  return g.expand(x, {g.kT, numHeads, g.config().headDim}, {{0}, {1, 2}});
}

// [T, G, D] -> [T, H, D]: kv head g serves the H/G query heads from g * H/G on.
Value repeatKvHeads(GraphBuilder &g, Value x) {
  const ModelConfig &c = g.config();
  if (c.numHeads == c.numKvHeads)
    return x;
  Value repeated = g.broadcast(x, {g.kT, c.numKvHeads, c.numHeads / c.numKvHeads, c.headDim}, 2);
  return g.collapse(repeated, {{0}, {1, 2}, {3}});
}

// scores [H, T, T]: -inf where key u is after query t or, with a window W, not among the last W positions.
Value maskScores(GraphBuilder &g, Value scores, int64_t window) {
  return g.map({{scores, {0, 1, 2}}}, {g.config().numHeads, g.kT, g.kT},
               [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
                 Value query = linalg::IndexOp::create(b, 1);
                 Value key = linalg::IndexOp::create(b, 2);
                 Value isSeen = arith::CmpIOp::create(b, arith::CmpIPredicate::sle, key, query);
                 if (window > 0) {
                   Value distance = arith::SubIOp::create(b, query, key);
                   Value isNear = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, distance,
                                                        arith::ConstantIndexOp::create(b, window));
                   isSeen = arith::AndIOp::create(b, isSeen, isNear);
                 }
                 return arith::SelectOp::create(b, isSeen, v[0], g.constant(b, kMinusInfinity));
               });
}

// Over the innermost axis of [H, T, T]: exp(s - max) / sum.
Value softmax(GraphBuilder &g, Value scores) {
  SmallVector<int64_t> shape = {g.config().numHeads, g.kT, g.kT};
  Value highest =
      g.reduceInnermost(scores, kMinusInfinity, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
        return arith::MaximumFOp::create(b, v[1], v[0]);
      });
  Value shifted = g.map(
      {{scores, {0, 1, 2}}, {highest, {0, 1}}}, shape,
      [](ImplicitLocOpBuilder &b, ValueRange v) -> Value { return arith::SubFOp::create(b, v[0], v[1]); });
  Value powers = g.map({{shifted, {0, 1, 2}}}, shape, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return math::ExpOp::create(b, v[0]);
  });
  Value sum = g.reduceInnermost(powers, 0.0f, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return arith::AddFOp::create(b, v[1], v[0]);
  });
  return g.map(
      {{powers, {0, 1, 2}}, {sum, {0, 1}}}, shape,
      [](ImplicitLocOpBuilder &b, ValueRange v) -> Value { return arith::DivFOp::create(b, v[0], v[1]); });
}

// q [T, H, D], k and v [T, G, D] -> [T, H, D]
Value attend(GraphBuilder &g, int64_t layer, Value q, Value k, Value v) {
  const ModelConfig &c = g.config();
  q = g.transpose(q, {1, 0, 2});                   // [H, T, D]
  k = g.transpose(repeatKvHeads(g, k), {1, 0, 2}); // [H, T, D]
  v = g.transpose(repeatKvHeads(g, v), {1, 0, 2}); // [H, T, D]
  // loops h, t, u, d
  Value scores = g.contract({q, {0, 1, 3}}, {k, {0, 2, 3}}, {0, 1, 2}, {c.numHeads, g.kT, g.kT}, 4);
  scores = g.map({{scores, {0, 1, 2}}}, {c.numHeads, g.kT, g.kT},
                 [&](ImplicitLocOpBuilder &b, ValueRange s) -> Value {
                   return arith::MulFOp::create(b, s[0], g.constant(b, c.attentionScale));
                 });
  scores = softCap(g, scores, c.attentionSoftCap);
  Value weights = softmax(g, maskScores(g, scores, c.slidingWindow[layer]));
  // loops h, t, d, u
  Value mixed = g.contract({weights, {0, 1, 3}}, {v, {0, 3, 2}}, {0, 1, 2}, {c.numHeads, g.kT, c.headDim}, 4);
  return g.transpose(mixed, {1, 0, 2});
}

} // namespace

Value selfAttention(GraphBuilder &g, int64_t layer, Value x, Value cos, Value sin, AttentionOptions options) {
  GraphBuilder::Scope scope(g, "self_attn");
  const ModelConfig &c = g.config();
  Value q = splitHeads(g, project(g, "q_proj", x, c.numHeads * c.headDim, c.hasQkvBias), c.numHeads);
  Value k = splitHeads(g, project(g, "k_proj", x, c.numKvHeads * c.headDim, c.hasQkvBias), c.numKvHeads);
  Value v = splitHeads(g, project(g, "v_proj", x, c.numKvHeads * c.headDim, c.hasQkvBias), c.numKvHeads);
  if (options.normalizesHeads) {
    q = rmsNorm(g, "q_norm", q);
    k = rmsNorm(g, "k_norm", k);
  }
  q = applyRotary(g, q, cos, sin);
  k = applyRotary(g, k, cos, sin);
  Value mixed = g.collapse(attend(g, layer, q, k, v), {{0}, {1, 2}}); // [T, H * D]
  return project(g, "o_proj", mixed, c.hiddenSize, c.hasOutputBias);
}

} // namespace girih::models
