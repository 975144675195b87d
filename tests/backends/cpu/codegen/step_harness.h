// SPDX-License-Identifier: Apache-2.0
// StepHarness: compiles a scheduled step module from text, loads the image and runs it on a small team.
#pragma once

#include "runtime/abi/step.h"
#include "runtime/base/expected.h"

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace girih::cpu::test {

// The step's buffers are 64-byte aligned, as its ABI promises.
template <typename T> struct LineAllocator {
  using value_type = T;
  T *allocate(size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T *pointer, size_t) { ::operator delete(pointer, std::align_val_t(64)); }
  bool operator==(const LineAllocator &) const { return true; }
};
using Bytes = std::vector<uint8_t, LineAllocator<uint8_t>>;

// A step's memory and arguments, owned by vectors that tests fill and read. Arena bytes start as 0xCC, so that a
// kernel that reads what nobody wrote is seen.
struct StepData {
  Bytes weights, arena, kvPool;
  std::vector<int32_t> tokens, positions, tokenSequences, kvSlots, sequenceStarts, contextLengths, blockTables,
      logitRows;
  std::vector<float> logits;
  unsigned controlWord = 0x1f80;  // MXCSR; the runtime's team runs with 0x9fc0, subnormals flushed
  int64_t numTokens = 1, numSequences = 1, blockTableStride = 1;

  // f32 values of the arena or the weights, from a byte offset on.
  float *arenaAt(int64_t bytes) { return reinterpret_cast<float *>(arena.data() + bytes); }
  float *weightsAt(int64_t bytes) { return reinterpret_cast<float *>(weights.data() + bytes); }
};

class Step {
public:
  // Compiles and loads; `isa` as in cpuTarget. Fails as compileStepModule does.
  static Expected<std::unique_ptr<Step>> compile(const std::string &module, const std::string &isa);
  ~Step();

  // Runs `entry` on `numThreads` threads. Requires: the module exports it.
  void run(StepData &data, int numThreads, const std::string &entry = "girih_step_t8") const;

  const std::vector<uint8_t> &image() const { return bytes; }

private:
  std::vector<uint8_t> bytes;
  void *library = nullptr;
};

// The ISA rows that this machine can run, best last.
std::vector<std::string> runnableIsas();

}  // namespace girih::cpu::test
