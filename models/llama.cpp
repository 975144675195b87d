// SPDX-License-Identifier: Apache-2.0
// Llama and Mistral: pre-norm decoder with rotary grouped-query attention and a SiLU-gated feed-forward
// block. Touvron et al., "LLaMA" (2023) and "Llama 2" (2023); Jiang et al., "Mistral 7B" (2023) adds the
// sliding window.
#include "models/layers/attention.h"
#include "models/layers/decoder.h"
#include "models/layers/mlp.h"
#include "models/layers/norm.h"
#include "models/layers/projection.h"
#include "models/registry.h"

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
  config.hasQkvBias = store.find("blk.0.attn_q.bias");
  config.hasOutputBias = store.find("blk.0.attn_output.bias");
  config.hasMlpBias = store.find("blk.0.ffn_down.bias");
  int64_t window = 0; // Mistral's files are of this architecture too
  GIRIH_READ_OPTIONAL(window, fields.integer("attention.sliding_window"));
  config.slidingWindow.assign(config.numLayers, window);
  return {};
}

Status finishLlama(const JsonFields &fields, ModelConfig &config) {
  GIRIH_READ_OPTIONAL(config.hasQkvBias, fields.boolean("attention_bias"));
  config.hasOutputBias = config.hasQkvBias;
  GIRIH_READ_OPTIONAL(config.hasMlpBias, fields.boolean("mlp_bias"));
  return {};
}

Status finishMistral(const JsonFields &fields, ModelConfig &config) {
  int64_t window = 0; // null: none
  GIRIH_READ_OPTIONAL(window, fields.integer("sliding_window"));
  config.slidingWindow.assign(config.numLayers, window);
  return {};
}

} // namespace

FamilyRow llamaFamily() {
  return {.name = "llama",
          .ggufArchitecture = "llama",
          .defaultHeadDim = 0,
          .defaultMaxPositions = 2048,
          .defaultIsTied = false,
          .activationKey = "hidden_act",
          .defaultActivation = "silu",
          .ggufRopeConvention = RopeConvention::Interleaved,
          .finishGguf = finishGguf,
          .finishHuggingFace = finishLlama,
          .build = build};
}

FamilyRow mistralFamily() {
  FamilyRow row = llamaFamily();
  row.name = "mistral";
  row.defaultMaxPositions = 4096 * 32;
  row.finishHuggingFace = finishMistral;
  return row;
}

} // namespace girih::models
