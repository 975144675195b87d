// SPDX-License-Identifier: Apache-2.0
// Linear projections, residual sums, and the two ends of a model: embedding and head.
#include "models/layers/projection.h"

#include "models/layers/norm.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace girih::models {
namespace {

constexpr llvm::StringLiteral kEmbeddingWeight = "model.embed_tokens.weight";

// x[T, K] times w[N, K] -> [T, N]; loops t, n, k
Value multiply(GraphBuilder &g, Value x, Value w) {
  int64_t numOutputs = cast<RankedTensorType>(w.getType()).getDimSize(0);
  return g.contract({x, {0, 2}}, {w, {1, 2}}, {0, 1}, {g.kT, numOutputs}, 3);
}

} // namespace

Value project(GraphBuilder &g, llvm::StringRef part, Value x, int64_t numOutputs, bool hasBias) {
  GraphBuilder::Scope scope(g, part);
  int64_t depth = cast<RankedTensorType>(x.getType()).getDimSize(1);
  Value y = multiply(g, x, g.weight("weight", {numOutputs, depth}));
  if (!hasBias)
    return y;
  Value bias = g.weight("bias", numOutputs);
  return g.map(
      {{y, {0, 1}}, {bias, {1}}}, {g.kT, numOutputs},
      [](ImplicitLocOpBuilder &b, ValueRange v) -> Value { return arith::AddFOp::create(b, v[0], v[1]); });
}

Value addResidual(GraphBuilder &g, Value a, Value b) {
  llvm::ArrayRef<int64_t> shape = cast<RankedTensorType>(a.getType()).getShape();
  return g.map({{a, {0, 1}}, {b, {0, 1}}}, shape, [](ImplicitLocOpBuilder &nested, ValueRange v) -> Value {
    return arith::AddFOp::create(nested, v[0], v[1]);
  });
}

Value softCap(GraphBuilder &g, Value x, double cap) {
  if (cap == 0)
    return x;
  llvm::ArrayRef<int64_t> shape = cast<RankedTensorType>(x.getType()).getShape();
  SmallVector<int64_t, 4> all = llvm::to_vector<4>(llvm::seq<int64_t>(0, shape.size()));
  return g.map({{x, all}}, shape, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    Value scaled = math::TanhOp::create(b, arith::DivFOp::create(b, v[0], g.constant(b, cap)));
    return arith::MulFOp::create(b, scaled, g.constant(b, cap));
  });
}

void buildEmbedding(GraphBuilder &g) {
  const ModelConfig &c = g.config();
  Type tokens = RankedTensorType::get({g.kT}, g.ops().getI32Type());
  auto arguments = g.beginFunction("embed", "model.embed_tokens", tokens, g.f32Tensor({g.kT, c.hiddenSize}));
  Value table = g.weightNamed(kEmbeddingWeight, {c.vocabSize, c.hiddenSize});
  Value x =
      g.map({{arguments[0], {0}}}, {g.kT, c.hiddenSize}, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
        Value row = arith::IndexCastOp::create(b, b.getIndexType(), v[0]);
        Value column = linalg::IndexOp::create(b, 1);
        return tensor::ExtractOp::create(b, table, ValueRange{row, column});
      });
  if (c.embeddingScale != 1)
    x = g.map({{x, {0, 1}}}, {g.kT, c.hiddenSize}, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
      return arith::MulFOp::create(b, v[0], g.constant(b, c.embeddingScale));
    });
  g.endFunction(x);
}

void buildHead(GraphBuilder &g) {
  const ModelConfig &c = g.config();
  auto arguments =
      g.beginFunction("head", "model", g.f32Tensor({g.kT, c.hiddenSize}), g.f32Tensor({g.kT, c.vocabSize}));
  Value x = rmsNorm(g, "norm", arguments[0]);
  GraphBuilder::Scope scope(g, "lm_head");
  Value w = g.weightNamed(c.isTied ? kEmbeddingWeight : "lm_head.weight", {c.vocabSize, c.hiddenSize});
  g.endFunction(softCap(g, multiply(g, x, w), c.finalSoftCap));
}

} // namespace girih::models
