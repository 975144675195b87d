// SPDX-License-Identifier: Apache-2.0
// Speculation: what is guessed and when, and that no guess changes a token.
#include "runtime/engine/speculation.h"

#include "tests/runtime/engine/engine_rig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace girih::engine {
namespace {

using girih::testing::toyGreedy;
using girih::testing::ToyOptions;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> proposed(NgramIndex &index, const std::vector<int32_t> &text, uint32_t most) {
  std::vector<int32_t> draft;
  index.propose(text, 1000, most, draft);
  return draft;
}

TEST(NgramIndex, SaysWhatFollowedTheLastRunBefore) {
  NgramIndex index;
  EXPECT_THAT(proposed(index, {1, 2, 3}, 4), IsEmpty());
  EXPECT_THAT(proposed(index, {1, 2, 3, 7, 8, 9, 1, 2, 3}, 4), ElementsAre(7, 8, 9, 1));
  EXPECT_THAT(proposed(index, {1, 2, 3, 7, 8, 9, 1, 2, 3, 5, 1, 2, 3}, 2), ElementsAre(5, 1))
      << "the later one";
  EXPECT_THAT(proposed(index, {1, 2, 3, 7, 8, 9, 1, 2, 3, 5, 1, 2, 3, 5}, 9), ElementsAre(1, 2, 3, 5))
      << "up to its end";
  EXPECT_THAT(proposed(index, {1, 2, 3, 7, 8, 9, 1, 2, 3, 5, 1, 2, 3, 5, 4}, 9), IsEmpty());
}

TEST(NgramIndex, AgreesWithASearchOfTheText) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    NgramIndex index;
    std::vector<int32_t> text;
    for (uint32_t size = 1; size < 200; ++size) {
      text.push_back(static_cast<int32_t>(random() % 3));
      if (random() % 3 == 0)
        continue; // catches up later
      std::vector<int32_t> expected;
      for (size_t end = size - 1; end >= 3 && expected.empty(); --end)
        if (std::equal(text.end() - 3, text.end(), text.begin() + static_cast<std::ptrdiff_t>(end) - 3))
          expected.assign(text.begin() + static_cast<std::ptrdiff_t>(end), text.end());
      expected.resize(std::min<size_t>(expected.size(), 5));
      std::vector<int32_t> draft = proposed(index, text, 5);
      // Two runs may fall on one place of the table: then nothing is guessed.
      if (!draft.empty()) {
        ASSERT_EQ(draft, expected) << size;
      }
    }
  }
}

TEST(StepCosts, GuessesAsMuchAsPays) {
  StepCosts costs;
  EXPECT_FALSE(costs.isKnown(1));
  costs.observe(1, 1.0);
  ASSERT_TRUE(costs.isKnown(1));
  EXPECT_GT(costs.bestDraft(1, 1.0, 0.6, 15), 0u) << "is tried";
  // A row more costs as much as the first: nothing pays.
  for (uint32_t rows = 1; rows <= 16; ++rows)
    costs.observe(rows, rows);
  for (double acceptance : {0.1, 0.5, 0.9, 0.99})
    EXPECT_EQ(costs.bestDraft(1, 1.0, acceptance, 15), 0u) << acceptance;
  // Eight rows cost as much as one: all seven, when they are likely to be right; a few, when not.
  StepCosts wide;
  for (uint32_t rows = 1; rows <= 16; ++rows)
    wide.observe(rows, rows <= 8 ? 1.0 : 3.0);
  EXPECT_EQ(wide.bestDraft(1, 1.0, 0.9, 15), 7u);
  EXPECT_EQ(wide.bestDraft(1, 1.0, 0.9, 4), 4u);
  EXPECT_EQ(wide.bestDraft(1, 1.0, 0.03, 15), 0u) << "less than what is measured so exactly";
  EXPECT_EQ(wide.bestDraft(8, 8.0, 0.9, 15), 0u);
}

TEST(StepCosts, ForgetsWhatIsOld) {
  StepCosts costs;
  costs.observe(1, 1.0);
  costs.observe(2, 100.0); // the machine was busy
  EXPECT_EQ(costs.bestDraft(1, 1.0, 0.9, 1), 0u);
  for (int step = 0; step < 2000; ++step)
    costs.observe(1, 1.0);
  EXPECT_EQ(costs.bestDraft(1, 1.0, 0.9, 1), 1u);
}

TEST(DraftRecord, LearnsAndForgets) {
  DraftRecord record;
  for (int step = 0; step < 20; ++step)
    record.observe(2, 2);
  EXPECT_GT(record.acceptance(), 0.95);
  for (int step = 0; step < 20; ++step)
    record.observe(2, 0);
  EXPECT_LT(record.acceptance(), 0.05);
  for (int step = 0; step < 400; ++step)
    record.forgetSome();
  EXPECT_GT(record.acceptance(), 0.4);
}

