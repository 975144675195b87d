// SPDX-License-Identifier: Apache-2.0
// StepPacer: how many prompt tokens may join a step, so that those who generate do not wait long for it.
#pragma once

#include <array>
#include <cstdint>

namespace girih::engine {

// Learns from the steps that ran how long they take by their number of tokens. Bounds a mixed step to
// `slowdown` times a step of the same generating sequences alone: what a stream's reader sees as a pause.
// Thread-compatible.
class StepPacer {
public:
  // `slowdown` <= 0: no bound. `maxTokens`: of a step.
  StepPacer(double slowdown, uint32_t maxTokens) : slowdown(slowdown), maxTokens(maxTokens) {}

  // A step of `numGenerating` single tokens and `numPromptTokens` others took so long.
  void observe(uint32_t numGenerating, uint32_t numPromptTokens, double seconds);
  // Prompt tokens that a step beside `numGenerating` single tokens may take; at least kLeastPromptTokens, so
  // that prompts move however slow they are.
  uint32_t promptTokensBeside(uint32_t numGenerating) const;

  static constexpr uint32_t kLeastPromptTokens = 16;

private:
  // Sizes by powers of two: bucket i holds sizes in (2^(i-1), 2^i].
  static constexpr uint32_t kNumBuckets = 24;
  using Table = std::array<double, kNumBuckets>;
  // Seconds of a step of this size, scaled from the nearest size that ran; 0: none ran.
  static double estimate(const Table &table, uint32_t numTokens);

  const double slowdown;
  const uint32_t maxTokens;
  Table generatingSeconds{}; // of steps of single tokens alone, by their number
  Table mixedSeconds{};      // of steps with prompt tokens, by the number of all tokens
};

} // namespace girih::engine
