// SPDX-License-Identifier: Apache-2.0
// Speed of a whole scheduled step, with made-up weights: what girih-opt prints after --girih-allocate goes in.
//   cpu_step_bench FILE.mlir avx2|avx512 ENTRY TOKENS FIRST_POSITION THREADS [SEQUENCES]
#include "tests/backends/cpu/codegen/step_harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

using namespace girih::cpu::test;

namespace {

int64_t attribute(const std::string &text, const std::string &name) {
  size_t at = text.find(name + " = ");
  return at == std::string::npos ? 0 : std::atoll(text.c_str() + at + name.size() + 3);
}

// One thread is timed by its own CPU time, so that other processes on the machine disturb less.
double now(int numThreads) {
  timespec time;
  clock_gettime(numThreads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 7) {
    std::fprintf(stderr, "usage: cpu_step_bench FILE.mlir ISA ENTRY TOKENS FIRST_POSITION THREADS [SEQUENCES]\n");
    return 2;
  }
  std::stringstream stream;
  stream << std::ifstream(argv[1]).rdbuf();
  std::string text = stream.str();
  // Room for the kernels' panels behind the scratch that the planner counted.
  int64_t scratch = attribute(text, "girih.scratch_bytes"), more = scratch + (1 << 20);
  std::string old = "girih.scratch_bytes = " + std::to_string(scratch);
  text.replace(text.find(old), old.size(), "girih.scratch_bytes = " + std::to_string(more));
  int64_t numTokens = std::atoll(argv[4]), position = std::atoll(argv[5]);
  int numThreads = std::atoi(argv[6]);
  int64_t numSequences = argc > 7 ? std::atoll(argv[7]) : 1, each = numTokens / numSequences;
  auto start = std::chrono::steady_clock::now();
  auto step = Step::compile(text, argv[2]);
  if (!step.isOk()) {
    std::fprintf(stderr, "%s\n", std::string(step.status().message()).c_str());
    return 1;
  }
  std::printf("compiled in %.2f s, %zu bytes\n",
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
              (*step)->image().size());
  if (const char *path = std::getenv("GIRIH_BENCH_IMAGE"))
    std::ofstream(path).write(reinterpret_cast<const char *>((*step)->image().data()), (*step)->image().size());
  StepData data;
  data.weights.assign(attribute(text, "girih.weight_bytes") + 4096, 0x38);  // every f16 0.53, every f32 4.4e-5: no value underflows
  data.arena.assign(attribute(text, "girih.arena_bytes") + numThreads * more, 0);
  data.blockTableStride = (position + each) / 16 + 1;
  data.kvPool.assign(numSequences * data.blockTableStride * attribute(text, "girih.kv_block_bytes"), 0);
  data.logits.assign(16 * 262144, 0);
  data.flushesSubnormals = true;
  data.numTokens = numTokens;
  data.numSequences = numSequences;
  data.sequenceStarts.push_back(0);
  for (int64_t s = 0; s < numSequences; ++s) {
    data.sequenceStarts.push_back(static_cast<int32_t>((s + 1) * each));
    data.contextLengths.push_back(static_cast<int32_t>(position + each));
    for (int64_t b = 0; b < data.blockTableStride; ++b)
      data.blockTables.push_back(static_cast<int32_t>(s * data.blockTableStride + b));
    for (int64_t i = 0; i < each; ++i) {
      int64_t p = position + i;
      data.tokens.push_back(1);
      data.positions.push_back(static_cast<int32_t>(p));
      data.tokenSequences.push_back(static_cast<int32_t>(s));
      data.kvSlots.push_back(static_cast<int32_t>((s * data.blockTableStride + p / 16) * 16 + p % 16));
    }
    data.logitRows.push_back(static_cast<int32_t>((s + 1) * each - 1));
  }
  std::vector<double> seconds;
  for (int i = 0; i < (numTokens > 64 ? 7 : 201); ++i) {
    double begin = now(numThreads);
    (*step)->run(data, numThreads, argv[3]);
    seconds.push_back(now(numThreads) - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("%s, %ld tokens of %ld sequences at position %ld, %d threads: best %.3f ms (%.0f tok/s), median %.3f ms\n",
              argv[3], numTokens, numSequences, position, numThreads, seconds.front() * 1e3,
              numTokens / seconds.front(), seconds[seconds.size() / 2] * 1e3);
  return 0;
}
