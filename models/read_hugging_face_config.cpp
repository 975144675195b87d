// SPDX-License-Identifier: Apache-2.0
// Reads a ModelConfig from the config.json of a Hugging Face checkpoint.
#include "models/config_fields.h"
#include "models/read_config.h"
#include "models/registry.h"

#include <cmath>

namespace girih::models {
namespace {

Expected<const FamilyRow *> findFamily(const JsonFields &fields) {
  GIRIH_ASSIGN(auto type, fields.string("model_type"));
  if (!type)
    return notFound("config.json has no \"model_type\"; it names the model's family");
  if (const FamilyRow *row = findFamilyByModelType(*type))
    return row;
  std::string list;
  for (const FamilyRow &row : families())
    list += (list.empty() ? "" : ", ") + std::string(row.name);
  return unimplemented("config.json: \"model_type\" is \"" + *type + "\"; supported are " + list);
}

Expected<int64_t> requireInteger(const JsonFields &fields, std::string_view key) {
  GIRIH_ASSIGN(auto value, fields.integer(key));
  if (!value)
    return notFound("config.json has no \"" + std::string(key) + "\"");
  return *value;
}

Status readExtents(const JsonFields &fields, const FamilyRow &family, ModelConfig &config) {
  GIRIH_ASSIGN(config.vocabSize, requireInteger(fields, "vocab_size"));
  GIRIH_ASSIGN(config.hiddenSize, requireInteger(fields, "hidden_size"));
  GIRIH_ASSIGN(config.intermediateSize, requireInteger(fields, "intermediate_size"));
  GIRIH_ASSIGN(config.numLayers, requireInteger(fields, "num_hidden_layers"));
  GIRIH_ASSIGN(config.numHeads, requireInteger(fields, "num_attention_heads"));
  config.numKvHeads = config.numHeads;
  GIRIH_READ_OPTIONAL(config.numKvHeads, fields.integer("num_key_value_heads"));
  config.maxPositions = family.defaultMaxPositions;
  GIRIH_READ_OPTIONAL(config.maxPositions, fields.integer("max_position_embeddings"));
  if (config.numLayers < 1 || config.numLayers > 4096 || config.numHeads < 1)
    return validateConfig(config); // names the field
  config.slidingWindow.assign(config.numLayers, 0);
  config.headDim = family.defaultHeadDim ? family.defaultHeadDim : config.hiddenSize / config.numHeads;
  GIRIH_READ_OPTIONAL(config.headDim, fields.integer("head_dim"));
  double rotatedPart = 1;
  GIRIH_READ_OPTIONAL(rotatedPart, fields.number("partial_rotary_factor"));
  if (rotatedPart != 1)
    return unimplemented("config.json: \"partial_rotary_factor\" is " + std::to_string(rotatedPart) +
                         "; only 1 is supported");
  return {};
}

Status readLlama3(const JsonFields &rope, RopeScaling &scaling) {
  GIRIH_READ_OPTIONAL(scaling.lowFrequencyFactor, rope.number("low_freq_factor"));
  GIRIH_READ_OPTIONAL(scaling.highFrequencyFactor, rope.number("high_freq_factor"));
  return {};
}

Status readYarn(const JsonFields &rope, RopeScaling &scaling) {
  GIRIH_READ_OPTIONAL(scaling.betaFast, rope.number("beta_fast"));
  GIRIH_READ_OPTIONAL(scaling.betaSlow, rope.number("beta_slow"));
  GIRIH_READ_OPTIONAL(scaling.truncate, rope.boolean("truncate"));
  GIRIH_ASSIGN(auto mscale, rope.number("mscale"));
  GIRIH_ASSIGN(auto mscaleAllDim, rope.number("mscale_all_dim"));
  if (mscale.value_or(0) != 0 && mscaleAllDim.value_or(0) != 0 && scaling.factor > 1)
    scaling.attentionFactor =
        (0.1 * *mscale * std::log(scaling.factor) + 1) / (0.1 * *mscaleAllDim * std::log(scaling.factor) + 1);
  else
    scaling.attentionFactor = yarnAttentionFactor(scaling.factor);
  GIRIH_READ_OPTIONAL(scaling.attentionFactor, rope.number("attention_factor"));
  return {};
}

Status readRopeScaling(const JsonFields &rope, const JsonFields &fields, ModelConfig &config) {
  RopeScaling &scaling = config.ropeScaling;
  std::string type = "default";
  GIRIH_READ_OPTIONAL(type, rope.string("type")); // older spelling
  GIRIH_READ_OPTIONAL(type, rope.string("rope_type"));
  double rotatedPart = 1;
  GIRIH_READ_OPTIONAL(rotatedPart, rope.number("partial_rotary_factor"));
  if (rotatedPart != 1)
    return unimplemented("config.json: \"partial_rotary_factor\" is " + std::to_string(rotatedPart) +
                         "; only 1 is supported");
  if (type == "default")
    return {};
  GIRIH_ASSIGN(auto factor, rope.number("factor"));
  scaling.originalMaxPositions = config.maxPositions;
  GIRIH_READ_OPTIONAL(scaling.originalMaxPositions, rope.integer("original_max_position_embeddings"));
  GIRIH_READ_OPTIONAL(scaling.originalMaxPositions, fields.integer("original_max_position_embeddings"));
  if (!factor && type == "yarn" && scaling.originalMaxPositions > 0)
    factor = static_cast<double>(config.maxPositions) / scaling.originalMaxPositions;
  if (!factor)
    return notFound("config.json: rope scaling of type \"" + type + "\" has no \"factor\"");
  scaling.factor = *factor;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::Linear;
    return {};
  }
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::Llama3;
    return readLlama3(rope, scaling);
  }
  if (type == "yarn") {
    scaling.kind = RopeScaling::Kind::Yarn;
    return readYarn(rope, scaling);
  }
  return unimplemented("config.json: rope scaling is of type \"" + type +
                       "\"; supported are default, linear, llama3, yarn");
}

