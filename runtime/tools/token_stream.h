// SPDX-License-Identifier: Apache-2.0
// TokenStream: one generation as a blocking stream of tokens that Ctrl-C ends cleanly.
#pragma once

#include "runtime/engine/engine.h"

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace girih::tools {

// Counts Ctrl-C while it lives; the signal's former meaning returns afterwards. One at a time.
class InterruptScope {
public:
  InterruptScope();
  ~InterruptScope();
  static bool wasInterrupted();
};

struct GenerationOutcome {
  std::vector<int32_t> tokens;
  engine::FinishReason reason = engine::FinishReason::Failed;
  engine::Usage usage;
  bool interrupted = false;
};

// Rows of logits as they are computed; runs on the engine's thread.
using LogitSink = std::function<void(uint32_t firstPosition, uint32_t numRows, std::span<const float> rows)>;

// Runs `request` to its end, calling `onToken` on the calling thread for each token. Requires: an InterruptScope lives
// when Ctrl-C should end the generation. Fails as Engine::submit does, or with the status of the failed generation.
Expected<GenerationOutcome> streamTokens(engine::Engine &engine, engine::Request request,
                                         const std::function<void(int32_t token)> &onToken, LogitSink logitSink = nullptr);

}  // namespace girih::tools
