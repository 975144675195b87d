// SPDX-License-Identifier: Apache-2.0
// Speculation: one sequence after the other, as long as a row more is expected to pay.
#include "runtime/engine/speculation.h"

#include <algorithm>

namespace girih::engine {

void Speculation::guess(std::span<Sequence *const> generating, uint32_t maxRows) {
  uint32_t numRows = static_cast<uint32_t>(generating.size());
  double numTokens = numRows; // that the step is expected to yield
  maxRows = std::min(maxRows, StepCosts::kMaxRows);
  // What steps without guesses cost is known from having taken one.
  bool mayGuess = options.isEager || costs.isKnown(numRows);
  for (Sequence *sequence : generating) {
    sequence->draft.clear();
    // Who wants logits wants those of each token once. The last token of all is never fed.
    if (!mayGuess || numRows >= maxRows || sequence->request.wantLogits ||
        sequence->tokens.size() + 1 >= sequence->maxTokens)
      continue;
    uint32_t room = sequence->maxTokens - static_cast<uint32_t>(sequence->tokens.size()) - 1;
    guessFor(*sequence, numRows, numTokens, std::min({options.maxDraft, room, maxRows - numRows}));
    double chance = 1.0;
    for (size_t count = 0; count < sequence->draft.size(); ++count)
      numTokens += chance *= sequence->drafts.acceptance();
    numRows += static_cast<uint32_t>(sequence->draft.size());
  }
}

void Speculation::guessFor(Sequence &sequence, uint32_t numRows, double numTokens, uint32_t most) {
  sequence.draft.reserve(options.maxDraft);
  sequence.ngrams.propose(sequence.tokens, sequence.maxTokens, most, sequence.draft);
  if (options.isEager || sequence.draft.empty())
    return;
  uint32_t numGuesses = static_cast<uint32_t>(sequence.draft.size());
  sequence.draft.resize(costs.bestDraft(numRows, numTokens, sequence.drafts.acceptance(), numGuesses));
  if (sequence.draft.empty())
    sequence.drafts.forgetSome();
}

} // namespace girih::engine
