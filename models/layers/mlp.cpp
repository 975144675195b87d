// SPDX-License-Identifier: Apache-2.0
// The gated feed-forward block.
#include "models/layers/mlp.h"

#include "models/layers/projection.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <cmath>
#include <numbers>

using namespace mlir;

namespace girih::models {
namespace {

// x / (1 + exp(-x))
Value silu(ImplicitLocOpBuilder &b, Value x) {
  Value power = math::ExpOp::create(b, arith::NegFOp::create(b, x));
  return arith::DivFOp::create(b, x, arith::AddFOp::create(b, power, GraphBuilder::constant(b, 1.0)));
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks and Gimpel, "Gaussian Error Linear Units"
Value geluTanh(ImplicitLocOpBuilder &b, Value x) {
  auto constant = [&](double value) { return GraphBuilder::constant(b, value); };
  Value cube = arith::MulFOp::create(b, arith::MulFOp::create(b, x, x), x);
  Value inner = arith::AddFOp::create(b, x, arith::MulFOp::create(b, cube, constant(0.044715)));
  Value curve =
      math::TanhOp::create(b, arith::MulFOp::create(b, inner, constant(std::sqrt(2 / std::numbers::pi))));
  Value half = arith::MulFOp::create(b, x, constant(0.5));
  return arith::MulFOp::create(b, half, arith::AddFOp::create(b, curve, constant(1.0)));
}

} // namespace

Value gatedMlp(GraphBuilder &g, Value x) {
  GraphBuilder::Scope scope(g, "mlp");
  const ModelConfig &c = g.config();
  llvm::SmallVector<int64_t> shape = {g.kT, c.intermediateSize};
  Value gate = project(g, "gate_proj", x, c.intermediateSize, c.hasMlpBias); // [T, F]
  Value up = project(g, "up_proj", x, c.intermediateSize, c.hasMlpBias);     // [T, F]
  Value active = g.map({{gate, {0, 1}}}, shape, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return c.activation == Activation::Silu ? silu(b, v[0]) : geluTanh(b, v[0]);
  });
  Value product =
      g.map({{active, {0, 1}}, {up, {0, 1}}}, shape, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
        return arith::MulFOp::create(b, v[0], v[1]);
      });
  return project(g, "down_proj", product, c.hiddenSize, c.hasMlpBias);
}

} // namespace girih::models
