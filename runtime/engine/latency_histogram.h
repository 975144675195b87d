// SPDX-License-Identifier: Apache-2.0
// LatencyHistogram: counts of durations in fixed buckets, as Prometheus wants them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace girih::engine {

// Thread-compatible; copies are cheap.
struct LatencyHistogram {
  // Upper bounds in seconds; one bucket more holds what is longer.
  static constexpr std::array<double, 16> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                                     0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0, 300.0};

  std::array<uint64_t, kBounds.size() + 1> counts{}; // not cumulative
  uint64_t numObserved = 0;
  double sumSeconds = 0.0;

  void observe(double seconds) {
    size_t bucket = 0;
    while (bucket < kBounds.size() && seconds > kBounds[bucket])
      ++bucket;
    ++counts[bucket];
    ++numObserved;
    sumSeconds += seconds;
  }
};

} // namespace girih::engine
