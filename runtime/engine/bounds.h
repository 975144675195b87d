// SPDX-License-Identifier: Apache-2.0
// Bounds: what an engine's options come to for a program.
#pragma once

#include "runtime/engine/engine.h"

#include <cstdint>

namespace girih::engine {

struct Bounds {
  uint32_t contextTokens;
  uint32_t maxTokensPerStep;
  uint32_t maxSequences;
  uint32_t numKvBlocks;
};

// Fails: InvalidArgument naming an option that the program cannot serve.
Expected<Bounds> resolveOptions(const program::Model &model, const EngineOptions &options);

} // namespace girih::engine
