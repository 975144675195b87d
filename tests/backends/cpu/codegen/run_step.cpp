// SPDX-License-Identifier: Apache-2.0
// runStep: implementation.
#include "tests/backends/cpu/codegen/run_step.h"

#include <atomic>
#include <fstream>
#include <thread>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace girih::cpu::test {

namespace {

// Every thread waits until all have come; a test's team may be slower than the runtime's.
struct Team {
  int numThreads = 1;
  std::atomic<int64_t> arrived{0};

  static void barrier(void *team, int64_t) {
    auto *self = static_cast<Team *>(team);
    int64_t ticket = self->arrived.fetch_add(1);
    int64_t target = (ticket / self->numThreads + 1) * self->numThreads;
    for (int spins = 0; self->arrived.load() < target; ++spins)
      if (spins >= 4096)
        std::this_thread::yield();
  }
};

// How this thread rounds and what it does with subnormals, put back at the end.
class FloatControl {
public:
  explicit FloatControl(bool flushesSubnormals) : saved(get()) {
    set(flushesSubnormals ? kFlushing : kDefault);
  }
  ~FloatControl() { set(saved); }

private:
#if defined(__x86_64__)
  static constexpr uint64_t kDefault = 0x1f80, kFlushing = 0x9fc0; // MXCSR
  static uint64_t get() { return _mm_getcsr(); }
  static void set(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#else
  static constexpr uint64_t kDefault = 0, kFlushing = uint64_t{1} << 24; // FPCR
  static uint64_t get() {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }
#endif
  uint64_t saved;
};

girih_step_args argsOf(StepData &data, Team &team) {
  girih_step_args args = {};
  args.struct_size = sizeof(args);
  args.num_tokens = data.numTokens;
  args.num_sequences = data.numSequences;
  args.num_logit_rows = static_cast<int64_t>(data.logitRows.size());
  args.tokens = data.tokens.data();
  args.positions = data.positions.data();
  args.token_sequences = data.tokenSequences.data();
  args.kv_slots = data.kvSlots.data();
  args.sequence_starts = data.sequenceStarts.data();
  args.context_lengths = data.contextLengths.data();
  args.block_tables = data.blockTables.data();
  args.block_table_stride = data.blockTableStride;
  args.logit_rows = data.logitRows.data();
  args.logits = data.logits.data();
  args.weights = data.weights.data();
  args.kv_pool = data.kvPool.data();
  args.arena = data.arena.data();
  args.barrier = &Team::barrier;
  args.team = &team;
  return args;
}

template <typename Visit> void forEachVector(StepData &data, Visit visit) {
  visit(data.weights), visit(data.arena), visit(data.kvPool), visit(data.tokens), visit(data.positions);
  visit(data.tokenSequences), visit(data.kvSlots), visit(data.sequenceStarts), visit(data.contextLengths);
  visit(data.blockTables), visit(data.logitRows), visit(data.logits);
}

} // namespace

void runStep(girih_step_fn entry, StepData &data, int numThreads) {
  Team team;
  team.numThreads = numThreads;
  girih_step_args args = argsOf(data, team);
  std::vector<std::thread> threads;
  auto work = [&](int thread) {
    FloatControl control(data.flushesSubnormals);
    entry(&args, thread, numThreads);
  };
  for (int thread = 1; thread < numThreads; ++thread)
    threads.emplace_back(work, thread);
  work(0);
  for (std::thread &thread : threads)
    thread.join();
}

bool writeStepData(StepData &data, const std::string &path) {
  std::ofstream file(path, std::ios::binary);
  int64_t numbers[] = {data.numTokens, data.numSequences, data.blockTableStride, data.flushesSubnormals};
  file.write(reinterpret_cast<const char *>(numbers), sizeof(numbers));
  forEachVector(data, [&](auto &vector) {
    uint64_t count = vector.size();
    file.write(reinterpret_cast<const char *>(&count), sizeof(count));
    file.write(reinterpret_cast<const char *>(vector.data()),
               static_cast<std::streamsize>(count * sizeof(vector[0])));
  });
  return file.flush().good();
}

bool readStepData(StepData &data, const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  int64_t numbers[4] = {};
  file.read(reinterpret_cast<char *>(numbers), sizeof(numbers));
  data.numTokens = numbers[0], data.numSequences = numbers[1], data.blockTableStride = numbers[2];
  data.flushesSubnormals = numbers[3] != 0;
  forEachVector(data, [&](auto &vector) {
    uint64_t count = 0;
    file.read(reinterpret_cast<char *>(&count), sizeof(count));
    vector.resize(file ? count : 0);
    file.read(reinterpret_cast<char *>(vector.data()),
              static_cast<std::streamsize>(vector.size() * sizeof(vector[0])));
  });
  return file.good();
}

} // namespace girih::cpu::test
