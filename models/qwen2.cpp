// SPDX-License-Identifier: Apache-2.0
// Qwen2 and Qwen2.5: llama's layer with biases on query, key and value. Yang et al., "Qwen2 Technical Report"
// (2024).
#include "models/layers/attention.h"
#include "models/layers/decoder.h"
#include "models/layers/mlp.h"
#include "models/layers/norm.h"
#include "models/layers/projection.h"
#include "models/registry.h"
#include "models/sliding_layers.h"

namespace girih::models {
namespace {

// x [T, E]; cos, sin [T, D/2]
Value buildLayer(GraphBuilder &g, int64_t layer, Value x, Value cos, Value sin) {
  Value attended = selfAttention(g, layer, rmsNorm(g, "input_layernorm", x), cos, sin);
  x = addResidual(g, x, attended);
  return addResidual(g, x, gatedMlp(g, rmsNorm(g, "post_attention_layernorm", x)));
}

void build(GraphBuilder &g) { buildDecoder(g, buildLayer); }

Status finishGguf(const GgufFields &fields, const weights::WeightStore &store, ModelConfig &config) {
  config.hasQkvBias = true;
  return {}; // no window in these files
}

Status finishHuggingFace(const JsonFields &fields, ModelConfig &config) {
  config.hasQkvBias = true;
  return readQwenWindows(fields, config);
}

} // namespace

FamilyRow qwen2Family() {
  return {.name = "qwen2",
          .ggufArchitecture = "qwen2",
          .defaultHeadDim = 0,
          .defaultMaxPositions = 32768,
          .defaultIsTied = false,
          .activationKey = "hidden_act",
          .defaultActivation = "silu",
          .ggufRopeConvention = RopeConvention::Half,
          .finishGguf = finishGguf,
          .finishHuggingFace = finishHuggingFace,
          .build = build};
}

} // namespace girih::models
