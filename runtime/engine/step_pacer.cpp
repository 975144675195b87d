// SPDX-License-Identifier: Apache-2.0
// StepPacer: moving averages by the size of a step.
#include "runtime/engine/step_pacer.h"

#include <algorithm>
#include <bit>

namespace girih::engine {
namespace {

constexpr double kWeightOfLast = 0.2; // of the moving averages: some five steps of memory

uint32_t bucketOf(uint32_t numTokens) { return numTokens <= 1 ? 0 : std::bit_width(numTokens - 1); }

} // namespace

void StepPacer::observe(uint32_t numGenerating, uint32_t numPromptTokens, double seconds) {
  Table &table = numPromptTokens > 0 ? mixedSeconds : generatingSeconds;
  uint32_t numTokens = numGenerating + numPromptTokens;
  uint32_t bucket = std::min(bucketOf(numTokens), kNumBuckets - 1);
  double &average = table[bucket];
  // The end of a prompt leaves a step half empty: it says little of what a full one takes.
  bool isFull = 4 * uint64_t{numTokens} > 3 * (uint64_t{1} << bucket);
  if (numPromptTokens > 0 && average > 0.0 && !isFull)
    return;
  average = average == 0.0 ? seconds : average + kWeightOfLast * (seconds - average);
}

// From a larger size without scaling (a smaller step takes no longer), from a smaller one in proportion.
double StepPacer::estimate(const Table &table, uint32_t numTokens) {
  uint32_t bucket = std::min(bucketOf(numTokens), kNumBuckets - 1);
  if (table[bucket] > 0.0)
    return table[bucket];
  for (uint32_t distance = 1; distance < kNumBuckets; ++distance) {
    if (bucket >= distance && table[bucket - distance] > 0.0)
      return table[bucket - distance] * static_cast<double>(uint64_t{1} << distance);
    if (bucket + distance < kNumBuckets && table[bucket + distance] > 0.0)
      return table[bucket + distance];
  }
  return 0.0;
}

uint32_t StepPacer::promptTokensBeside(uint32_t numGenerating) const {
  double alone = estimate(generatingSeconds, numGenerating);
  if (slowdown <= 0.0 || numGenerating == 0 || alone == 0.0)
    return maxTokens;
  uint32_t allowed = kLeastPromptTokens;
  for (uint32_t size = 2 * kLeastPromptTokens; size <= maxTokens; size *= 2) {
    if (estimate(mixedSeconds, size) > slowdown * alone)
      break;
    // Filled up to the size with what generates.
    allowed = std::max(allowed, size - std::min(numGenerating, size));
  }
  return allowed;
}

} // namespace girih::engine