// Files since 2025 have one object, `rope_parameters`; older ones `rope_theta` and maybe `rope_scaling`.
Status readRope(const JsonFields &fields, ModelConfig &config) {
  GIRIH_READ_OPTIONAL(config.ropeTheta, fields.number("rope_theta"));
  for (const char *key : {"rope_scaling", "rope_parameters"}) {
    GIRIH_ASSIGN(auto rope, fields.object(key));
    if (!rope)
      continue;
    for (const char *layerType : {"full_attention", "sliding_attention"}) {
      GIRIH_ASSIGN(auto nested, rope->object(layerType));
      if (nested)
        return unimplemented(std::string("config.json: \"") + key +
                             "\" differs by type of layer; one rotary table for all layers is supported");
    }
    GIRIH_READ_OPTIONAL(config.ropeTheta, rope->number("rope_theta"));
    GIRIH_TRY(readRopeScaling(*rope, fields, config));
  }
  return {};
}

Expected<std::optional<int32_t>> tokenField(const JsonFields &fields, const char *key) {
  GIRIH_ASSIGN(auto token, fields.integer(key));
  if (!token || *token < 0 || *token > 1 << 24) // some files write -1 for none
    return std::optional<int32_t>();
  return std::optional<int32_t>(static_cast<int32_t>(*token));
}

Status readTokens(const JsonFields &fields, GenerationDefaults &defaults) {
  GIRIH_ASSIGN(auto bos, tokenField(fields, "bos_token_id"));
  GIRIH_ASSIGN(auto pad, tokenField(fields, "pad_token_id"));
  GIRIH_ASSIGN(auto eos, fields.integers("eos_token_id"));
  if (bos)
    defaults.bosToken = bos;
  if (pad)
    defaults.padToken = pad;
  if (!eos)
    return {};
  defaults.eosTokens.clear();
  for (int64_t token : *eos)
    if (token >= 0 && token <= 1 << 24)
      defaults.eosTokens.push_back(static_cast<int32_t>(token));
  return {};
}

} // namespace

double yarnAttentionFactor(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

Expected<Activation> parseActivation(std::string_view name) {
  if (name == "silu" || name == "swish")
    return Activation::Silu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new")
    return Activation::GeluTanh;
  return unimplemented("the activation is \"" + std::string(name) +
                       "\"; supported are silu, swish, gelu_pytorch_tanh, gelu_new");
}

Expected<ModelConfig> readHuggingFaceConfig(const weights::WeightStore &store) {
  GIRIH_ASSIGN(JsonFields fields, JsonFields::open(store, "config.json"));
  GIRIH_ASSIGN(const FamilyRow *family, findFamily(fields));
  ModelConfig config;
  config.family = family->name;
  config.source = weights::CheckpointKind::HuggingFace;
  GIRIH_TRY(readExtents(fields, *family, config));
  config.attentionScale = 1 / std::sqrt(static_cast<double>(config.headDim));
  GIRIH_READ_OPTIONAL(config.normEpsilon, fields.number("rms_norm_eps"));
  GIRIH_TRY(readRope(fields, config));
  config.ropeConvention = RopeConvention::Half; // of every safetensors checkpoint of these families
  std::string activation(family->defaultActivation);
  GIRIH_READ_OPTIONAL(activation, fields.string(family->activationKey));
  GIRIH_ASSIGN(config.activation, parseActivation(activation));
  config.isTied = family->defaultIsTied;
  GIRIH_READ_OPTIONAL(config.isTied, fields.boolean("tie_word_embeddings"));
  // A checkpoint that stores a head means it, whatever its config says.
  if (store.find("lm_head.weight"))
    config.isTied = false;
  GIRIH_TRY(family->finishHuggingFace(fields, config));
  return config;
}

Expected<GenerationDefaults> readHuggingFaceGenerationDefaults(const weights::WeightStore &store) {
  GenerationDefaults defaults;
  for (const char *file : {"config.json", "generation_config.json"}) { // the later one wins
    if (!store.text(file))
      continue;
    GIRIH_ASSIGN(JsonFields fields, JsonFields::open(store, file));
    GIRIH_TRY(readTokens(fields, defaults));
    if (std::string_view(file) == "config.json")
      continue;
    GIRIH_ASSIGN(defaults.doSample, fields.boolean("do_sample"));
    GIRIH_ASSIGN(defaults.temperature, fields.number("temperature"));
    GIRIH_ASSIGN(defaults.topK, fields.integer("top_k"));
    GIRIH_ASSIGN(defaults.topP, fields.number("top_p"));
    GIRIH_ASSIGN(defaults.minP, fields.number("min_p"));
    GIRIH_ASSIGN(defaults.repetitionPenalty, fields.number("repetition_penalty"));
  }
  return defaults;
}

} // namespace girih::models
