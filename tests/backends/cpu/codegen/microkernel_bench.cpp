// SPDX-License-Identifier: Apache-2.0
// Speed of the microkernels on the shapes of the default model, beside the roofline. Not a test: prints a table.
//   cpu_microkernel_bench [avx2|avx512|amx] [threads] [filter]
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace girih::cpu::test {
namespace {

// One thread is timed by its own CPU time, so that other processes on the machine disturb less.
double now(int numThreads) {
  timespec time;
  clock_gettime(numThreads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

double medianSeconds(const Step &step, StepData &data, int numThreads, int repetitions) {
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    double start = now(numThreads);
    step.run(data, numThreads);
    seconds.push_back(now(numThreads) - start);
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("min %8.1f us  ", seconds.front() * 1e6);
  return seconds[seconds.size() / 2];
}

void measure(const MatmulCase &c, const std::string &isa, int numThreads) {
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  auto step = Step::compile(moduleOf(c), isa);
  if (!step.isOk()) {
    std::printf("%s\n", std::string(step.status().message()).c_str());
    return;
  }
  // For disassembly: GIRIH_BENCH_IMAGE names a file that gets the last image.
  if (const char *path = std::getenv("GIRIH_BENCH_IMAGE")) {
    std::FILE *file = std::fopen(path, "wb");
    std::fwrite((*step)->image().data(), 1, (*step)->image().size(), file);
    std::fclose(file);
  }
  StepData data;
  data.numTokens = c.rows;
  for (int64_t layer = 0; layer < c.numLayers; ++layer)
    data.weights.insert(data.weights.end(), weight.bytes.begin(), weight.bytes.end());
  data.arena.assign(bytesOfArena(c), 0);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < c.rows * c.depth; ++i) {
    float value = normal(random);
    if (takesBf16(c))
      std::memcpy(data.arena.data() + 2 * i, reinterpret_cast<const char *>(&value) + 2, 2);  // bf16
    else
      data.arenaAt(0)[i] = value;
  }
  double seconds = medianSeconds(**step, data, numThreads, c.rows > 16 ? 7 : 31);
  double flops = 2.0 * c.rows * c.columns * c.depth * c.numLayers, bytes = double(data.weights.size());
  std::printf("%-22s T=%-4ld N=%-5ld K=%-5ld %-3s %-6s MR=%-2ld NC=%-3ld KC=%-4ld unit=%-5ld %8.1f us %7.1f GF/s %6.1f GB/s\n",
              c.layout, c.rows, c.columns, c.depth, c.isQuantized ? "i8" : "f32", c.strategy, c.rowTile, c.columnTile, c.kTile, c.unitColumns,
              seconds * 1e6, flops / seconds * 1e-9, bytes / seconds * 1e-9);
}

}  // namespace
}  // namespace girih::cpu::test

int main(int argc, char **argv) {
  using girih::cpu::test::MatmulCase;
  const char *isa = argc > 1 ? argv[1] : "avx512";
  int numThreads = argc > 2 ? std::atoi(argv[2]) : 1;
  std::string filter = argc > 3 ? argv[3] : "";
  constexpr const char *kQ41 = "p16:u4,f16,f16,32";
  constexpr const char *kQ80 = "p16:s8,f16,none,32";
  bool wide = std::string(isa) != "avx2";
  std::vector<MatmulCase> cases;
  if (filter.empty() || filter == "decode") {
    for (int64_t tile : wide ? std::vector<int64_t>{16, 32, 48, 64} : std::vector<int64_t>{16, 32}) {
      cases.push_back({kQ41, 1, 3072, 576, "direct", 1, tile, 32, tile, 30});
      cases.push_back({kQ41, 1, 576, 1536, "direct", 1, tile, 32, tile, 30});
    }
    cases.push_back({kQ41, 1, 576, 576, "direct", 1, 32, 32, 32, 30});
    cases.push_back({kQ80, 1, 49152, 576, "direct", 1, 32, 32, 32, 1});
    if (wide)
      cases.push_back({kQ80, 1, 49152, 576, "direct", 1, 64, 32, 64, 1});
  }
  if (filter.empty() || filter == "batch") {
    for (int64_t rows : {2, 4, 8})
      for (auto [mr, nc] : wide ? std::vector<std::pair<int64_t, int64_t>>{{2, 32}, {4, 32}, {8, 32}, {4, 48}, {4, 64}, {8, 48}, {8, 16}}
                                : std::vector<std::pair<int64_t, int64_t>>{{2, 32}, {4, 16}, {6, 16}})
        if (mr <= rows)
          cases.push_back({kQ41, rows, 3072, 576, "direct", mr, nc, 32, nc, 30});
  }
  if (filter.empty() || filter == "prefill") {
    for (auto [mr, nc] : wide ? std::vector<std::pair<int64_t, int64_t>>{{8, 48}, {6, 64}, {14, 32}, {12, 32}}
                              : std::vector<std::pair<int64_t, int64_t>>{{6, 16}, {4, 16}, {2, 32}})
      for (int64_t kc : {64, 128, 192, 288, 576}) {
        cases.push_back({kQ41, 512, 3072, 576, "panel", mr, nc, kc, 3072 % (2 * nc) ? nc : 2 * nc, 2});
        cases.push_back({kQ41, 512, 576, 1536, "panel", mr, nc, kc, nc, 2});
      }
  }
  if (filter == "near") {  // outputs that stay in the second level, as those of fused dispatches do
    for (int64_t rows : {1, 32, 128, 256, 512})
      for (int64_t nc : {32, 64}) {
        cases.push_back({kQ41, rows, nc, 576, "matrix", 32, 32, 576, nc, 3072 / nc});
        for (int64_t kc : {512, 768})
          cases.push_back({kQ41, rows, nc, 1536, "matrix", 32, 32, kc, nc, 576 / nc});
      }
  }
  if (filter == "matrix") {
    for (int64_t rows : {16, 32, 128, 512})
      for (int64_t unit : {32, 64}) {
        cases.push_back({kQ41, rows, 3072, 576, "matrix", 32, 32, 576, unit, 2});
        cases.push_back({kQ41, rows, 576, 1536, "matrix", 32, 32, 512, unit, 2});
      }
    cases.push_back({kQ80, 16, 49152, 576, "matrix", 32, 32, 576, 64, 1});
  }
  using girih::cpu::test::quantized;
  if (filter == "codes")
    for (int64_t rows : {8, 16})
      for (int64_t unit : {32, 64, 192}) {
        cases.push_back({kQ41, rows, 3072, 576, "codes", rows, 32, 576, unit, 30});
        cases.push_back({kQ41, rows, 576, 1536, "codes", rows, 32, 1536, unit, 30});
        cases.push_back({kQ80, rows, 49152, 576, "codes", rows, 32, 576, unit, 1});
      }
  if (filter == "bytes")
    for (int64_t rows : {8, 16})
      for (int64_t unit : {32, 64, 128}) {
        cases.push_back(quantized({kQ41, rows, 3072, 576, "bytes", rows, unit, 576, unit, 30}));
        cases.push_back(quantized({kQ41, rows, 576, 1536, "bytes", rows, unit, 1536, unit, 30}));
        cases.push_back(quantized({kQ80, rows, 49152, 576, "bytes", rows, unit, 576, unit, 1}));
      }
  if (filter == "dot") {  // 8-bit activations, few rows
    for (const char *layout : {kQ41, kQ80})
      for (auto [rows, mr, nc] : std::vector<std::array<int64_t, 3>>{{1, 1, 16}, {1, 1, 32}, {1, 1, 48}, {1, 1, 64}, {2, 2, 16},
               {2, 2, 32}, {4, 4, 16}, {4, 4, 32}, {8, 8, 16}, {8, 8, 32}, {8, 4, 32}, {16, 8, 16}, {24, 12, 16}})
        cases.push_back(quantized({layout, rows, 3072, 576, "direct", mr, nc, 32, nc, 30}));
  }
  if (filter == "formats")  // one row that meets weights in the second level: what a core computes, memory aside
    for (const std::string &layout : girih::cpu::test::layoutsOfFormats()) {
      MatmulCase c{layout.c_str(), 1, 128, 5632, "direct", 1, wide ? 32 : 16, 32, wide ? 32 : 16, 1};
      cases.push_back(girih::weights::PackedLayout::parse(layout)->hasFloatCodes() ? c : quantized(c));
    }
  if (filter == "dotpanel")  // 8-bit activations, many rows
    for (const char *layout : {kQ41, kQ80})
      for (auto [mr, nc] : wide ? std::vector<std::pair<int64_t, int64_t>>{{6, 32}, {13, 16}, {4, 48}, {3, 64}}
                                : std::vector<std::pair<int64_t, int64_t>>{{2, 16}})
        for (int64_t kc : {288, 576})
          cases.push_back(quantized({layout, 252, 192, 576, "panel", mr, nc, kc, nc, 8}));
  size_t only = argc > 4 ? std::atoi(argv[4]) : cases.size();
  for (const MatmulCase &c : only < cases.size() ? std::vector<MatmulCase>{cases[only]} : cases)
    girih::cpu::test::measure(c, isa, numThreads);
  return 0;
}
