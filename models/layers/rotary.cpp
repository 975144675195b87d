// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: the angles of all positions, and the rotation of a head's channels by them.
#include "models/layers/rotary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace girih::models {

void buildRotary(GraphBuilder &g) {
  const ModelConfig &c = g.config();
  int64_t numPairs = c.headDim / 2;
  Type positions = RankedTensorType::get({g.kT}, g.ops().getI32Type());
  Type table = g.f32Tensor({g.kT, numPairs});
  auto arguments = g.beginFunction("rotary", "model.rotary_emb", positions, {table, table});
  std::vector<float> frequencies = rotaryFrequencies(c);
  Value inverse = arith::ConstantOp::create(
      g.ops(), g.location(),
      DenseElementsAttr::get(g.f32Tensor(numPairs), llvm::ArrayRef<float>(frequencies)));

  // The angle is rounded to f32, as checkpoints were trained: at position 600 that is worth 3e-5 in the
  // angle.
  Value angle = g.map({{arguments[0], {0}}, {inverse, {1}}}, {g.kT, numPairs},
                      [](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
                        Value position = arith::SIToFPOp::create(b, b.getF32Type(), v[0]);
                        return arith::MulFOp::create(b, position, v[1]);
                      });
  double factor = c.ropeScaling.attentionFactor;
  auto scaled = [&](ImplicitLocOpBuilder &b, Value x) -> Value {
    return factor == 1 ? x : arith::MulFOp::create(b, x, g.constant(b, factor)).getResult();
  };
  Value cos = g.map({{angle, {0, 1}}}, {g.kT, numPairs}, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return scaled(b, math::CosOp::create(b, v[0]));
  });
  Value sin = g.map({{angle, {0, 1}}}, {g.kT, numPairs}, [&](ImplicitLocOpBuilder &b, ValueRange v) -> Value {
    return scaled(b, math::SinOp::create(b, v[0]));
  });
  g.endFunction({cos, sin});
}

Value applyRotary(GraphBuilder &g, Value x, Value cos, Value sin) {
  auto type = cast<RankedTensorType>(x.getType());
  int64_t numHeads = type.getDimSize(1), headDim = type.getDimSize(2), numPairs = headDim / 2;
  RopeConvention convention = g.config().ropeConvention;
  bool isHalf = convention == RopeConvention::Half;

  // A pair's elements lie D/2 apart (half), or beside each other: then the last axis splits into pairs first.
  int64_t axis = isHalf ? 2 : 3;
  int64_t extent = isHalf ? numPairs : 1;
  SmallVector<ReassociationIndices> pairs = {{0}, {1}, {2, 3}};
  if (!isHalf)
    x = g.expand(x, {g.kT, numHeads, numPairs, 2}, pairs);
  Value first = g.sliceAxis(x, axis, 0, extent, !isHalf);
  Value second = g.sliceAxis(x, axis, extent, extent, !isHalf);

  SmallVector<Value> rotated =
      g.mapMany({{first, {0, 1, 2}}, {second, {0, 1, 2}}, {cos, {0, 2}}, {sin, {0, 2}}},
                {g.kT, numHeads, numPairs}, 2, [](ImplicitLocOpBuilder &b, ValueRange v) {
                  Value real = arith::SubFOp::create(b, arith::MulFOp::create(b, v[0], v[2]),
                                                     arith::MulFOp::create(b, v[1], v[3]));
                  Value imaginary = arith::AddFOp::create(b, arith::MulFOp::create(b, v[1], v[2]),
                                                          arith::MulFOp::create(b, v[0], v[3]));
                  return SmallVector<Value>{real, imaginary};
                });
  rotated[0].getDefiningOp()->setAttr("girih.rope", g.ops().getStringAttr(ropeConventionName(convention)));

  Value result =
      isHalf ? g.emptyTensor({g.kT, numHeads, headDim}) : g.emptyTensor({g.kT, numHeads, numPairs, 2});
  result = g.insertAxis(rotated[0], result, axis, 0, extent);
  result = g.insertAxis(rotated[1], result, axis, extent, extent);
  return isHalf ? result : g.collapse(result, pairs);
}

} // namespace girih::models
