// SPDX-License-Identifier: Apache-2.0
// Linear projections, residual sums, and the two ends of a model: embedding and head.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

// y[t, n] = sum over k of x[t, k] * w[n, k], plus the bias [N] if there is one; w and bias belong to `part`.
Value project(GraphBuilder &g, llvm::StringRef part, Value x, int64_t numOutputs, bool hasBias);
// Elementwise a + b, [T, E].
Value addResidual(GraphBuilder &g, Value a, Value b);
// c * tanh(x / c) over any shape; x itself when c is 0.
Value softCap(GraphBuilder &g, Value x, double cap);

// Adds `@embed`: tokens[T] -> [T, E], scaled where the config says so.
void buildEmbedding(GraphBuilder &g);
// Adds `@head`: [T, E] -> logits[T, V]: last norm, projection by the head's (or the embedding's) weight, soft
// cap.
void buildHead(GraphBuilder &g);

} // namespace girih::models
