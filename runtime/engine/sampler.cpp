// SPDX-License-Identifier: Apache-2.0
// Sampling in a pass or two over the vocabulary, of which no more is ordered than the filters need.
#include "runtime/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace girih::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Lanes that compilers turn into vectors, of whatever width the machine has.
constexpr size_t kLanes = 16;
// Logits that are looked at together. Their sum in f32 joins the f64 total: the error stays that of a short sum.
constexpr size_t kBlock = 256;

// Logits that were written before the last weights were read have left the near caches: they are fetched ahead, further
// than a core looks by itself.
constexpr size_t kFetchedAhead = 1024;

// The largest logit. One comparison finds both NaN and +inf: neither is less than infinity.
Expected<float> largest(std::span<const float> logits) {
  float bestOf[kLanes];
  uint32_t numSound[kLanes] = {};
  std::fill(std::begin(bestOf), std::end(bestOf), -kInfinity);
  size_t id = 0;
  auto look = [&](size_t lane, float logit) {
    numSound[lane] += logit < kInfinity;
    bestOf[lane] = logit > bestOf[lane] ? logit : bestOf[lane];
  };
  for (; id + kLanes <= logits.size(); id += kLanes) {
    __builtin_prefetch(&logits[std::min(id + kFetchedAhead, logits.size() - 1)]);
    for (size_t lane = 0; lane < kLanes; ++lane)
      look(lane, logits[id + lane]);
  }
  for (; id < logits.size(); ++id)
    look(0, logits[id]);
  float best = *std::max_element(std::begin(bestOf), std::end(bestOf));
  bool isSound = std::accumulate(std::begin(numSound), std::end(numSound), size_t{0}) == logits.size();
  if (isSound && best > -kInfinity)
    return best;
  size_t index = 0;
  while (index < logits.size() && logits[index] < kInfinity)
    ++index;
  if (index == logits.size())
    return internalError("none of " + std::to_string(logits.size()) +
                         " logits is finite; the model or its code " +
                         "is broken: run `girih verify` on the file");
  return internalError("logit " + std::to_string(index) + " of " + std::to_string(logits.size()) + " is " +
                       (std::isnan(logits[index]) ? "NaN" : "infinite") +
                       "; the model or its code is broken: run `girih verify` on the file");
}

// The sum of a weight over at most kBlock logits.
template <typename WeightOf> float sumBlock(std::span<const float> logits, WeightOf weightOf) {
  float part[kLanes] = {};
  size_t id = 0;
  for (; id + kLanes <= logits.size(); id += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      part[lane] += weightOf(logits[id + lane]);
  for (; id < logits.size(); ++id)
    part[0] += weightOf(logits[id]);
  return std::accumulate(std::begin(part), std::end(part), 0.0f);
}

std::span<const float> blockOf(std::span<const float> logits, size_t begin) {
  return logits.subspan(begin, std::min(kBlock, logits.size() - begin));
}

template <typename WeightOf> double sumWeights(std::span<const float> logits, WeightOf weightOf) {
  double sum = 0.0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock)
    sum += sumBlock(blockOf(logits, begin), weightOf);
  return sum;
}

// Draws from the whole vocabulary: finds the block that the draw falls into, then the token in it.
template <typename WeightOf>
int32_t drawFromAll(std::span<const float> logits, double draw, WeightOf weightOf) {
  double target = draw * sumWeights(logits, weightOf), passed = 0.0;
  size_t lastPossible = 0; // where rounding leaves the target at the very end
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    std::span<const float> block = blockOf(logits, begin);
    double blockSum = sumBlock(block, weightOf);
    if (blockSum == 0.0 || (passed + blockSum <= target && begin + kBlock < logits.size())) {
      passed += blockSum;
      continue;
    }
    for (size_t index = 0; index < block.size(); ++index) {
      float weight = weightOf(block[index]);
      if (weight == 0.0f)
        continue;
      passed += weight;
      lastPossible = begin + index;
      if (passed > target)
        return static_cast<int32_t>(lastPossible);
    }
  }
  return static_cast<int32_t>(lastPossible);
}

// Of counter type (SplitMix64 over both words), so that a draw depends on nothing but its own number.
double uniformDraw(uint64_t seed, uint64_t position) {
  auto mix = [](uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  };
  uint64_t bits = mix(mix(seed + 0x9e3779b97f4a7c15) + (position + 1) * 0x9e3779b97f4a7c15);
  return static_cast<double>(bits >> 11) * 0x1p-53; // [0, 1)
}

// Keeps the `count` best of a row in `best`, best first; equal logits by ascending id. Scans once: a row is
// compared with the worst that could still enter, and the list is cut when it has grown to four times its
// size.
template <typename Entry, typename Make>
void selectBest(std::span<const float> logits, size_t count, std::vector<Entry> &best, Make make) {
  auto isBetter = [](const Entry &a, const Entry &b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  best.clear();
  float threshold = -kInfinity;
  size_t roomFor = std::min(logits.size(), std::max<size_t>(4 * count, 64));
  for (size_t id = 0; id < logits.size(); ++id) {
    if (!(logits[id] > threshold))
      continue;
    best.push_back(make(logits[id], static_cast<int32_t>(id)));
    if (best.size() < roomFor || best.size() <= count)
      continue;
    std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count - 1), best.end(),
                     isBetter);
    best.resize(count);
    threshold = best.back().logit; // a later id with this logit would lose the tie
  }
  std::sort(best.begin(), best.end(), isBetter);
  if (best.size() > count)
    best.resize(count);
}

} // namespace

