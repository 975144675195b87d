// SPDX-License-Identifier: Apache-2.0
// The nucleus against its definition, a sorted vocabulary: the same token of every draw, however logits lie.
#include "runtime/engine/nucleus.h"

#include "runtime/engine/sampler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>

namespace girih::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kWords = 49152;

using Logits = std::vector<float>;

// Everything in order, sums from the best one down.
int32_t drawBySorting(const Logits &logits, const TokenWeights &weights, float topP, float minP,
                      double draw) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    float ofA = logits[static_cast<size_t>(a)], ofB = logits[static_cast<size_t>(b)];
    return ofA > ofB || (ofA == ofB && a < b);
  });
  auto weightOf = [&](int32_t token) { return weights.of(logits[static_cast<size_t>(token)]); };
  double mass = 0.0, kept = 0.0, passed = 0.0;
  for (int32_t token : order)
    mass += weightOf(token);
  size_t numKept = 0;
  while (numKept < order.size() && kept < topP * mass && weightOf(order[numKept]) >= minP)
    kept += weightOf(order[numKept++]);
  for (int32_t token : order)
    if ((passed += weightOf(token)) > draw * kept)
      return token;
  return -1;
}

void expectDefined(const Logits &logits, float temperature, float topP, float minP, uint32_t seed,
                   int numDraws) {
  float best = *std::max_element(logits.begin(), logits.end());
  TokenWeights weights(logits.size(), best, temperature);
  Nucleus nucleus(static_cast<uint32_t>(logits.size()));
  std::mt19937_64 random(seed);
  for (int count = 0; count < numDraws; ++count) {
    double draw = count == 0   ? 0.0
                  : count == 1 ? 1.0 - 0x1p-53
                               : static_cast<double>(random() >> 11) * 0x1p-53;
    ASSERT_EQ(nucleus.draw(logits, weights, topP, minP, draw),
              drawBySorting(logits, weights, topP, minP, draw))
        << "of " << logits.size() << " at " << temperature << ", top-p " << topP << ", min-p " << minP
        << ", draw " << draw;
  }
}

Logits normal(size_t count, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(1.0f, deviation);
  Logits logits(count);
  for (float &logit : logits)
    logit = distribution(random);
  return logits;
}

TEST(Nucleus, SumsOfWeightsAreExactInAnyOrder) {
  Logits logits = normal(kWords, 4.0f, 1);
  TokenWeights weights(kWords, *std::max_element(logits.begin(), logits.end()), 1.0f);
  double forward = 0.0, backward = 0.0;
  for (float logit : logits)
    forward += weights.of(logit);
  std::sort(logits.begin(), logits.end());
  for (float logit : logits)
    backward += weights.of(logit);
  EXPECT_EQ(forward, backward);
}

TEST(Nucleus, DrawsWhatTheDefinitionDraws) {
  std::mt19937 random(7);
  for (uint32_t round = 0; round < 300; ++round) {
    size_t count = 1 + random() % (round % 10 == 0 ? 20000 : 700);
    Logits logits = normal(count, std::exp2(static_cast<float>(random() % 16) - 9.0f), round);
    // Equal ones, forbidden ones, and one that stands out.
    for (size_t id = 0; id < count; ++id)
      if (random() % 8 < round % 4)
        logits[id] = random() % 2 ? -kInfinity : std::round(logits[id]);
    logits[random() % count] = round % 3 == 0 ? 12.0f : 1.0f;
    float topP = round % 7 == 0   ? 1e-6f
                 : round % 7 == 1 ? std::nextafter(1.0f, 0.0f)
                                  : static_cast<float>(1 + random() % 99) / 100;
    float minP = round % 2 ? 0.0f : static_cast<float>(random() % 100) / (round % 8 == 0 ? 99 : 1000);
    expectDefined(logits, 0.1f + static_cast<float>(random() % 30) / 10, topP, minP, round, 12);
    if (HasFatalFailure())
      return;
  }
}

// What a histogram cannot tell apart at first, or at all.
TEST(Nucleus, DrawsTheSameWhereLogitsCrowd) {
  std::vector<Logits> crowds = {Logits(1), Logits(3000, 1.0f), Logits(kWords, -2.5f)};
  Logits halving(4000), neighbours(5000, 1.0f), twoHeaps(6000, 1.0f), tiny(3000), deep(3000, -26.0f),
      wide(3000);
  for (size_t id = 0; id < halving.size(); ++id)
    halving[id] = 1.0f + std::ldexp(1.0f, -static_cast<int>(id % 30));
  for (size_t id = 1; id < neighbours.size(); ++id)
    neighbours[id] = std::nextafter(neighbours[id - 1], id % 64 ? 2.0f : 0.0f);
  for (size_t id = 0; id < twoHeaps.size(); id += 2)
    twoHeaps[id] = 1.0f + 1e-6f * static_cast<float>(id % 4);
  for (size_t id = 0; id < tiny.size(); ++id)
    tiny[id] = static_cast<float>(id % 100) * std::numeric_limits<float>::denorm_min();
  deep[1234] = 0.0f;
  for (size_t id = 0; id < wide.size(); ++id)
    wide[id] = static_cast<float>(id) * 1e35f;
  crowds.insert(crowds.end(), {halving, neighbours, twoHeaps, tiny, deep, wide});
  for (size_t index = 0; index < crowds.size(); ++index)
    for (float topP : {1e-6f, 0.3f, 0.5f, 0.95f, std::nextafter(1.0f, 0.0f)})
      for (float minP : {0.0f, 0.5f, 1.0f}) {
        SCOPED_TRACE(index);
        expectDefined(crowds[index], 1.0f, topP, minP, 3, 8);
        if (HasFatalFailure())
          return;
      }
}

// What a token costs beside the model at the default model's vocabulary: at most 200 us are aimed at.
TEST(Nucleus, TellsHowLongDrawsTake) {
  struct Case {
    const char *name;
    SamplingOptions options;
  };
  const Case cases[] = {{"greedy", {}},
                        {"temperature", {1.0f}},
                        {"top-k 40", {1.0f, 40}},
                        {"top-p 0.95", {1.0f, 0, 0.95f}},
                        {"top-p 0.95, min-p 0.05", {1.0f, 0, 0.95f, 0.05f}},
                        {"top-k 40, top-p 0.95", {1.0f, 40, 0.95f}}};
  const std::pair<const char *, Logits> rows[] = {{"all equal", Logits(kWords, 1.0f)},
                                                  {"deviation 0.01", normal(kWords, 0.01f, 2)},
                                                  {"deviation 0.3", normal(kWords, 0.3f, 2)},
                                                  {"deviation 1", normal(kWords, 1.0f, 2)},
                                                  {"deviation 4", normal(kWords, 4.0f, 2)}};
  Sampler sampler(kWords);
  SeenTokens seen(kWords);
  for (const auto &[rowName, logits] : rows)
    for (const Case &each : cases) {
      std::vector<double> seconds;
      for (uint64_t position = 0; position < 41; ++position) {
        Logits row = logits;
        auto begin = std::chrono::steady_clock::now();
        ASSERT_TRUE(sampler.sample(row, each.options, seen, position).isOk());
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      }
      std::nth_element(seconds.begin(), seconds.begin() + 20, seconds.end());
      std::printf("%-15s %-23s %6.1f us\n", rowName, each.name, 1e6 * seconds[20]);
    }
}

} // namespace
} // namespace girih::engine
