// SPDX-License-Identifier: Apache-2.0
// packWeights: streams every weight of the plan from the checkpoint into the program file, in its layout.
#pragma once

#include "compiler/emit/program_writer.h"
#include "runtime/weights/weight_store.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace girih::compiler {

// One entry of the module's `girih.weights`.
struct PlannedWeight {
  std::vector<std::string> names;  // tensors whose rows are stacked
  int64_t interleave = 0;          // rows of each in turn; 0: one tensor after the other
  std::string layout;              // "p16:...", "dense:f32"
  std::vector<int64_t> shape;      // of the stack
  uint64_t offsetBytes = 0, sizeBytes = 0;
};

// Packs on `numThreads` threads, a few megabytes each at a time: no weight is ever whole in memory, packed or not, and
// the bytes are the same for any number of threads. `progress` gets the share that is done, from one thread at a time. Fails: NotFound, InvalidArgument (a tensor is not what the plan says), and as the writer does.
Status packWeights(const weights::WeightStore &store, const std::vector<PlannedWeight> &plan, ProgramWriter &writer,
                   int32_t numThreads, const std::function<void(double)> &progress);

}  // namespace girih::compiler
