// SPDX-License-Identifier: Apache-2.0
// benchKernels: how long each dispatch of a program's steps takes, beside what the compiler predicted.
#pragma once

#include "runtime/engine/engine.h"

#include <vector>

namespace girih::engine {

struct KernelBenchOptions {
  uint32_t contextTokens = 0; // positions that each sequence has in the cache already
  uint32_t repetitions = 5;   // timed steps of each entry, after 100 ms of them that are not
};

// One dispatch: from the meeting of the threads before it to the one after it, so the slowest thread counts.
struct KernelTime {
  program::DispatchReport report;      // with the prediction, for one run of it at the bench's context
  double median = 0.0, min = 0.0, max = 0.0; // seconds of one run of it, over all layers and steps
};

// One entry at its largest: `numSequences` of them share `numTokens`, and every token's logits are wanted, as the
// compiler's prediction supposes.
struct StepProfile {
  std::string entry;
  uint32_t numTokens = 0, numSequences = 0;
  double seconds = 0.0;     // median of a timed step
  std::vector<KernelTime> kernels; // in running order
};

struct KernelBenchResult {
  std::string isa;
  int32_t numThreads = 0;
  std::vector<StepProfile> steps;
};

// Fails: as bench does; FailedPrecondition when the file does not say what its dispatches are.
Expected<KernelBenchResult> benchKernels(std::shared_ptr<const program::Program> program, const EngineOptions &options,
                                         const KernelBenchOptions &bench);

// Half of the kernels are predicted with at most this error (|predicted - measured| / measured), and whether the three
// dearest, counting all layers, come in the order that was predicted.
struct PredictionQuality {
  double medianError = 0.0;
  bool isOrderRight = false;
};
PredictionQuality judgePredictions(const StepProfile &step);

} // namespace girih::engine
