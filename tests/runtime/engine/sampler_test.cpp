// SPDX-License-Identifier: Apache-2.0
// The sampler's filters against their definitions, its ties, its noise and its refusals.
#include "runtime/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <random>

namespace girih::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> randomLogits(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(count);
  for (float &logit : logits)
    logit = normal(random);
  return logits;
}

int32_t draw(std::vector<float> logits, const SamplingOptions &options, uint64_t position = 0,
             const std::vector<int32_t> &seenIds = {}) {
  SeenTokens seen(static_cast<uint32_t>(logits.size()));
  for (int32_t id : seenIds)
    seen.add(id);
  Sampler sampler(static_cast<uint32_t>(logits.size()));
  auto token = sampler.sample(logits, options, seen, position);
  return token.isOk() ? *token : -static_cast<int32_t>(token.status().code());
}

// What Hugging Face's warpers leave, by their definitions: probabilities in f64, zero where filtered.
std::vector<double> reference(const std::vector<float> &logits, const SamplingOptions &options) {
  std::vector<size_t> order(logits.size());
  for (size_t id = 0; id < order.size(); ++id)
    order[id] = id;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<double> probabilities(logits.size());
  auto normalise = [&] {
    double sum = 0;
    for (double p : probabilities)
      sum += p;
    for (double &p : probabilities)
      p /= sum;
  };
  for (size_t id = 0; id < logits.size(); ++id)
    probabilities[id] = std::exp(double(logits[id] - logits[order[0]]) / options.temperature);
  normalise();
  if (options.topK > 0) {
    for (size_t rank = static_cast<size_t>(options.topK); rank < order.size(); ++rank)
      probabilities[order[rank]] = 0;
    normalise();
  }
  if (options.topP < 1) {
    double before = 0;
    for (size_t id : order) {
      double p = probabilities[id];
      if (before >= options.topP)
        probabilities[id] = 0;
      before += p;
    }
    normalise();
  }
  for (double &p : probabilities)
    if (p < options.minP * probabilities[order[0]])
      p = 0;
  normalise();
  return probabilities;
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestOfEquals) {
  EXPECT_EQ(draw({1, 5, 2}, {}), 1);
  EXPECT_EQ(draw({1, 5, 5, -3}, {}), 1);
  EXPECT_EQ(draw({-kInfinity, -1, -kInfinity}, {}), 1);
}

TEST(Sampler, TiesAtTheEdgeOfTopKGoToTheLowestId) {
  SamplingOptions options;
  options.temperature = 1;
  options.topK = 2;
  for (uint64_t position = 0; position < 200; ++position)
    EXPECT_LT(draw({3, 3, 3, 3}, options, position), 2);
}

class Filters : public ::testing::TestWithParam<SamplingOptions> {};

