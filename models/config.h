// SPDX-License-Identifier: Apache-2.0
// ModelConfig: what a checkpoint says about its model, checked, in one vocabulary whatever file it came from.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/weights/weight_store.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::models {

// Which two elements of a head a rotation turns: (d, d + D/2), or (2d, 2d + 1). A property of how the
// checkpoint stores the projections, not of the family: GGUF files of llama are stored for interleaved pairs.
enum class RopeConvention : uint8_t { Half, Interleaved };
enum class Activation : uint8_t { Silu, GeluTanh };
std::string_view ropeConventionName(RopeConvention convention); // "half", "interleaved"
std::string_view activationName(Activation activation);         // "silu", "gelu_tanh"

// How the rotary frequencies of a longer context derive from the trained ones.
struct RopeScaling {
  enum class Kind : uint8_t {
    None,
    Linear,     // every frequency / factor
    Llama3,     // low frequencies / factor, high ones kept, a ramp between
    Yarn,       // the same by number of rotations; cos and sin are scaled too
    PerChannel, // frequency d / frequencyFactors[d]: the table `rope_freqs.weight` of a GGUF file
  };
  Kind kind = Kind::None;
  double factor = 1;
  int64_t originalMaxPositions = 0;
  double lowFrequencyFactor = 1;       // Llama3
  double highFrequencyFactor = 4;      // Llama3
  double betaFast = 32;                // Yarn: rotations over the trained context, above: kept
  double betaSlow = 1;                 // Yarn: below: / factor
  bool truncate = true;                // Yarn: the ramp's ends are whole channels
  double attentionFactor = 1;          // Yarn: of cos and sin
  std::vector<float> frequencyFactors; // PerChannel, [D/2]
};
std::string_view ropeScalingName(RopeScaling::Kind kind);

struct ModelConfig {
  std::string family; // a row of the registry: "llama"
  weights::CheckpointKind source = weights::CheckpointKind::Gguf;

  int64_t vocabSize = 0;        // V
  int64_t hiddenSize = 0;       // E
  int64_t intermediateSize = 0; // F
  int64_t numLayers = 0;
  int64_t numHeads = 0;   // H
  int64_t numKvHeads = 0; // G, divides H
  int64_t headDim = 0;    // D, even
  int64_t maxPositions = 0;

  double normEpsilon = 1e-6;
  bool normAddsOne = false; // the stored norm weight w stands for 1 + w
  Activation activation = Activation::Silu;
  double embeddingScale = 1;   // of the embedding's rows
  double attentionScale = 1;   // of the scores, before soft cap
  double attentionSoftCap = 0; // 0: none
  double finalSoftCap = 0;     // 0: none

  double ropeTheta = 10000;
  RopeScaling ropeScaling;
  RopeConvention ropeConvention = RopeConvention::Half;
  std::vector<int64_t> slidingWindow; // one a layer; 0: attends to everything before it

  bool hasPostNorms = false; // norms after attention and feed-forward besides those before
  bool hasQkvBias = false;
  bool hasOutputBias = false;
  bool hasMlpBias = false;
  bool isTied = false; // the head reads the embedding's weight
};

// What generation should do when a user says nothing. Absent: the checkpoint does not say.
struct GenerationDefaults {
  std::optional<int32_t> bosToken;
  std::optional<int32_t> padToken;
  std::vector<int32_t> eosTokens; // any of them ends the answer
  std::optional<bool> doSample;
  std::optional<double> temperature;
  std::optional<int64_t> topK;
  std::optional<double> topP;
  std::optional<double> minP;
  std::optional<double> repetitionPenalty;
};

// Reads GGUF metadata or config.json. Fails: NotFound (a field that every model needs, no config.json),
// InvalidArgument (out of bounds, inconsistent), Unimplemented (family, rope scaling, activation: each names
// all that are supported).
Expected<ModelConfig> readConfig(const weights::WeightStore &store);
Expected<GenerationDefaults> readGenerationDefaults(const weights::WeightStore &store);

// The bounds and relations every config must satisfy. Fails: InvalidArgument.
Status validateConfig(const ModelConfig &config);

// [D/2] f32, rounded where Hugging Face rounds, scaling applied.
std::vector<float> rotaryFrequencies(const ModelConfig &config);

} // namespace girih::models
