// SPDX-License-Identifier: Apache-2.0
// The frame that decoder-only families share: embedding, rotary table, layers, head.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

// x [T, E], cos and sin [T, D/2] -> [T, E]
using LayerBuilder = llvm::function_ref<Value(GraphBuilder &g, int64_t layer, Value x, Value cos, Value sin)>;

// Adds @embed, @rotary, @layer_0 .. and @head.
void buildDecoder(GraphBuilder &g, LayerBuilder buildLayer);

} // namespace girih::models
