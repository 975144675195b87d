// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation over the innermost axis.
#include "models/layers/norm.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace girih::models {

Value rmsNorm(GraphBuilder &g, llvm::StringRef part, Value x) {
  GraphBuilder::Scope scope(g, part);
  const ModelConfig &c = g.config();
  llvm::ArrayRef<int64_t> shape = cast<RankedTensorType>(x.getType()).getShape();
  SmallVector<int64_t, 4> all = llvm::to_vector<4>(llvm::seq<int64_t>(0, shape.size()));
  SmallVector<int64_t, 4> outer(all.begin(), all.end() - 1);
  Value weight = g.weight("weight", shape.back()); // [E] or [D]

  Value squares = g.map({{x, all}}, shape, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return arith::MulFOp::create(b, v[0], v[0]);
  });
  Value sum = g.reduceInnermost(squares, 0.0f, [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return arith::AddFOp::create(b, v[1], v[0]);
  });
  Value inverse =
      g.map({{sum, outer}}, shape.drop_back(), [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
        Value mean = arith::DivFOp::create(b, v[0], g.constant(b, shape.back()));
        return math::RsqrtOp::create(b, arith::AddFOp::create(b, mean, g.constant(b, c.normEpsilon)));
      });
  return g.map({{x, all}, {inverse, outer}, {weight, {all.back()}}}, shape,
               [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
                 Value scale = v[2];
                 if (c.normAddsOne)
                   scale = arith::AddFOp::create(b, scale, g.constant(b, 1.0));
                 return arith::MulFOp::create(b, arith::MulFOp::create(b, v[0], v[1]), scale);
               });
}

} // namespace girih::models
