// SPDX-License-Identifier: Apache-2.0
// A step's memory, and one call of its entry by a small team of threads. Needs no LLVM: it also runs where no compiler does.
#pragma once

#include "runtime/abi/step.h"

#include <cstdint>
#include <new>
#include <string>
#include <vector>

namespace girih::cpu::test {

// The step's buffers are 64-byte aligned, as its ABI promises.
template <typename T> struct LineAllocator {
  using value_type = T;
  T *allocate(size_t count) {
    return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T *pointer, size_t) { ::operator delete(pointer, std::align_val_t(64)); }
  bool operator==(const LineAllocator &) const { return true; }
};
using Bytes = std::vector<uint8_t, LineAllocator<uint8_t>>;

// A step's memory and arguments, owned by vectors that tests fill and read. Arena bytes start as 0xCC, so that a
// kernel that reads what nobody wrote is seen.
struct StepData {
  Bytes weights, arena, kvPool;
  std::vector<int32_t> tokens, positions, tokenSequences, kvSlots, sequenceStarts, contextLengths,
      blockTables, logitRows;
  std::vector<float> logits;
  bool flushesSubnormals = false; // as the runtime's team does
  int64_t numTokens = 1, numSequences = 1, blockTableStride = 1;

  // f32 values of the arena or the weights, from a byte offset on.
  float *arenaAt(int64_t bytes) { return reinterpret_cast<float *>(arena.data() + bytes); }
  float *weightsAt(int64_t bytes) { return reinterpret_cast<float *>(weights.data() + bytes); }
};

void runStep(girih_step_fn entry, StepData &data, int numThreads);

// To a file and back, for a step that runs in another process. False when the file is not there, or is cut.
bool writeStepData(StepData &data, const std::string &path);
bool readStepData(StepData &data, const std::string &path);

} // namespace girih::cpu::test
