// SPDX-License-Identifier: Apache-2.0
// Nucleus: a histogram of weights says in which bucket a sum is reached; only that bucket is looked into, by a finer one.
#include "runtime/engine/nucleus.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

// Compiled for wide vectors too, and without fused operations, so that all machines draw the same.
#if defined(__x86_64__)
#define GIRIH_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GIRIH_WIDE
#endif

namespace girih::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Tokens that are weighed together and then, near as they still are, put into their buckets.
constexpr size_t kBlock = 256;
constexpr size_t kLanes = 16;
// So few tokens are ordered.
constexpr size_t kOrdered = 48;

struct Extremes {
  float largest, least;
};

// The weights of at most kBlock tokens, 0 below min-p; returns their sum before min-p.
GIRIH_WIDE double weighBlock(std::span<const float> logits, TokenWeights weights, float minP,
                             float *__restrict result) {
  size_t count = logits.size();
  for (size_t index = 0; index < count; ++index)
    result[index] = weights.of(logits[index]);
  double sumOf[kLanes] = {};
  for (size_t index = 0; index < count; ++index)
    sumOf[index % kLanes] += result[index];
  for (size_t index = 0; index < count; ++index)
    result[index] = result[index] < minP ? 0.0f : result[index];
  return std::accumulate(std::begin(sumOf), std::end(sumOf), 0.0);
}

// Floats in the order of integers, whose extremes compilers find by vectors; its own inverse.
int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }

// Of the logits of tokens that weigh anything; one does.
GIRIH_WIDE Extremes extremesOf(std::span<const float> logits, std::span<const float> weights) {
  constexpr int32_t kLowest = std::numeric_limits<int32_t>::min(),
                    kHighest = std::numeric_limits<int32_t>::max();
  int32_t largest = kLowest, least = kHighest;
  const float *logit = logits.data(), *weight = weights.data();
  for (size_t index = 0, count = logits.size(); index < count; ++index) {
    int32_t key = ordered(std::bit_cast<int32_t>(logit[index]));
    int32_t high = weight[index] > 0.0f ? key : kLowest, low = weight[index] > 0.0f ? key : kHighest;
    largest = high > largest ? high : largest;
    least = low < least ? low : least;
  }
  return {std::bit_cast<float>(ordered(largest)), std::bit_cast<float>(ordered(least))};
}

bool isThere(double sum, double target, bool mustExceed) { return mustExceed ? sum > target : sum >= target; }

// Bucket `numBuckets` takes what weighs nothing.
GIRIH_WIDE void chooseBuckets(std::span<const float> logits, std::span<const float> weights, float largest,
                              float scale, uint32_t numBuckets, uint16_t *__restrict result) {
  float last = static_cast<float>(numBuckets - 1), none = static_cast<float>(numBuckets);
  size_t count = logits.size();
  for (size_t index = 0; index < count; ++index) {
    float bucket = (largest - logits[index]) * scale;
    bucket = bucket < last ? bucket : last;
    result[index] = static_cast<uint16_t>(static_cast<int32_t>(weights[index] > 0.0f ? bucket : none));
  }
}

} // namespace

Nucleus::Nucleus(uint32_t vocabSize)
    : weightOf(vocabSize), ofAll(vocabSize), ofSome(vocabSize), memberLogits(vocabSize),
      memberWeights(vocabSize), memberIds(vocabSize), order(vocabSize) {}

int32_t Nucleus::draw(std::span<const float> logits, const TokenWeights &weights, float topP, float minP,
                      double draw) {
  double mass = weigh(logits, weights, minP), kept = 0.0;
  Tokens all{logits, std::span(weightOf).first(logits.size()), {}};
  ofAll.fill(all);
  for (double sum : ofAll.sums)
    kept += sum;
  // Where min-p leaves less than top-p asks for, it alone decides.
  if (kept > topP * mass)
    kept = find(all, topP * mass, Until::Reached).sum;
  return find(all, draw * kept, Until::Exceeded).token;
}

// Fills the weights of what min-p leaves; returns that of all.
double Nucleus::weigh(std::span<const float> logits, const TokenWeights &weights, float minP) {
  double mass = 0.0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock)
    mass += weighBlock(logits.subspan(begin, std::min(kBlock, logits.size() - begin)), weights, minP,
                       &weightOf[begin]);
  return mass;
}

