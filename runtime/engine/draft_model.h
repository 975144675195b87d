// SPDX-License-Identifier: Apache-2.0
// DraftModel: a smaller program over the same vocabulary, which guesses what a larger one will say.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/engine/drafter.h"
#include "runtime/engine/sampler.h"
#include "runtime/engine/sequence.h"
#include "runtime/program/executor.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace girih::engine {

// Fails: InvalidArgument where the draft's tokens are not the model's, or it keeps no KV to go on from.
Status checkDraft(const program::Program &model, const program::Program &draft);

struct DraftModelOptions {
  uint32_t numKvBlocks = 0; // of its own pool: nobody's KV of the model is given up for it
  uint32_t maxSequences = 1;
};

// Runs on the device of the model, whose threads wait meanwhile. What it has seen of a sequence stays in the sequence's
// DraftCache. Owned by the engine's thread.
class DraftModel {
public:
  static Expected<std::unique_ptr<DraftModel>> create(std::shared_ptr<const program::Program> program,
                                                      const program::ExecutorOptions &executorOptions,
                                                      const DraftModelOptions &options);

  // Guesses `draftCache.numWanted` tokens of each into its draft, by the sequence's own sampling and noise: where both models
  // think alike, they then also draw alike. None where it must still read a longer text, of which each call takes a part,
  // or where the pool is full. Fails as the device does.
  Status propose(std::span<Sequence *const> sequences);
  void release(Sequence &sequence);

  // What a guess costs where so many sequences guess together; 0: not known yet.
  double secondsPerGuess(uint32_t numSequences) const;
  // What reading the tokens costs that it has not seen of a sequence.
  double secondsToCatchUp(const Sequence &sequence) const;
  double seconds() const { return totalSeconds; } // in its steps

private:
  DraftModel(std::unique_ptr<program::Executor> executor, const DraftModelOptions &options);
  bool prepare(Sequence &sequence);
  void gather(std::span<Sequence *const> sequences, bool isFirst);
  Status runStep();

  std::unique_ptr<program::Executor> executor;
  program::StepBatch batch;
  Sampler sampler;
  std::vector<int32_t> freeBlocks;
  std::vector<Sequence *> fed; // of the step in the making
  StepCosts costs;             // of steps of a token or two each
  double promptSecondsPerToken = 0.0;
  double totalSeconds = 0.0;
};

} // namespace girih::engine
