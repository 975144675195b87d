// SPDX-License-Identifier: Apache-2.0
// Sampler: picks the next token from a row of logits.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/engine/nucleus.h"

#include <cstdint>
#include <span>
#include <vector>

namespace girih::engine {

// Applied in this order, as Hugging Face does: repetition penalty, temperature, top-k, top-p, min-p; each
// later filter sees the distribution that the earlier ones left. The defaults are greedy.
struct SamplingOptions {
  float temperature = 0.0f;       // 0: greedy (the filters below do not matter); at most 100
  int32_t topK = 0;               // 0: off
  float topP = 1.0f;              // (0, 1]; 1: off
  float minP = 0.0f;              // [0, 1]; 0: off
  float repetitionPenalty = 1.0f; // > 0; 1: off; counts every token of prompt and output once
  uint64_t seed = 0;              // same seed, same tokens
};

// Fails: InvalidArgument naming the option, its value and its range.
Status checkSampling(const SamplingOptions &options);

struct TopToken {
  int32_t token = -1;
  float logprob = 0.0f;
};

// The tokens that a sequence has seen, for the repetition penalty; each id once. Ids must be < vocabSize.
class SeenTokens {
public:
  explicit SeenTokens(uint32_t vocabSize) : bits((vocabSize + 63) / 64) {}
  // So many different ones are added without an allocation.
  void reserve(uint32_t numTokens) { seen.reserve(numTokens); }
  void add(int32_t token);
  std::span<const int32_t> ids() const { return seen; }

private:
  std::vector<uint64_t> bits;
  std::vector<int32_t> seen;
};

// Scratch for one engine thread; allocates in the constructor only. Thread-compatible.
class Sampler {
public:
  explicit Sampler(uint32_t vocabSize);

  // Picks a token. `logits` [V] is modified in place (the penalty). The noise depends on (seed, position)
  // alone, so neither batching nor preemption changes what is sampled. Ties go to the lowest id. Fails:
  // Internal when a logit is NaN or +inf, or none is finite.
  Expected<int32_t> sample(std::span<float> logits, const SamplingOptions &options, const SeenTokens &seen,
                           uint64_t position);

private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  int32_t drawFromBest(std::span<const float> logits, const TokenWeights &weights,
                       const SamplingOptions &options, double draw);

  std::vector<Candidate> candidates; // capacity V
  Nucleus nucleus;
};

// The largest logit; lowest id on ties. Fails as Sampler::sample.
Expected<int32_t> argmax(std::span<const float> logits);
// ln(sum(exp(logits))), summed in f64; a token's log-probability is its logit minus this.
double logSumExp(std::span<const float> logits);
// Fills `top` with the most likely tokens, best first, lowest id on ties; -1 where fewer are possible at all.
void topTokens(std::span<const float> logits, std::span<TopToken> top);

} // namespace girih::engine
