// SPDX-License-Identifier: Apache-2.0
// Speculation: which sequences of the next step try how many guesses of what they will say.
#pragma once

#include "runtime/engine/drafter.h"
#include "runtime/engine/sequence.h"

#include <cstdint>
#include <span>

namespace girih::engine {

struct SpeculationOptions {
  uint32_t maxDraft = 0;  // guesses of one sequence in a step; 0: none are made
  bool isEager = false;   // also where they do not pay (tests)
};

// Guesses are fed behind the token that is due, and the step's logits say which of them the model would have said: a row is
// sampled from only if all guesses before it were. Tokens are therefore those of steps without guesses, as far as the
// program's rows do not depend on their company. Owned by the engine's thread.
class Speculation {
public:
  explicit Speculation(const SpeculationOptions &options) : options(options) {}

  bool isOn() const { return options.maxDraft > 0; }
  // Fills the drafts of these sequences, which are all that the next step has, each with one token to feed; it may have at
  // most `maxRows` rows.
  void guess(std::span<Sequence *const> generating, uint32_t maxRows);
  // A step of so many single tokens and guesses, and of nothing else, took so long.
  void observeStep(uint32_t numRows, double seconds) { costs.observe(numRows, seconds); }

private:
  void guessFor(Sequence &sequence, uint32_t numRows, double numTokens, uint32_t most);

  const SpeculationOptions options;
  StepCosts costs;
};

} // namespace girih::engine