void Nucleus::Histogram::fill(const Tokens &tokens) {
  Extremes extremes = extremesOf(tokens.logits, tokens.weights);
  float scale = (kNumBuckets - 1) / (extremes.largest - extremes.least);
  tellsApart = scale < kInfinity;
  lanes.fill(0.0);
  for (size_t begin = 0; begin < tokens.logits.size(); begin += kBlock) {
    size_t count = std::min(kBlock, tokens.logits.size() - begin);
    std::span<const float> weights = tokens.weights.subspan(begin, count);
    uint16_t *buckets = &bucketOf[begin];
    chooseBuckets(tokens.logits.subspan(begin, count), weights, extremes.largest, tellsApart ? scale : 0.0f,
                  kNumBuckets, buckets);
    for (size_t index = 0; index < count; ++index)
      lanes[buckets[index] * kNumLanes + index % kNumLanes] += weights[index];
  }
  for (size_t bucket = 0; bucket < kNumBuckets; ++bucket) {
    const double *lane = &lanes[bucket * kNumLanes];
    sums[bucket] = (lane[0] + lane[1]) + (lane[2] + lane[3]);
  }
}

uint16_t Nucleus::Histogram::find(double &before, double target, Until until) const {
  uint16_t bucket = 0;
  while (bucket + 1u < kNumBuckets && !isThere(before + sums[bucket], target, until == Until::Exceeded))
    before += sums[bucket++];
  return bucket;
}

// The first token in order up to which the weights reach, or exceed, the target. Requires: all together do.
Nucleus::Place Nucleus::find(const Tokens &all, double target, Until until) {
  double before = 0.0;
  Tokens tokens = gather(all, ofAll, ofAll.find(before, target, until));
  bool tellsApart = ofAll.tellsApart;
  while (tellsApart && tokens.logits.size() > kOrdered) {
    ofSome.fill(tokens);
    tellsApart = ofSome.tellsApart;
    tokens = gather(tokens, ofSome, ofSome.find(before, target, until));
  }
  return findInOrder(tokens, before, target, until);
}

// In place, where the tokens are members already.
Nucleus::Tokens Nucleus::gather(const Tokens &tokens, const Histogram &histogram, uint16_t bucket) {
  size_t numTokens = tokens.logits.size(), numMembers = 0;
  const uint16_t *buckets = histogram.bucketOf.data();
  auto take = [&](size_t first, size_t count) {
    std::copy_n(&tokens.logits[first], count, &memberLogits[numMembers]);
    std::copy_n(&tokens.weights[first], count, &memberWeights[numMembers]);
    for (size_t index = 0; index < count; ++index)
      memberIds[numMembers + index] =
          tokens.ids.empty() ? static_cast<int32_t>(first + index) : tokens.ids[first + index];
  };
  // Most blocks have none; where tokens crowd, most have nothing else.
  for (size_t first = 0; first < numTokens; first += kLanes) {
    size_t count = std::min(kLanes, numTokens - first);
    uint16_t numEqual = 0;
    if (count == kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane)
        numEqual = static_cast<uint16_t>(numEqual + (buckets[first + lane] == bucket));
      if (numEqual == 0)
        continue;
    }
    if (numEqual == kLanes) {
      take(first, kLanes);
      numMembers += kLanes;
      continue;
    }
    for (size_t lane = 0; lane < count; ++lane) {
      take(first + lane, 1);
      numMembers += buckets[first + lane] == bucket;
    }
  }
  return {std::span(memberLogits).first(numMembers), std::span(memberWeights).first(numMembers),
          std::span(memberIds).first(numMembers)};
}

Nucleus::Place Nucleus::findInOrder(const Tokens &tokens, double before, double target, Until until) {
  size_t count = tokens.logits.size();
  Extremes extremes = extremesOf(tokens.logits, tokens.weights);
  if (extremes.largest == extremes.least) {
    // Equal ones are in order, and how many of them are passed is a division but for its rounding.
    double weight = tokens.weights.front(), passed = std::floor((target - before) / weight) - 1.0;
    passed = std::clamp(passed, 0.0, static_cast<double>(count - 1));
    size_t rank = static_cast<size_t>(passed);
    double sum = before + (passed + 1.0) * weight;
    for (; rank + 1 < count && !isThere(sum, target, until == Until::Exceeded); ++rank)
      sum += weight;
    return {tokens.ids[rank], sum};
  }
  std::span<uint32_t> ranks = std::span(order).first(count);
  std::iota(ranks.begin(), ranks.end(), 0u);
  std::sort(ranks.begin(), ranks.end(), [&](uint32_t a, uint32_t b) {
    return tokens.logits[a] > tokens.logits[b] || (tokens.logits[a] == tokens.logits[b] && a < b);
  });
  size_t rank = 0;
  while ((before += tokens.weights[ranks[rank]], rank + 1 < count) &&
         !isThere(before, target, until == Until::Exceeded))
    ++rank;
  return {tokens.ids[ranks[rank]], before};
}

} // namespace girih::engine
