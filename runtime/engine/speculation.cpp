// SPDX-License-Identifier: Apache-2.0
// Speculation: one sequence after the other, as long as a row more is expected to pay.
#include "runtime/engine/speculation.h"

#include <algorithm>

namespace girih::engine {
namespace {

// What the draft model must read first has to come back within so many steps.
constexpr double kStepsToPayFor = 64.0;

} // namespace

Status Speculation::guess(std::span<Sequence *const> generating, uint32_t maxRows) {
  uint32_t numGenerating = static_cast<uint32_t>(generating.size());
  Expectation step{numGenerating, static_cast<double>(numGenerating)};
  maxRows = std::min(maxRows, StepCosts::kMaxRows);
  asking.clear();
  for (Sequence *sequence : generating)
    sequence->draft.clear();
  // What steps without guesses cost is known from having taken one.
  if (!options.isEager && !costs.isKnown(numGenerating))
    return {};
  for (Sequence *sequence : generating) {
    uint32_t most = mostGuesses(*sequence, step, maxRows);
    if (most == 0)
      continue;
    sequence->draft.reserve(options.maxDraft);
    choose(*sequence, most, numGenerating, step);
  }
  if (asking.empty())
    return {};
  Status status = model->propose(asking);
  if (!status.isOk()) {
    for (Sequence *sequence : asking)
      sequence->draft.clear();
    dropModel();
  }
  return status;
}

uint32_t Speculation::mostGuesses(const Sequence &sequence, const Expectation &step, uint32_t maxRows) const {
  // Who wants logits wants those of each token once. The last token of all is never fed.
  if (step.numRows >= maxRows || sequence.request.wantLogits ||
      sequence.tokens.size() + 1 >= sequence.maxTokens)
    return 0;
  uint32_t room = sequence.maxTokens - static_cast<uint32_t>(sequence.tokens.size()) - 1;
  return std::min({options.maxDraft, room, maxRows - step.numRows});
}

// The source that promises more tokens a second.
void Speculation::choose(Sequence &sequence, uint32_t most, uint32_t numGenerating, Expectation &step) {
  guessFromText(sequence, step, most);
  DraftSource source = DraftSource::Text;
  uint32_t numGuesses = static_cast<uint32_t>(sequence.draft.size());
  if (model) {
    GuessPrice price{step.secondsOfModel, model->secondsPerGuess(numGenerating)};
    uint32_t numOfModel = guessesOfModel(sequence, step, most, price);
    auto rateOf = [&](DraftSource of, uint32_t length, const GuessPrice &its) {
      return costs.rate(step.numRows, step.numTokens, sequence.draftsOf(of).acceptance(), length, its);
    };
    bool isBetter = numGuesses == 0 ||
                    (!options.isEager && rateOf(DraftSource::Model, numOfModel, price) >
                                             rateOf(DraftSource::Text, numGuesses, {step.secondsOfModel}));
    if (numOfModel > 0 && isBetter) {
      source = DraftSource::Model;
      numGuesses = sequence.draftCache.numWanted = numOfModel;
      sequence.draft.clear();
      sequence.draftCache.hasStarted = true;
      asking.push_back(&sequence);
      step.secondsOfModel += numGuesses * price.secondsEach;
    }
  }
  sequence.draftSource = source;
  step.numRows += numGuesses;
  double chance = 1.0;
  for (uint32_t guess = 0; guess < numGuesses; ++guess)
    step.numTokens += chance *= sequence.draftsOf(source).acceptance();
}

void Speculation::guessFromText(Sequence &sequence, const Expectation &step, uint32_t most) {
  DraftRecord &record = sequence.draftsOf(DraftSource::Text);
  sequence.ngrams.propose(sequence.tokens, sequence.maxTokens, most, sequence.draft);
  if (options.isEager || sequence.draft.empty())
    return;
  uint32_t numGuesses = static_cast<uint32_t>(sequence.draft.size());
  sequence.draft.resize(costs.bestDraft(step.numRows, step.numTokens, record.acceptance(), numGuesses));
  if (sequence.draft.empty())
    record.forgetSome();
}

// How many guesses of the draft model would pay, what it has still to read of the sequence included.
uint32_t Speculation::guessesOfModel(Sequence &sequence, const Expectation &step, uint32_t most,
                                     const GuessPrice &price) {
  if (options.isEager)
    return most;
  DraftRecord &record = sequence.draftsOf(DraftSource::Model);
  if (!sequence.draftCache.hasStarted)
    record.startFrom(ofModel.acceptance());
  GuessPrice whole = price;
  whole.secondsBefore += model->secondsToCatchUp(sequence) / kStepsToPayFor;
  uint32_t numGuesses = costs.bestDraft(step.numRows, step.numTokens, record.acceptance(), most, whole);
  // bestDraft compares with steps that have read the text, too: whether to read it at all is asked here.
  if (numGuesses > 0 && costs.rate(step.numRows, step.numTokens, record.acceptance(), numGuesses, whole) <=
                            costs.rate(step.numRows, step.numTokens, 0.0, 0, price))
    numGuesses = 0;
  if (numGuesses == 0) {
    record.forgetSome();
    ofModel.forgetSome();
  }
  return numGuesses;
}

void Speculation::observeDraft(Sequence &sequence, uint32_t numAccepted) {
  sequence.draftsOf(sequence.draftSource).observe(sequence.numDrafted, numAccepted);
  if (sequence.draftSource == DraftSource::Model)
    ofModel.observe(sequence.numDrafted, numAccepted);
}

void Speculation::release(Sequence &sequence) {
  if (model)
    model->release(sequence);
}

} // namespace girih::engine
