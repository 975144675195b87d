// SPDX-License-Identifier: Apache-2.0
// Gemma 2: norms before and after each block, soft-capped scores and logits, every other layer with a window.
// Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size" (2024).
#include "models/layers/attention.h"
#include "models/layers/decoder.h"
#include "models/layers/mlp.h"
#include "models/layers/norm.h"
#include "models/layers/projection.h"
#include "models/registry.h"
#include "models/sliding_layers.h"

#include <cmath>

namespace girih::models {
namespace {

// x [T, E]; cos, sin [T, D/2]
Value buildLayer(GraphBuilder &g, int64_t layer, Value x, Value cos, Value sin) {
  Value attended = selfAttention(g, layer, rmsNorm(g, "input_layernorm", x), cos, sin);
  x = addResidual(g, x, rmsNorm(g, "post_attention_layernorm", attended));
  Value mixed = gatedMlp(g, rmsNorm(g, "pre_feedforward_layernorm", x));
  return addResidual(g, x, rmsNorm(g, "post_feedforward_layernorm", mixed));
}

void build(GraphBuilder &g) { buildDecoder(g, buildLayer); }

void setCommon(ModelConfig &config) {
  config.hasPostNorms = true;
  config.embeddingScale = static_cast<float>(std::sqrt(static_cast<double>(config.hiddenSize)));
  config.attentionSoftCap = 50;
  config.finalSoftCap = 30;
}

// The even layers have the window.
void alternateWindows(ModelConfig &config, int64_t window) {
  for (int64_t layer = 0; layer < config.numLayers; layer += 2)
    config.slidingWindow[layer] = window;
}

Status finishGguf(const GgufFields &fields, const weights::WeightStore &store, ModelConfig &config) {
  setCommon(config);
  // The writers of GGUF store 1 + w. They leave the query scale out: it is the head's, but for the one size
  // of 46 layers, whose queries are scaled by hiddenSize / numHeads.
  if (config.numLayers == 46)
    config.attentionScale = 1 / std::sqrt(static_cast<double>(config.hiddenSize) / config.numHeads);
  GIRIH_READ_OPTIONAL(config.attentionScale, fields.number("attention.scale"));
  GIRIH_READ_OPTIONAL(config.attentionSoftCap, fields.number("attn_logit_softcapping"));
  GIRIH_READ_OPTIONAL(config.finalSoftCap, fields.number("final_logit_softcapping"));
  int64_t window = 4096;
  GIRIH_READ_OPTIONAL(window, fields.integer("attention.sliding_window"));
  alternateWindows(config, window);
  config.hasQkvBias = store.find("blk.0.attn_q.bias");
  config.hasOutputBias = store.find("blk.0.attn_output.bias");
  return {};
}

// A soft cap may be absent (the default) or null (none).
Status finishHuggingFace(const JsonFields &fields, ModelConfig &config) {
  setCommon(config);
  config.normAddsOne = true;
  double queryScalar = 256;
  GIRIH_READ_OPTIONAL(queryScalar, fields.number("query_pre_attn_scalar"));
  if (!(queryScalar > 0))
    return invalidArgument("\"query_pre_attn_scalar\" is " + std::to_string(queryScalar) +
                           "; must be above 0");
  config.attentionScale = 1 / std::sqrt(queryScalar);
  if (fields.isNull("attn_logit_softcapping"))
    config.attentionSoftCap = 0;
  if (fields.isNull("final_logit_softcapping"))
    config.finalSoftCap = 0;
  GIRIH_READ_OPTIONAL(config.attentionSoftCap, fields.number("attn_logit_softcapping"));
  GIRIH_READ_OPTIONAL(config.finalSoftCap, fields.number("final_logit_softcapping"));
  GIRIH_READ_OPTIONAL(config.hasQkvBias, fields.boolean("attention_bias"));
  config.hasOutputBias = config.hasQkvBias;
  bool isBidirectional = false;
  GIRIH_READ_OPTIONAL(isBidirectional, fields.boolean("use_bidirectional_attention"));
  if (isBidirectional)
    return unimplemented("\"use_bidirectional_attention\" is true; only causal attention is supported");
  int64_t window = fields.isNull("sliding_window") ? 0 : 4096;
  GIRIH_READ_OPTIONAL(window, fields.integer("sliding_window"));
  GIRIH_ASSIGN(bool hasTypes, readLayerTypes(fields, window, config));
  if (!hasTypes)
    alternateWindows(config, window);
  return {};
}

} // namespace

FamilyRow gemma2Family() {
  return {.name = "gemma2",
          .ggufArchitecture = "gemma2",
          .defaultHeadDim = 256,
          .defaultMaxPositions = 8192,
          .defaultIsTied = true,
          .activationKey = "hidden_activation",
          .defaultActivation = "gelu_pytorch_tanh",
          .ggufRopeConvention = RopeConvention::Half,
          .finishGguf = finishGguf,
          .finishHuggingFace = finishHuggingFace,
          .build = build};
}

} // namespace girih::models
