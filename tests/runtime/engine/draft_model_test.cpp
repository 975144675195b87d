// SPDX-License-Identifier: Apache-2.0
// The draft model: one that is the model itself is always right, another is not, and neither changes a token.
#include "runtime/engine/draft_model.h"

#include "tests/runtime/engine/engine_rig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace girih::engine {
namespace {

using girih::testing::openToyProgram;
using girih::testing::toyGreedy;
using girih::testing::ToyOptions;
using ::testing::HasSubstr;

// No run of three tokens comes twice in so short a text, so that nothing is guessed from it.
ToyOptions toyOf(uint32_t salt, uint32_t vocabSize = 97) {
  ToyOptions toy;
  toy.vocabSize = vocabSize;
  toy.salt = salt;
  return toy;
}

EngineOptions draftedBy(const ToyOptions &draft, uint32_t maxDraft = 5) {
  EngineOptions options = withThreads(2);
  options.maxDraft = maxDraft;
  options.draftsEagerly = true;
  options.draft = openToyProgram(draft);
  return options;
}

TEST(DraftModel, ThatIsTheModelIsAlwaysRight) {
  auto engine = makeEngine(toyOf(1), draftedBy(toyOf(1)));
  for (size_t length : {1, 16, 40, 100}) {
    auto completion = generate(*engine, greedy(somePrompt(length, 3), 31));
    ASSERT_TRUE(completion.isOk()) << completion.status().message();
    EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(length, 3), 31)) << length;
  }
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numModelDraftedTokens, 60u);
  EXPECT_EQ(stats.numModelAcceptedTokens, stats.numModelDraftedTokens);
  EXPECT_LT(stats.numSteps, 4 * 31 / 3) << "five guesses and a token a step";
  EXPECT_GT(stats.draftSeconds, 0.0);
  EXPECT_EQ(stats.numKvBlocksUsed, 0u);
}

// What is sampled of the model's logits is sampled of the draft's by the same noise.
TEST(DraftModel, DrawsByTheSequencesOwnNoise) {
  auto engine = makeEngine(toyOf(1), draftedBy(toyOf(1)));
  Request request = greedy(somePrompt(20, 5), 60);
  request.sampling = {1.0f, 20, 0.9f};
  request.sampling.seed = 9;
  ASSERT_TRUE(generate(*engine, request).isOk());
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numModelDraftedTokens, 20u);
  EXPECT_EQ(stats.numModelAcceptedTokens, stats.numModelDraftedTokens);
}

TEST(DraftModel, ThatIsWrongCostsTimeAlone) {
  auto engine = makeEngine(toyOf(1), draftedBy(toyOf(2)));
  auto completion = generate(*engine, greedy(somePrompt(33, 3), 60));
  ASSERT_TRUE(completion.isOk());
  EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(33, 3), 60));
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numModelDraftedTokens, 100u);
  EXPECT_LT(stats.numModelAcceptedTokens, 20u);
}

// Of few words even another model is right now and then, and texts repeat: both sources, right and wrong, by any schedule.
TEST(DraftModel, ChangesNoTokenByAnySchedule) {
  std::mt19937 random(3);
  uint64_t numAccepted = 0, numWrong = 0, numOfText = 0, numPreemptions = 0;
  for (uint32_t round = 0; round < 24; ++round) {
    uint32_t vocabSize = round % 3 ? 4 : 97;
    ToyOptions toy = toyOf(1, vocabSize), draft = toyOf(1 + round % 2, vocabSize);
    draft.maxPositions = round % 5 == 0 ? 64 : 256;
    draft.maxTokensPerStep = 8 + random() % 24;
    draft.maxLogitRows = 1 + random() % 8;
    EngineOptions options = draftedBy(draft, 1 + random() % kMaxDraft), plain = withThreads(2);
    bool isDry = round % 4 == 0;
    options.kvBytes = isDry ? 14 * 64 : 0;
    auto engine = makeEngine(toy, options), alone = makeEngine(toy, plain);
    std::vector<std::shared_ptr<Recorder>> recorders;
    std::vector<Request> requests;
    for (uint32_t number = 0; number < 10; ++number) {
      Request request =
          greedy(somePrompt(1 + random() % 70, static_cast<int32_t>(number), vocabSize), random() % 90);
      if (number % 2) {
        request.sampling.temperature = 0.5f + 0.1f * static_cast<float>(random() % 10);
        request.sampling.seed = number;
        request.sampling.topP = number % 4 == 1 ? 0.8f : 1.0f;
      }
      recorders.push_back(std::make_shared<Recorder>());
      requests.push_back(request);
      ASSERT_TRUE(engine->submit(request, recorders.back()).isOk());
      if (!isDry && random() % 2)
        recorders.back()->waitForTokens(random() % 20);
    }
    for (uint32_t number = 0; number < requests.size(); ++number) {
      recorders[number]->wait();
      auto expected = generate(*alone, requests[number]);
      ASSERT_TRUE(expected.isOk());
      ASSERT_EQ(recorders[number]->received, expected->tokens) << "round " << round << ", request " << number;
    }
    EngineStats stats = engine->stats();
    EXPECT_EQ(stats.numKvBlocksUsed, 0u);
    numAccepted += stats.numModelAcceptedTokens;
    numWrong += stats.numModelDraftedTokens - stats.numModelAcceptedTokens;
    numOfText += stats.numDrafts - stats.numModelDrafts;
    numPreemptions += stats.numPreemptions;
  }
  // It could have gone wrong.
  EXPECT_GT(numAccepted, 1000u);
  EXPECT_GT(numWrong, 1000u);
  EXPECT_GT(numOfText, 200u);
  EXPECT_GT(numPreemptions, 5u);
}

TEST(DraftModel, MustSpeakTheModelsTokens) {
  auto create = [](const ToyOptions &draft) {
    return Engine::create(openToyProgram(toyOf(1)), draftedBy(draft)).status();
  };
  Status status = create(toyOf(1, 98));
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("a vocabulary of 98 words, the model one of 97 words"));
  ToyOptions recomputing = toyOf(1);
  recomputing.recompute = true;
  EXPECT_THAT(std::string(create(recomputing).message()), HasSubstr("keeps no KV"));
}

TEST(DraftModel, IsPartOfWhatAnEngineTakes) {
  auto program = openToyProgram(toyOf(1));
  EngineOptions options = withThreads(1);
  uint64_t alone = needsOf(*program, options)->numBytes;
  options.draft = program;
  EXPECT_EQ(needsOf(*program, options)->numBytes, 2 * alone);
}

// By time alone a toy never pays: its steps cost next to nothing beside guessing.
TEST(DraftModel, StopsWhereItIsWrong) {
  EngineOptions options = draftedBy(toyOf(2));
  options.draftsEagerly = false;
  auto engine = makeEngine(toyOf(1), options);
  for (int32_t number = 0; number < 8; ++number)
    ASSERT_TRUE(generate(*engine, greedy(somePrompt(10, number), 200)).isOk());
  EngineStats stats = engine->stats();
  EXPECT_LT(stats.numModelDrafts, stats.numSteps / 5);
}

} // namespace
} // namespace girih::engine
