// SPDX-License-Identifier: Apache-2.0
// GraphBench: a graph of runtime/abi/graph.h on the backend under test, its four bindings filled with guards.
#pragma once

#include "tests/backends/conformance/suite.h"

#include "runtime/abi/graph.h"
#include "runtime/abi/step.h"

namespace girih::conformance {

// Whether its compile table takes the text as it is.
bool takesGraphs(const Subject &subject);

struct CompiledGraph {
  hal::Executable executable;
  uint64_t scratchBytesPerThread = 0;
  // What it declares; see girih_artifact_info.
  std::string accumulateType = "f32", activationType = "f32";
};
// By the subject's compiler where one is named, with scratch memory behind `arenaBytes`; else by the backend's own compile
// table. Fails: Unimplemented when there is neither, or not for these operations.
Expected<CompiledGraph> compileGraph(const Subject &subject, std::shared_ptr<hal::Device> device, const std::string &text,
                                     const std::vector<std::string> &entries, uint64_t arenaBytes = 4096);

constexpr uint8_t kGuard = 0xa5; // and the binding's number, so that a mix-up is seen

struct GraphBench {
  static constexpr uint64_t kBindingBytes = 4096; // where nothing else is asked for

  std::shared_ptr<hal::Device> device;
  uint64_t bindingBytes = kBindingBytes;
  std::vector<hal::Buffer> bindings; // the arena is larger, by the scratch memory of the image
  CompiledGraph graph;
  std::string text, record; // what was compiled, and the folder that `run` records steps in; see Subject
  std::vector<std::string> entries;
  girih_step_args tokens = {}; // what a case says of its tokens' places; `submission` fills the rest
  girih_step_args args = {};
  girih_buffer_view views[GIRIH_STEP_NUM_BINDINGS] = {};

  static Expected<GraphBench> create(const Subject &subject, const std::string &body,
                                     const std::vector<std::string> &entries, int64_t numThreads = 1,
                                     uint64_t bindingBytes = kBindingBytes);
  // Of kernels as C99 (kernel.h). Fails: Unimplemented where the backend takes none.
  static Expected<GraphBench> createOfKernels(const Subject &subject, const std::string &text,
                                              const std::vector<std::string> &entries, int64_t numThreads = 0,
                                              uint64_t bindingBytes = kBindingBytes);
  Status resetGuards();
  // Points into this bench; good until the next call.
  girih_submission submission(uint64_t entry, int64_t numTokens = 1);
  Status run(uint64_t entry, int64_t numTokens = 1);
  // Without scratch memory.
  Expected<std::vector<uint8_t>> bytesOf(int binding);
  // "" when `binding` holds `expected` at `offset` and its guard everywhere else.
  Expected<std::string> differenceAt(int binding, uint64_t offset, std::span<const uint8_t> expected);

private:
  Status allocate();
  // As the files `step`, `entry` and one of each binding's name, over those of the step before.
  Status recordStep(uint64_t entry, int64_t numTokens);
};

// Ends a case when the graph cannot be compiled, or when bytes differ.
#define BENCH(bench, ...)                                                                                    \
  auto bench##Made = GraphBench::create(subject, __VA_ARGS__);                                               \
  if (!bench##Made.isOk())                                                                                   \
    return findingOf(bench##Made.status());                                                                  \
  GraphBench &bench = *bench##Made
#define EXPECT_BYTES(bench, binding, offset, expected)                                                       \
  do {                                                                                                       \
    auto difference = (bench).differenceAt(binding, offset, expected);                                       \
    if (!difference.isOk())                                                                                  \
      return findingOf(difference.status());                                                                 \
    if (!difference->empty())                                                                                \
      return fail(*difference);                                                                              \
  } while (false)

} // namespace girih::conformance
