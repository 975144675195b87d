// SPDX-License-Identifier: Apache-2.0
// Causal self-attention as the textbook has it: project, rotate, score, mask, softmax, mix, project.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

struct AttentionOptions {
  bool normalizesHeads = false; // RMS norm over D of every query and key head, before the rotation
};

// x [T, E] -> [T, E]; the weights are those of `self_attn` in the current scope. Window, soft cap and scale
// are the config's for `layer`.
Value selfAttention(GraphBuilder &g, int64_t layer, Value x, Value cos, Value sin,
                    AttentionOptions options = {});

} // namespace girih::models
