// SPDX-License-Identifier: Apache-2.0
// Nucleus: draws from the best tokens that together hold a share of the probability, without ordering the vocabulary.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace girih::engine {

// e^x for x <= 0, within 3 ulp, as code that compilers vectorise: e^x = 2^n e^r with |r| <= ln(2)/2, and the
// polynomial of Cephes' expf. Below -87 it is 0: such tokens weigh less than 2^-125 of the best one.
inline float expNonPositive(float x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer in the low bits
  float clamped = x < -87.0f ? -87.0f : x;
  float shifted = clamped * kLog2E + kRound;
  float n = shifted - kRound;
  float r = clamped - n * kLn2High - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  float value = p * r * r + r + 1.0f;
  uint32_t scaleBits = (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound) + 127u) << 23;
  float result = value * std::bit_cast<float>(scaleBits);
  return x < -87.0f ? 0.0f : result;
}

// What a token weighs: e^((logit - best) / temperature), the best one's being 1, as a multiple of a unit so small that the
// sum of a whole vocabulary, in any order and any grouping, is exact in f64: 2^-37 of the best for 49,152 words.
class TokenWeights {
public:
  TokenWeights(size_t vocabSize, float best, float temperature)
      : best(best), inverse(1.0f / temperature),
        rounding(std::bit_cast<float>(static_cast<uint32_t>(127 - 30 + std::bit_width(vocabSize)) << 23)) {}

  float of(float logit) const {
    float weight = expNonPositive((logit - best) * inverse);
    // Sums from `rounding` to twice as much are multiples of the unit; weights beyond it are by themselves.
    return weight < rounding ? (weight + rounding) - rounding : weight;
  }
  // How far below the best a logit is, in units of temperature.
  float depthOf(float logit) const { return (best - logit) * inverse; }

private:
  float best, inverse, rounding;
};

// Scratch for one engine thread; allocates in the constructor only. Thread-compatible.
class Nucleus {
public:
  explicit Nucleus(uint32_t vocabSize);

  // Of all tokens in order, the largest logit first and the lowest id of equals, keeps the fewest whose weights reach
  // `topP` of all weights, and of these what weighs at least `minP`. Of the tokens kept, returns the first at which the sum
  // of weights exceeds `draw` (of [0, 1)) times the sum of them all. Requires: all logits below infinity, the best of them
  // as `weights` was told.
  int32_t draw(std::span<const float> logits, const TokenWeights &weights, float topP, float minP,
               double draw);

private:
  // Tokens by id, with what they weigh.
  struct Tokens {
    std::span<const float> logits, weights;
    std::span<const int32_t> ids; // empty: 0, 1, 2 ...
  };
  struct Place {
    int32_t token;
    double sum; // of the weights up to it, in order
  };
  enum class Until { Reached, Exceeded };

  // Weights by how far below the best of some tokens.
  struct Histogram {
    static constexpr uint32_t kNumBuckets = 512, kNumLanes = 4;

    explicit Histogram(uint32_t vocabSize) : bucketOf(vocabSize) {}
    void fill(const Tokens &tokens);
    // The bucket in which the target lies, behind `before`, to which those before it are added.
    uint16_t find(double &before, double target, Until until) const;

    bool tellsApart = false; // the largest and the least are in different buckets
    std::vector<uint16_t> bucketOf;
    std::array<double, kNumBuckets> sums;
    // Added to in turn, so that one addition need not wait for the last; one more bucket for what weighs nothing.
    std::array<double, (kNumBuckets + 1) * kNumLanes> lanes;
  };

  double weigh(std::span<const float> logits, const TokenWeights &weights, float minP);
  Place find(const Tokens &all, double target, Until until);
  Tokens gather(const Tokens &tokens, const Histogram &histogram, uint16_t bucket);
  Place findInOrder(const Tokens &tokens, double before, double target, Until until);

  std::vector<float> weightOf; // by id
  Histogram ofAll, ofSome;
  // Room for the tokens of one bucket, and for their order.
  std::vector<float> memberLogits, memberWeights;
  std::vector<int32_t> memberIds;
  std::vector<uint32_t> order;
};

} // namespace girih::engine