void SeenTokens::add(int32_t token) {
  uint64_t &word = bits[static_cast<size_t>(token) / 64];
  uint64_t bit = uint64_t{1} << (token % 64);
  if (!(word & bit))
    seen.push_back(token);
  word |= bit;
}

Status checkSampling(const SamplingOptions &options) {
  struct Range {
    const char *name;
    double value, least, most;
    bool isOpen; // least itself is outside
  };
  const Range ranges[] = {
      {"temperature", options.temperature, 0.0, 100.0, false},
      {"top_k", static_cast<double>(options.topK), 0.0, 2147483647.0, false},
      {"top_p", options.topP, 0.0, 1.0, true},
      {"min_p", options.minP, 0.0, 1.0, false},
      {"repetition_penalty", options.repetitionPenalty, 0.0, 100.0, true},
  };
  for (const Range &range : ranges) {
    bool isWithin =
        range.value <= range.most && (range.isOpen ? range.value > range.least : range.value >= range.least);
    if (isWithin)
      continue;
    char text[160];
    std::snprintf(text, sizeof text, "%s is %g; it must be %s %g and at most %g", range.name, range.value,
                  range.isOpen ? "above" : "at least", range.least, range.most);
    return invalidArgument(text);
  }
  return {};
}

Expected<int32_t> argmax(std::span<const float> logits) {
  GIRIH_ASSIGN(float best, largest(logits));
  // By blocks, whose comparisons are vectors; then the place in the one that has it.
  size_t first = 0;
  for (; first + kBlock <= logits.size(); first += kBlock) {
    uint32_t numEqual = 0;
    for (float logit : logits.subspan(first, kBlock))
      numEqual += logit == best;
    if (numEqual > 0)
      break;
  }
  return static_cast<int32_t>(std::find(logits.begin() + ptrdiff_t(first), logits.end(), best) -
                              logits.begin());
}

double logSumExp(std::span<const float> logits) {
  float best = *std::max_element(logits.begin(), logits.end());
  return best + std::log(sumWeights(logits, [&](float logit) { return expNonPositive(logit - best); }));
}

void topTokens(std::span<const float> logits, std::span<TopToken> top) {
  struct Entry {
    float logit;
    int32_t token;
  };
  thread_local std::vector<Entry> best;
  selectBest(logits, top.size(), best, [](float logit, int32_t token) { return Entry{logit, token}; });
  double normaliser = logSumExp(logits);
  for (size_t rank = 0; rank < top.size(); ++rank)
    top[rank] = rank < best.size()
                    ? TopToken{best[rank].token, static_cast<float>(best[rank].logit - normaliser)}
                    : TopToken{-1, -kInfinity};
}

Sampler::Sampler(uint32_t vocabSize) : nucleus(vocabSize) { candidates.reserve(vocabSize); }

Expected<int32_t> Sampler::sample(std::span<float> logits, const SamplingOptions &options,
                                  const SeenTokens &seen, uint64_t position) {
  if (options.repetitionPenalty != 1.0f)
    for (int32_t token : seen.ids()) {
      float &logit = logits[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / options.repetitionPenalty : logit * options.repetitionPenalty;
    }
  if (options.temperature == 0.0f)
    return argmax(logits);
  GIRIH_ASSIGN(float best, largest(logits));
  TokenWeights weights(logits.size(), best, options.temperature);
  double draw = uniformDraw(options.seed, position);
  if (options.topK > 0 && static_cast<size_t>(options.topK) < logits.size())
    return drawFromBest(logits, weights, options, draw);
  if (options.topP < 1.0f)
    return nucleus.draw(logits, weights, options.topP, options.minP, draw);
  return drawFromAll(logits, draw, [&](float logit) {
    float weight = weights.of(logit);
    return weight < options.minP ? 0.0f : weight;
  });
}

// Top-k leaves few enough to be ordered; top-p of those the fewest that reach its share, and min-p what is near enough to
// the best.
int32_t Sampler::drawFromBest(std::span<const float> logits, const TokenWeights &weights,
                              const SamplingOptions &options, double draw) {
  selectBest(logits, static_cast<size_t>(options.topK), candidates,
             [](float logit, int32_t token) { return Candidate{logit, token}; });
  double mass = 0.0, kept = 0.0;
  for (const Candidate &candidate : candidates)
    mass += weights.of(candidate.logit);
  size_t numKept = 0;
  for (const Candidate &candidate : candidates) {
    float weight = weights.of(candidate.logit);
    // Those without weight are never drawn, and are the last ones.
    if (weight == 0.0f || weight < options.minP || (options.topP < 1.0f && kept >= options.topP * mass))
      break;
    kept += weight;
    ++numKept;
  }
  double target = draw * kept, passed = 0.0;
  for (size_t index = 0; index < numKept; ++index) {
    passed += weights.of(candidates[index].logit);
    if (passed > target)
      return candidates[index].token;
  }
  return candidates[numKept - 1].token;
}

} // namespace girih::engine
