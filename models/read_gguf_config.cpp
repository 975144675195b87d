// SPDX-License-Identifier: Apache-2.0
// Reads a ModelConfig from GGUF metadata.
#include "models/config_fields.h"
#include "models/read_config.h"
#include "models/registry.h"

#include <cmath>
#include <set>

namespace girih::models {
namespace {

Expected<const FamilyRow *> findFamily(const weights::WeightStore &store) {
  GIRIH_ASSIGN(std::string_view architecture, store.metadata().string("general.architecture"));
  if (const FamilyRow *row = findFamilyByGgufArchitecture(architecture))
    return row;
  std::set<std::string> supported;
  for (const FamilyRow &row : families())
    supported.emplace(row.ggufArchitecture);
  std::string list;
  for (const std::string &name : supported)
    list += (list.empty() ? "" : ", ") + name;
  return unimplemented("the file's architecture is \"" + std::string(architecture) + "\"; supported are " +
                       list);
}

Expected<int64_t> requireInteger(const weights::WeightStore &store, const FamilyRow &family,
                                 std::string_view key) {
  return store.metadata().integer(std::string(family.ggufArchitecture) + "." + std::string(key));
}

// Rows of a stored matrix; 0 when it is not there (its absence is reported when the graph asks for it).
int64_t numRows(const weights::WeightStore &store, std::string_view name) {
  const weights::StoredTensor *tensor = store.find(name);
  return tensor && tensor->shape.size() == 2 ? tensor->shape[0] : 0;
}

Status readExtents(const weights::WeightStore &store, const FamilyRow &family, ModelConfig &config) {
  GgufFields fields(store, family.ggufArchitecture);
  GIRIH_ASSIGN(config.numLayers, requireInteger(store, family, "block_count"));
  GIRIH_ASSIGN(config.maxPositions, requireInteger(store, family, "context_length"));
  GIRIH_ASSIGN(config.hiddenSize, requireInteger(store, family, "embedding_length"));
  GIRIH_ASSIGN(config.intermediateSize, requireInteger(store, family, "feed_forward_length"));
  GIRIH_ASSIGN(config.numHeads, requireInteger(store, family, "attention.head_count"));
  config.numKvHeads = config.numHeads;
  GIRIH_READ_OPTIONAL(config.numKvHeads, fields.integer("attention.head_count_kv"));
  config.vocabSize = numRows(store, "token_embd.weight");
  GIRIH_READ_OPTIONAL(config.vocabSize, fields.integer("vocab_size"));
  if (config.numLayers < 1 || config.numLayers > 4096 || config.numHeads < 1)
    return validateConfig(config); // names the field
  config.slidingWindow.assign(config.numLayers, 0);

  // Not every writer says the head size where it is not hiddenSize / numHeads; the query projection always
  // shows it.
  int64_t queryRows = numRows(store, "blk.0.attn_q.weight");
  config.headDim = (queryRows ? queryRows : config.hiddenSize) / config.numHeads;
  GIRIH_READ_OPTIONAL(config.headDim, fields.integer("attention.key_length"));
  int64_t valueDim = config.headDim, rotaryDim = config.headDim;
  GIRIH_READ_OPTIONAL(valueDim, fields.integer("attention.value_length"));
  GIRIH_READ_OPTIONAL(rotaryDim, fields.integer("rope.dimension_count"));
  if (valueDim != config.headDim || rotaryDim != config.headDim)
    return unimplemented("keys have " + std::to_string(config.headDim) + " channels, values " +
                         std::to_string(valueDim) + ", and " + std::to_string(rotaryDim) +
                         " are rotated; only equal numbers are supported");
  return {};
}

Status readYarn(const GgufFields &fields, ModelConfig &config) {
  RopeScaling &scaling = config.ropeScaling;
  double extraFactor = 1;
  scaling.originalMaxPositions = config.maxPositions;
  GIRIH_READ_OPTIONAL(scaling.originalMaxPositions, fields.integer("rope.scaling.original_context_length"));
  GIRIH_READ_OPTIONAL(extraFactor, fields.number("rope.scaling.attn_factor"));
  GIRIH_READ_OPTIONAL(scaling.betaFast, fields.number("rope.scaling.yarn_beta_fast"));
  GIRIH_READ_OPTIONAL(scaling.betaSlow, fields.number("rope.scaling.yarn_beta_slow"));
  scaling.attentionFactor = yarnAttentionFactor(scaling.factor) * extraFactor;
  return {};
}

// Llama 3's scaling is stored as the table it gives.
Status readFrequencyFactors(const weights::StoredTensor &table, ModelConfig &config) {
  if (table.numElements != config.headDim / 2)
    return invalidArgument("tensor \"" + table.name + "\" has " + std::to_string(table.numElements) +
                           " elements; half the head size is " + std::to_string(config.headDim / 2));
  if (config.ropeScaling.kind != RopeScaling::Kind::None)
    return unimplemented("the file has both the table \"" + table.name + "\" and rope scaling of type " +
                         std::string(ropeScalingName(config.ropeScaling.kind)) +
                         "; one of the two is supported");
  config.ropeScaling.kind = RopeScaling::Kind::PerChannel;
  config.ropeScaling.frequencyFactors.resize(table.numElements);
  weights::dequantize(table, config.ropeScaling.frequencyFactors.data());
  return {};
}

Status readRope(const GgufFields &fields, const weights::WeightStore &store, ModelConfig &config) {
  RopeScaling &scaling = config.ropeScaling;
  GIRIH_READ_OPTIONAL(config.ropeTheta, fields.number("rope.freq_base"));
  std::string type = "none";
  GIRIH_READ_OPTIONAL(scaling.factor, fields.number("rope.scale_linear")); // older writers
  if (scaling.factor != 1)
    type = "linear";
  GIRIH_READ_OPTIONAL(type, fields.string("rope.scaling.type"));
  GIRIH_READ_OPTIONAL(scaling.factor, fields.number("rope.scaling.factor"));
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::Linear;
  } else if (type == "yarn") {
    scaling.kind = RopeScaling::Kind::Yarn;
    GIRIH_TRY(readYarn(fields, config));
  } else if (type == "none") {
    scaling.factor = 1;
  } else {
    return unimplemented("rope scaling is of type \"" + type +
                         "\"; supported are none, linear, yarn, and the table rope_freqs.weight");
  }
  if (const weights::StoredTensor *table = store.find("rope_freqs.weight"))
    return readFrequencyFactors(*table, config);
  return {};
}

Expected<std::optional<int32_t>> tokenField(const GgufFields &fields, const char *key) {
  GIRIH_ASSIGN(auto token, fields.integer(key));
  if (!token)
    return std::optional<int32_t>();
  if (*token < 0 || *token > 1 << 24)
    return invalidArgument(std::string("tokenizer.ggml.") + key + " is " + std::to_string(*token) +
                           "; not a token of any vocabulary");
  return std::optional<int32_t>(static_cast<int32_t>(*token));
}

} // namespace

