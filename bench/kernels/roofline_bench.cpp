// SPDX-License-Identifier: Apache-2.0
// Measures what the other benches are held against: read bandwidth of a buffer and the rate of each arithmetic unit.
//
//   roofline_bench [--threads N] [--bytes B] [--format json]
//
// Bandwidth is that of reading one buffer again and again, as decode reads the weights: give the weights' size, since
// a model that fits the last-level cache is not bound by DRAM. The arithmetic roofs (unit_peaks.h) are those of f32 and
// of the integer and matrix units that this machine has.
#include "bench/kernels/unit_peaks.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace {

constexpr int kRepetitions = 9; // the best one counts: a roof is what can be had, not what is usual
using Vector = float __attribute__((vector_size(64)));

struct UnitRate {
  const char *name = "";
  double gigaopsPerSecond = 0;
};

struct Measured {
  double gigabytesPerSecond = 0;
  std::vector<UnitRate> units;
};

constexpr int64_t kFloatsAhead = 1024; // a core's own prefetcher stops at the end of a page

// Sums whole cache lines in eight independent chains, so that loads, not additions, are what is waited for.
__attribute__((target_clones("avx512f", "avx2", "default"))) float readAll(const float *begin,
                                                                           int64_t numFloats) {
  Vector sums[8] = {};
  for (int64_t i = 0; i + 128 <= numFloats; i += 128)
    for (int chain = 0; chain < 8; ++chain) {
      Vector line;
      std::memcpy(&line, begin + i + chain * 16, sizeof line);
      __builtin_prefetch(begin + i + chain * 16 + kFloatsAhead);
      sums[chain] += line;
    }
  float total = 0;
  for (const Vector &sum : sums)
    total += sum[0];
  return total;
}

// Seconds that `work(thread)` takes on all threads at once; the fastest of several runs.
double bestSeconds(int numThreads, const std::function<void(int)> &work) {
  double best = 1e30;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    auto begun = std::chrono::steady_clock::now();
    std::vector<std::thread> team;
    for (int thread = 1; thread < numThreads; ++thread)
      team.emplace_back(work, thread);
    work(0);
    for (std::thread &member : team)
      member.join();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }
  return best;
}

// In pages as large as the system has, filled: with small ones a core waits for page tables, a fifth of the bandwidth.
class HugePages {
public:
  explicit HugePages(int64_t numBytes) : numBytes(numBytes) {
    address = ::mmap(nullptr, numBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
      std::fprintf(stderr, "roofline_bench: cannot have %lld bytes; --bytes says how many to read\n",
                   static_cast<long long>(numBytes));
      std::exit(1);
    }
#if defined(MADV_HUGEPAGE)
    (void)::madvise(address, numBytes, MADV_HUGEPAGE);
#endif
    std::ranges::fill(floats(), 1.0f);
  }
  ~HugePages() { ::munmap(address, numBytes); }
  HugePages(const HugePages &) = delete;
  HugePages &operator=(const HugePages &) = delete;

  std::span<float> floats() const {
    return {static_cast<float *>(address), static_cast<size_t>(numBytes) / sizeof(float)};
  }

private:
  int64_t numBytes;
  void *address;
};

Measured measure(int numThreads, int64_t numBytes) {
  const HugePages pages(numBytes);
  const std::span<float> buffer = pages.floats();
  const int64_t share = int64_t(buffer.size()) / numThreads;
  std::vector<float> sink(numThreads * 16);
  // Several passes a run, so that starting threads does not show.
  const int64_t numPasses = std::max<int64_t>(1, (int64_t(1) << 30) / numBytes);
  double reading = bestSeconds(numThreads, [&](int thread) {
    for (int64_t pass = 0; pass < numPasses; ++pass)
      sink[thread * 16] += readAll(buffer.data() + thread * share, share);
  });
  Measured measured;
  measured.gigabytesPerSecond = double(numPasses) * share * numThreads * sizeof(float) / reading / 1e9;
  for (const girih::bench::UnitPeak &unit : girih::bench::unitPeaks()) {
    double computing = bestSeconds(numThreads, [&](int thread) { sink[thread * 16] += unit.run(); });
    measured.units.push_back({unit.name, double(numThreads) * unit.operations / computing / 1e9});
  }
  if (sink[0] == 42.0f) // keeps the results alive
    std::puts("");
  return measured;
}

} // namespace

int main(int argc, char **argv) {
  int numThreads = int(std::max(1u, std::thread::hardware_concurrency()));
  int64_t numBytes = 256 << 20;
  bool isJson = false;
  for (int i = 1; i < argc; ++i) {
    std::string flag = argv[i];
    if (flag == "--format" && i + 1 < argc)
      isJson = std::string(argv[++i]) == "json";
    else if (flag == "--threads" && i + 1 < argc)
      numThreads = std::max(1, std::atoi(argv[++i]));
    else if (flag == "--bytes" && i + 1 < argc)
      numBytes = std::max<int64_t>(1 << 16, std::atoll(argv[++i]));
    else {
      std::fprintf(stderr, "usage: roofline_bench [--threads N] [--bytes B] [--format json]\n");
      return 2;
    }
  }
  Measured measured = measure(numThreads, numBytes);
  auto bytes = static_cast<long long>(numBytes);
  if (isJson)
    std::printf(
        "{\"threads\": %d, \"bytes\": %lld, \"read_gigabytes_per_second\": %.2f, \"gigaops_per_second\": {",
        numThreads, bytes, measured.gigabytesPerSecond);
  else
    std::printf("%d threads reading %lld bytes: %.2f GB/s; multiplies and adds:\n", numThreads, bytes,
                measured.gigabytesPerSecond);
  for (size_t index = 0; index < measured.units.size(); ++index)
    std::printf(isJson ? "%s\"%s\": %.1f" : "%s  %-10s %8.1f G/s\n", isJson && index ? ", " : "",
                measured.units[index].name, measured.units[index].gigaopsPerSecond);
  if (isJson)
    std::printf("}}\n");
  return 0;
}
