// SPDX-License-Identifier: Apache-2.0
// The frame that decoder-only families share: embedding, rotary table, layers, head.
#include "models/layers/decoder.h"

#include "models/layers/projection.h"
#include "models/layers/rotary.h"

namespace girih::models {

void buildDecoder(GraphBuilder &g, LayerBuilder buildLayer) {
  const ModelConfig &c = g.config();
  mlir::Type hidden = g.f32Tensor({g.kT, c.hiddenSize});
  mlir::Type angles = g.f32Tensor({g.kT, c.headDim / 2});
  buildEmbedding(g);
  buildRotary(g);
  for (int64_t layer = 0; layer < c.numLayers; ++layer) {
    std::string number = std::to_string(layer);
    auto arguments =
        g.beginFunction("layer_" + number, "model.layers." + number, {hidden, angles, angles}, hidden);
    g.endFunction(buildLayer(g, layer, arguments[0], arguments[1], arguments[2]));
  }
  buildHead(g);
}

} // namespace girih::models