// Many draws: nothing filtered ever appears, and frequencies are within five standard deviations.
TEST_P(Filters, DrawFromTheDefinedDistribution) {
  constexpr int kDraws = 20000;
  for (size_t vocabSize : {7, 300}) {
    std::vector<float> logits = randomLogits(vocabSize, 5);
    std::vector<double> expected = reference(logits, GetParam());
    std::vector<int> counts(vocabSize);
    Sampler sampler(static_cast<uint32_t>(vocabSize));
    SeenTokens seen(static_cast<uint32_t>(vocabSize));
    for (int position = 0; position < kDraws; ++position) {
      std::vector<float> row = logits;
      auto token = sampler.sample(row, GetParam(), seen, static_cast<uint64_t>(position));
      ASSERT_TRUE(token.isOk());
      ++counts[static_cast<size_t>(*token)];
    }
    for (size_t id = 0; id < vocabSize; ++id) {
      double mean = expected[id] * kDraws, deviation = std::sqrt(mean * (1 - expected[id])) + 1;
      EXPECT_NEAR(counts[id], mean, 5 * deviation) << "token " << id;
      if (expected[id] == 0) {
        EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered";
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Each, Filters,
                         ::testing::Values(SamplingOptions{1.0f}, SamplingOptions{0.5f},
                                           SamplingOptions{1.0f, 5}, SamplingOptions{1.0f, 0, 0.8f},
                                           SamplingOptions{1.5f, 0, 0.99f},
                                           SamplingOptions{1.0f, 0, 1.0f, 0.1f},
                                           SamplingOptions{0.8f, 40, 0.9f, 0.05f},
                                           SamplingOptions{2.0f, 3, 0.5f, 0.0f}));

TEST(Sampler, TopPOfALargeFlatVocabularyReachesDeep) {
  // 5000 equal logits: half of them must stay possible, though only 64 are ordered at first.
  std::vector<float> logits(5000, 1.0f);
  SamplingOptions options;
  options.temperature = 1;
  options.topP = 0.5f;
  int32_t largest = 0;
  for (uint64_t position = 0; position < 300; ++position) {
    int32_t token = draw(logits, options, position);
    EXPECT_LT(token, 2501);
    largest = std::max(largest, token);
  }
  EXPECT_GT(largest, 2200);
}

TEST(Sampler, NoiseDependsOnSeedAndPositionAlone) {
  std::vector<float> logits = randomLogits(200, 1);
  SamplingOptions options;
  options.temperature = 1.5f;
  options.seed = 42;
  std::vector<int32_t> forward, backward;
  for (uint64_t position = 0; position < 50; ++position)
    forward.push_back(draw(logits, options, position));
  for (uint64_t position = 50; position > 0; --position)
    backward.insert(backward.begin(), draw(logits, options, position - 1));
  EXPECT_EQ(forward, backward);
  options.seed = 43;
  std::vector<int32_t> other;
  for (uint64_t position = 0; position < 50; ++position)
    other.push_back(draw(logits, options, position));
  EXPECT_NE(forward, other);
}

TEST(Sampler, PenalisesWhatWasSeenOnceWhateverItsSign) {
  SamplingOptions options;
  options.repetitionPenalty = 2.0f;
  EXPECT_EQ(draw({4, 3, 1}, options, 0, {0}), 1);          // 4 / 2 < 3
  EXPECT_EQ(draw({-1, -1.5f, -9}, options, 0, {0}), 1);    // -1 * 2 < -1.5
  EXPECT_EQ(draw({4, 1.5f, 1}, options, 0, {0, 0, 0}), 0); // once only: 4 / 2 > 1.5
}

TEST(Sampler, RefusesWhatNoModelShouldSay) {
  SamplingOptions sampled;
  sampled.temperature = 1;
  for (const SamplingOptions &options : {SamplingOptions{}, sampled}) {
    EXPECT_EQ(draw({1, std::nanf(""), 2}, options), -static_cast<int32_t>(StatusCode::Internal));
    EXPECT_EQ(draw({1, kInfinity, 2}, options), -static_cast<int32_t>(StatusCode::Internal));
    EXPECT_EQ(draw({-kInfinity, -kInfinity}, options), -static_cast<int32_t>(StatusCode::Internal));
  }
  auto status = argmax(std::vector<float>{1, 2, std::nanf("")}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("logit 2 of 3 is NaN"));
}

TEST(CheckSampling, NamesTheOptionOutOfRange) {
  EXPECT_TRUE(checkSampling({}).isOk());
  auto expectRefused = [](SamplingOptions options, const char *name) {
    Status status = checkSampling(options);
    EXPECT_EQ(status.code(), StatusCode::InvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  };
  expectRefused({-1.0f}, "temperature is -1");
  expectRefused({std::nanf("")}, "temperature");
  expectRefused({1, -1}, "top_k");
  expectRefused({1, 0, 0.0f}, "top_p is 0; it must be above 0 and at most 1");
  expectRefused({1, 0, 1.5f}, "top_p");
  expectRefused({1, 0, 1, -0.1f}, "min_p");
  expectRefused({1, 0, 1, 0, 0.0f}, "repetition_penalty");
}

TEST(LogSumExp, MatchesTheSumInF64) {
  for (size_t count : {1, 15, 257, 50000}) {
    std::vector<float> logits = randomLogits(count, 9);
    double sum = 0;
    for (float logit : logits)
      sum += std::exp(double(logit));
    EXPECT_NEAR(logSumExp(logits), std::log(sum), 1e-5) << count;
  }
}

TEST(TopTokens, AreOrderedAndNormalised) {
  std::vector<float> logits = randomLogits(1000, 3);
  logits[10] = logits[20] = 50;
  std::vector<TopToken> top(5);
  topTokens(logits, top);
  EXPECT_EQ(top[0].token, 10);
  EXPECT_EQ(top[1].token, 20);
  EXPECT_NEAR(top[0].logprob, std::log(0.5), 1e-5);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t rank = 0; rank < top.size(); ++rank)
    EXPECT_EQ(logits[static_cast<size_t>(top[rank].token)], sorted[rank]);
}

TEST(TopTokens, SaysWhenThereAreFewer) {
  std::vector<float> logits = {1, -kInfinity, 2};
  std::vector<TopToken> top(3);
  topTokens(logits, top);
  EXPECT_EQ(top[1].token, 0);
  EXPECT_EQ(top[2].token, -1);
}

} // namespace
} // namespace girih::engine
