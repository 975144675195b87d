// SPDX-License-Identifier: Apache-2.0
// Qwen3 (dense): llama's layer with an RMS norm over every query and key head.
// Yang et al., "Qwen3 Technical Report" (2025).
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
  Value normed = rmsNorm(g, "input_layernorm", x);
  x = addResidual(g, x, selfAttention(g, layer, normed, cos, sin, {.normalizesHeads = true}));
  return addResidual(g, x, gatedMlp(g, rmsNorm(g, "post_attention_layernorm", x)));
}

void build(GraphBuilder &g) { buildDecoder(g, buildLayer); }

Status finishGguf(const GgufFields &fields, const weights::WeightStore &store, ModelConfig &config) {
  config.hasQkvBias = store.find("blk.0.attn_q.bias");
  config.hasOutputBias = store.find("blk.0.attn_output.bias");
  return {};
}

Status finishHuggingFace(const JsonFields &fields, ModelConfig &config) {
  GIRIH_READ_OPTIONAL(config.hasQkvBias, fields.boolean("attention_bias"));
  config.hasOutputBias = config.hasQkvBias;
  return readQwenWindows(fields, config);
}

} // namespace

FamilyRow qwen3Family() {
  return {.name = "qwen3",
          .ggufArchitecture = "qwen3",
          .defaultHeadDim = 128,
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
