// SPDX-License-Identifier: Apache-2.0
// The gated feed-forward block.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

// down(activation(gate(x)) * up(x)), x [T, E] -> [T, E]; the weights are those of `mlp` in the current scope.
Value gatedMlp(GraphBuilder &g, Value x);

} // namespace girih::models
