// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: the angles of all positions, and the rotation of a head's channels by them.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

// Adds `@rotary`: positions[T] -> cos, sin, each [T, D/2], the attention factor of YaRN included.
void buildRotary(GraphBuilder &g);
// Rotates x [T, H, D] by cos and sin [T, D/2]. Which channels make a pair is the config's convention; the op
// that rotates carries it as the attribute `girih.rope`.
Value applyRotary(GraphBuilder &g, Value x, Value cos, Value sin);

} // namespace girih::models
