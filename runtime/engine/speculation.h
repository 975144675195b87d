// SPDX-License-Identifier: Apache-2.0
// Speculation: which sequences of the next step try how many guesses of what they will say.
#pragma once

#include "runtime/engine/draft_model.h"
#include "runtime/engine/drafter.h"
#include "runtime/engine/sequence.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace girih::engine {

struct SpeculationOptions {
  uint32_t maxDraft = 0;  // guesses of one sequence in a step; 0: none are made
  bool isEager = false;   // also where they do not pay (tests)
};

// Guesses are fed behind the token that is due, and the step's logits say which of them the model would have said: a row is
// sampled from only if all guesses before it were. Tokens are therefore those of steps without guesses, as far as the
// program's rows do not depend on their company. They come from the sequence's own text, or from a smaller model where that
// promises more. Owned by the engine's thread.
class Speculation {
public:
  // `model` may be null.
  Speculation(const SpeculationOptions &options, std::unique_ptr<DraftModel> model)
      : options(options), model(std::move(model)) {}

  bool isOn() const { return options.maxDraft > 0; }
  // Fills the drafts of these sequences, which are all that the next step has, each with one token to feed; it may have at
  // most `maxRows` rows. Fails as the draft model does, which then is dropped: there are no guesses of it any more.
  Status guess(std::span<Sequence *const> generating, uint32_t maxRows);
  // A step of so many single tokens and guesses, and of nothing else, took so long.
  void observeStep(uint32_t numRows, double seconds) { costs.observe(numRows, seconds); }
  // What became of a sequence's guesses.
  void observeDraft(Sequence &sequence, uint32_t numAccepted);
  // The sequence ends.
  void release(Sequence &sequence);
  // Its device is lost.
  void dropModel() { model.reset(); }
  double modelSeconds() const { return model ? model->seconds() : 0.0; }

private:
  // The next step, as far as it is known.
  struct Expectation {
    uint32_t numRows;
    double numTokens; // that it yields
    double secondsOfModel = 0.0;
  };
  uint32_t mostGuesses(const Sequence &sequence, const Expectation &step, uint32_t maxRows) const;
  void guessFromText(Sequence &sequence, const Expectation &step, uint32_t most);
  uint32_t guessesOfModel(Sequence &sequence, const Expectation &step, uint32_t most,
                          const GuessPrice &price);
  void choose(Sequence &sequence, uint32_t most, uint32_t numGenerating, Expectation &step);

  const SpeculationOptions options;
  StepCosts costs;
  std::unique_ptr<DraftModel> model;
  DraftRecord ofModel; // over all sequences: what a new one expects of it
  std::vector<Sequence *> asking;
};

} // namespace girih::engine
