// SPDX-License-Identifier: Apache-2.0
// The two readers behind readConfig and readGenerationDefaults.
#pragma once

#include "models/config.h"

namespace girih::models {

Expected<ModelConfig> readGgufConfig(const weights::WeightStore &store);
Expected<ModelConfig> readHuggingFaceConfig(const weights::WeightStore &store);
Expected<GenerationDefaults> readGgufGenerationDefaults(const weights::WeightStore &store);
Expected<GenerationDefaults> readHuggingFaceGenerationDefaults(const weights::WeightStore &store);

// "silu", "gelu_pytorch_tanh", ... Fails: Unimplemented, with all that are supported.
Expected<Activation> parseActivation(std::string_view name);
// `0.1 ln(factor) + 1`: what YaRN multiplies cos and sin by when a checkpoint does not say.
double yarnAttentionFactor(double factor);

} // namespace girih::models
