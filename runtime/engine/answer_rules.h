// SPDX-License-Identifier: Apache-2.0
// AnswerRules: what a request says about the tokens of its answer before one is sampled.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace girih::engine {

// Which tokens may come next, decided token by token: a grammar. Used by the engine's thread alone.
class TokenMask {
public:
  virtual ~TokenMask() = default;
  // Bit i of the words: token i may come. At least one must.
  virtual Status fill(std::span<uint32_t> words) = 0;
  // The token was chosen.
  virtual Status accept(int32_t token) = 0;
};

struct TokenBias {
  int32_t token = -1;
  float bias = 0.0f; // added to the logit; [-100, 100]
};
inline constexpr size_t kMaxTokenBiases = 1024;

// Applied in this order to the model's logits, before SamplingOptions; log-probabilities that are reported are
// of the model's own logits.
struct AnswerRules {
  std::vector<TokenBias> biases;
  // As OpenAI defines them, over the tokens of the answer so far: `presence` once for each that occurred,
  // `frequency` for each time. [-2, 2]
  float presencePenalty = 0.0f;
  float frequencyPenalty = 0.0f;
  uint32_t minTokens = 0; // stop tokens cannot come before so many others
  std::shared_ptr<TokenMask> mask;

  bool countsOutput() const { return presencePenalty != 0.0f || frequencyPenalty != 0.0f; }
};

// How often each token occurs in an answer. Grows with the number of different tokens.
class OutputCounts {
public:
  struct Entry {
    int32_t token;
    uint32_t count;
  };
  // So many different ones are added without an allocation.
  void reserve(uint32_t numTokens) { counted.reserve(numTokens); }
  void add(int32_t token);
  std::span<const Entry> entries() const { return counted; }

private:
  std::vector<Entry> counted; // by token
};

// Fails: InvalidArgument naming the rule, its value and its range.
Status checkRules(const AnswerRules &rules, uint32_t vocabSize);
// Changes a row of logits [V]. `maskWords` is scratch of V / 32 words, rounded up. Fails as the mask does.
Status applyRules(const AnswerRules &rules, const OutputCounts &counts, uint32_t numOutputTokens,
                  std::span<const int32_t> stopTokens, std::span<float> logits,
                  std::span<uint32_t> maskWords);

} // namespace girih::engine
