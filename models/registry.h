// SPDX-License-Identifier: Apache-2.0
// The model families Girih can import: one row each.
#pragma once

#include "models/config.h"
#include "models/config_fields.h"

#include <span>
#include <string>
#include <string_view>

namespace girih::models {

class GraphBuilder;

struct FamilyRow {
  std::string_view name;             // as `model_type` of config.json has it
  std::string_view ggufArchitecture; // `general.architecture`, and the prefix of its keys; may be shared
  // What config.json leaves out when it equals the family's default.
  int64_t defaultHeadDim; // 0: hiddenSize / numHeads
  int64_t defaultMaxPositions;
  bool defaultIsTied;
  std::string_view activationKey;     // of config.json
  std::string_view defaultActivation; // as that key spells it; GGUF files say nothing, so it is theirs
  RopeConvention ggufRopeConvention;  // how GGUF stores this family's projections

  // Fill what only this family has (biases, windows, soft caps, scales), after the common fields.
  Status (*finishGguf)(const GgufFields &fields, const weights::WeightStore &store, ModelConfig &config);
  Status (*finishHuggingFace)(const JsonFields &fields, ModelConfig &config);

  // Adds @embed, @rotary, every @layer_i and @head. Failures stay in the builder.
  void (*build)(GraphBuilder &builder);
};

std::span<const FamilyRow> families();
const FamilyRow *findFamilyByModelType(std::string_view modelType);
// The first row of that architecture.
const FamilyRow *findFamilyByGgufArchitecture(std::string_view architecture);

// A file a family.
FamilyRow llamaFamily();
FamilyRow mistralFamily();
FamilyRow qwen2Family();
FamilyRow qwen3Family();
FamilyRow gemma2Family();

} // namespace girih::models
