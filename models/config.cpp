// SPDX-License-Identifier: Apache-2.0
// ModelConfig: names, bounds, and reading one from whichever checkpoint.
#include "models/config.h"

#include "models/read_config.h"

#include <cmath>

namespace girih::models {

std::string_view ropeConventionName(RopeConvention convention) {
  return convention == RopeConvention::Half ? "half" : "interleaved";
}

std::string_view activationName(Activation activation) {
  return activation == Activation::Silu ? "silu" : "gelu_tanh";
}

std::string_view ropeScalingName(RopeScaling::Kind kind) {
  constexpr std::string_view kNames[] = {"none", "linear", "llama3", "yarn", "per_channel"};
  return kNames[static_cast<size_t>(kind)];
}

Expected<ModelConfig> readConfig(const weights::WeightStore &store) {
  bool isGguf = store.kind() == weights::CheckpointKind::Gguf;
  GIRIH_ASSIGN(ModelConfig config, isGguf ? readGgufConfig(store) : readHuggingFaceConfig(store));
  GIRIH_TRY(validateConfig(config));
  return config;
}

Expected<GenerationDefaults> readGenerationDefaults(const weights::WeightStore &store) {
  bool isGguf = store.kind() == weights::CheckpointKind::Gguf;
  GIRIH_ASSIGN(GenerationDefaults defaults,
               isGguf ? readGgufGenerationDefaults(store) : readHuggingFaceGenerationDefaults(store));
  // Writers put -1 or 0 where they mean "off"; what no sampler can use counts as not said.
  auto keepWithin = [](auto &field, double lowest, double highest) {
    if (field && !(*field >= lowest && *field <= highest))
      field.reset();
  };
  keepWithin(defaults.temperature, 0, 100);
  keepWithin(defaults.topK, 1, 1 << 24);
  keepWithin(defaults.topP, 1e-6, 1);
  keepWithin(defaults.minP, 0, 1);
  keepWithin(defaults.repetitionPenalty, 0.01, 100);
  return defaults;
}

namespace {

struct Bound {
  const char *name;
  int64_t value;
  int64_t highest;
};

// Far above any model, and low enough that products of any two fit an int64_t. Positions are exact in f32
// below 2^24.
Status checkExtents(const ModelConfig &c) {
  const Bound bounds[] = {
      {"vocabulary size", c.vocabSize, 1 << 24},
      {"hidden size", c.hiddenSize, 1 << 20},
      {"intermediate size", c.intermediateSize, 1 << 22},
      {"number of layers", c.numLayers, 4096},
      {"number of heads", c.numHeads, 1 << 14},
      {"number of kv heads", c.numKvHeads, 1 << 14},
      {"head size", c.headDim, 1 << 14},
      {"number of positions", c.maxPositions, 1 << 24},
  };
  for (const Bound &bound : bounds)
    if (bound.value < 1 || bound.value > bound.highest)
      return invalidArgument(std::string("the ") + bound.name + " is " + std::to_string(bound.value) +
                             "; must lie between 1 and " + std::to_string(bound.highest));
  return {};
}

Status checkPositive(const char *name, double value) {
  if (std::isfinite(value) && value > 0)
    return {};
  return invalidArgument(std::string("the ") + name + " is " + std::to_string(value) +
                         "; must be finite and above 0");
}

Status checkNotNegative(const char *name, double value) {
  return value == 0 ? Status() : checkPositive(name, value);
}

Status checkRope(const ModelConfig &c) {
  const RopeScaling &scaling = c.ropeScaling;
  GIRIH_TRY(checkPositive("rope base", c.ropeTheta));
  GIRIH_TRY(checkPositive("rope scaling factor", scaling.factor));
  GIRIH_TRY(checkPositive("rope attention factor", scaling.attentionFactor));
  using Kind = RopeScaling::Kind;
  if (scaling.kind == Kind::Llama3 || scaling.kind == Kind::Yarn)
    GIRIH_TRY(
        checkPositive("original number of positions of the rope scaling", scaling.originalMaxPositions));
  if (scaling.kind == Kind::Llama3) {
    GIRIH_TRY(checkPositive("low frequency factor of the rope scaling", scaling.lowFrequencyFactor));
    if (!(scaling.highFrequencyFactor > scaling.lowFrequencyFactor))
      return invalidArgument("the high frequency factor of the rope scaling is " +
                             std::to_string(scaling.highFrequencyFactor) + "; must be above the low one, " +
                             std::to_string(scaling.lowFrequencyFactor));
  }
  if (scaling.kind == Kind::Yarn) {
    GIRIH_TRY(checkPositive("beta_fast of the rope scaling", scaling.betaFast));
    GIRIH_TRY(checkPositive("beta_slow of the rope scaling", scaling.betaSlow));
    if (c.ropeTheta == 1)
      return invalidArgument("the rope base is 1; YaRN needs its logarithm to differ from 0");
  }
  if (scaling.kind != Kind::PerChannel)
    return {};
  if (static_cast<int64_t>(scaling.frequencyFactors.size()) != c.headDim / 2)
    return invalidArgument("the table of rope frequency factors has " +
                           std::to_string(scaling.frequencyFactors.size()) +
                           " entries; half the head size is " + std::to_string(c.headDim / 2));
  for (float factor : scaling.frequencyFactors)
    GIRIH_TRY(checkPositive("rope frequency factor", factor));
  return {};
}

} // namespace

Status validateConfig(const ModelConfig &c) {
  GIRIH_TRY(checkExtents(c));
  if (c.numHeads % c.numKvHeads != 0)
    return invalidArgument("the model has " + std::to_string(c.numHeads) + " heads and " +
                           std::to_string(c.numKvHeads) +
                           " kv heads; the number of kv heads must divide the number of heads");
  if (c.headDim % 2 != 0)
    return invalidArgument("the head size is " + std::to_string(c.headDim) +
                           "; rotary embedding needs an even one");
  GIRIH_TRY(checkPositive("norm epsilon", c.normEpsilon));
  GIRIH_TRY(checkPositive("embedding scale", c.embeddingScale));
  GIRIH_TRY(checkPositive("attention scale", c.attentionScale));
  GIRIH_TRY(checkNotNegative("attention soft cap", c.attentionSoftCap));
  GIRIH_TRY(checkNotNegative("final soft cap", c.finalSoftCap));
  GIRIH_CHECK(static_cast<int64_t>(c.slidingWindow.size()) == c.numLayers);
  for (int64_t window : c.slidingWindow)
    if (window < 0)
      return invalidArgument("the sliding window is " + std::to_string(window) +
                             "; must be at least 1, or absent");
  return checkRope(c);
}

} // namespace girih::models