Expected<ModelConfig> readGgufConfig(const weights::WeightStore &store) {
  GIRIH_ASSIGN(const FamilyRow *family, findFamily(store));
  GgufFields fields(store, family->ggufArchitecture);
  ModelConfig config;
  config.family = family->name;
  config.source = weights::CheckpointKind::Gguf;
  GIRIH_TRY(readExtents(store, *family, config));
  config.attentionScale = 1 / std::sqrt(static_cast<double>(config.headDim));
  GIRIH_ASSIGN(config.normEpsilon, store.metadata().number(std::string(family->ggufArchitecture) +
                                                           ".attention.layer_norm_rms_epsilon"));
  GIRIH_TRY(readRope(fields, store, config));
  config.ropeConvention = family->ggufRopeConvention;
  GIRIH_ASSIGN(config.activation, parseActivation(family->defaultActivation));
  config.isTied = !store.find("output.weight");
  GIRIH_TRY(family->finishGguf(fields, store, config));
  return config;
}

Expected<GenerationDefaults> readGgufGenerationDefaults(const weights::WeightStore &store) {
  GgufFields fields(store, "tokenizer.ggml");
  GenerationDefaults defaults;
  GIRIH_ASSIGN(defaults.bosToken, tokenField(fields, "bos_token_id"));
  GIRIH_ASSIGN(defaults.padToken, tokenField(fields, "padding_token_id"));
  // Chat models end a turn with `eot`, where the file names one besides `eos`.
  for (const char *key : {"eos_token_id", "eot_token_id"}) {
    GIRIH_ASSIGN(auto token, tokenField(fields, key));
    if (token && (defaults.eosTokens.empty() || defaults.eosTokens[0] != *token))
      defaults.eosTokens.push_back(*token);
  }
  GgufFields sampling(store, "general.sampling");
  GIRIH_ASSIGN(defaults.temperature, sampling.number("temp"));
  GIRIH_ASSIGN(defaults.topK, sampling.integer("top_k"));
  GIRIH_ASSIGN(defaults.topP, sampling.number("top_p"));
  GIRIH_ASSIGN(defaults.minP, sampling.number("min_p"));
  GIRIH_ASSIGN(defaults.repetitionPenalty, sampling.number("penalty_repeat"));
  return defaults;
}

} // namespace girih::models
