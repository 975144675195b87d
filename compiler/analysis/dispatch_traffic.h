// SPDX-License-Identifier: Apache-2.0
// What a dispatch reads and writes of memory that outlives it, each byte once.
#pragma once

#include "compiler/analysis/cost_model.h"

namespace girih::compiler {

struct DispatchTraffic {
  double streamedBytes = 0;    // weights and caches: next touched in the next step
  double activationBytes = 0;  // what dispatches hand each other
};

// `units` tiles make the dispatch. Buffers of a thread alone do not count.
DispatchTraffic trafficOf(mlir::scf::ForallOp loop, const BatchShape &batch, double units);

// All weights of the module, and the caches of all layers, that a step passes by.
double stepStreamBytes(mlir::Operation *op, const BatchShape &batch);

// Elements of a shaped type whose dynamic extents are rows of tokens; 0 for other types.
double elementsOf(mlir::Type type, int64_t numTokens);

}  // namespace girih::compiler