// Few different tokens, so that guesses often come true though the toy's every logit depends on all tokens before.
ToyOptions smallVocabulary() {
  ToyOptions toy;
  toy.vocabSize = 4;
  return toy;
}

std::unique_ptr<Engine> makeGuessing(const ToyOptions &toy, uint32_t maxDraft, uint64_t kvBytes = 0) {
  EngineOptions options = withThreads(2);
  options.maxDraft = maxDraft;
  options.draftsEagerly = true;
  options.kvBytes = kvBytes;
  return makeEngine(toy, options);
}

Request request(uint32_t number, uint32_t maxTokens) {
  Request result;
  for (uint32_t index = 0; index < 1 + number * 5 % 40; ++index)
    result.promptTokens.push_back(static_cast<int32_t>((number + index * index) % 4));
  result.maxTokens = maxTokens;
  return result;
}

TEST(Speculation, GreedyTokensAreTheModelsOwn) {
  auto engine = makeGuessing(smallVocabulary(), 7);
  for (uint32_t number = 0; number < 20; ++number) {
    auto completion = generate(*engine, request(number, 100 + number));
    ASSERT_TRUE(completion.isOk()) << completion.status().message();
    EXPECT_EQ(completion->tokens, toyGreedy(request(number, 0).promptTokens, 100 + number, smallVocabulary()))
        << number;
    EXPECT_EQ(completion->reason, FinishReason::Length);
  }
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numAcceptedTokens, 200u);
  EXPECT_GT(stats.numDraftedTokens, stats.numAcceptedTokens);
  EXPECT_GT(stats.numDrafts, 100u);
  EXPECT_LT(stats.numSteps, stats.numOutputTokens) << "fewer steps than tokens";
  EXPECT_EQ(stats.numKvBlocksUsed, 0u);
}

// Everything by which a token is chosen, with guesses and without.
TEST(Speculation, SampledTokensAreThoseWithoutIt) {
  auto plain = makeGuessing(smallVocabulary(), 0), guessing = makeGuessing(smallVocabulary(), 15);
  for (uint32_t number = 0; number < 40; ++number) {
    Request wanted = request(number, 90);
    wanted.sampling.temperature = 0.3f + 0.1f * static_cast<float>(number % 10);
    wanted.sampling.seed = number;
    wanted.sampling.topK = number % 3 == 0 ? 3 : 0;
    wanted.sampling.topP = number % 4 == 0 ? 0.9f : 1.0f;
    wanted.sampling.repetitionPenalty = number % 5 == 0 ? 1.1f : 1.0f;
    wanted.rules.frequencyPenalty = number % 7 == 0 ? 0.02f : 0.0f;
    wanted.rules.biases = {{1, 0.25f}};
    wanted.wantLogprobs = number % 2 == 0;
    wanted.wantPromptLogprobs = number % 6 == 0;
    if (number % 8 == 0)
      wanted.stopTokens = {3};
    auto expected = generate(*plain, wanted), got = generate(*guessing, wanted);
    ASSERT_TRUE(expected.isOk() && got.isOk());
    EXPECT_EQ(got->tokens, expected->tokens) << number;
    EXPECT_EQ(got->logprobs, expected->logprobs) << number;
    EXPECT_EQ(got->promptLogprobs, expected->promptLogprobs) << number;
    EXPECT_EQ(got->reason, expected->reason) << number;
    EXPECT_EQ(got->usage.numOutputTokens, expected->usage.numOutputTokens) << number;
  }
  EXPECT_EQ(plain->stats().numDrafts, 0u);
  EXPECT_GT(guessing->stats().numAcceptedTokens, 200u);
}

TEST(Speculation, LogitsComeOnceForEachToken) {
  auto plain = makeGuessing(smallVocabulary(), 0), guessing = makeGuessing(smallVocabulary(), 15);
  Request wanted = request(7, 60);
  wanted.wantLogits = true;
  auto expected = generate(*plain, wanted), got = generate(*guessing, wanted);
  ASSERT_TRUE(expected.isOk() && got.isOk());
  EXPECT_EQ(got->logits, expected->logits);
}

// A pool so small that sequences give their blocks back, and rows so few that guesses seldom fit.
TEST(Speculation, ManyTogetherInADryPoolAreEachAsAlone) {
  for (uint64_t numBlocks : {16, 40}) {
    auto engine = makeGuessing(smallVocabulary(), 15, numBlocks * 64);
    std::vector<std::shared_ptr<Recorder>> recorders;
    for (uint32_t number = 0; number < 8; ++number) {
      recorders.push_back(std::make_shared<Recorder>());
      ASSERT_TRUE(engine->submit(request(number, 80), recorders.back()).isOk());
    }
    for (uint32_t number = 0; number < 8; ++number) {
      recorders[number]->wait();
      EXPECT_EQ(recorders[number]->received,
                toyGreedy(request(number, 0).promptTokens, 80, smallVocabulary()))
          << number;
    }
    EXPECT_GT(engine->stats().numDrafts, 0u);
    EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
  }
}

} // namespace
} // namespace girih::engine
