// SPDX-License-Identifier: Apache-2.0
// Hidden states through the engine: each position once and right, whatever else is asked at the same time.
#include "tests/runtime/engine/engine_rig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::engine {
namespace {

using girih::testing::kToyHiddenSize;
using girih::testing::toyGreedy;
using girih::testing::toyHidden;
using girih::testing::ToyOptions;
using ::testing::ElementsAreArray;

ToyOptions givingHidden() {
  ToyOptions toy;
  toy.givesHidden = true;
  return toy;
}

Request hiddenOf(std::vector<int32_t> prompt) {
  Request request = greedy(std::move(prompt), 0);
  request.wantHidden = true;
  return request;
}

class HiddenRecorder final : public Listener {
public:
  void onTokens(RequestId, std::span<const TokenResult>) override {
    ADD_FAILURE() << "no token was asked for";
  }
  void onHidden(RequestId, uint32_t firstPosition, uint32_t numRows,
                std::span<const float> newRows) override {
    std::lock_guard lock(mutex);
    EXPECT_EQ(firstPosition * kToyHiddenSize, rows.size()) << "each position once, in order";
    EXPECT_EQ(newRows.size(), numRows * kToyHiddenSize);
    rows.insert(rows.end(), newRows.begin(), newRows.end());
  }
  void onFinish(RequestId, FinishReason newReason, const Usage &newUsage, const Status &) override {
    std::lock_guard lock(mutex);
    reason = newReason;
    usage = newUsage;
    hasEnded = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return hasEnded; });
  }
  void expectThoseOf(const std::vector<int32_t> &prompt) {
    wait();
    EXPECT_EQ(reason, FinishReason::Length);
    ASSERT_EQ(rows.size(), prompt.size() * kToyHiddenSize);
    for (size_t position = 0; position < prompt.size(); ++position)
      ASSERT_THAT(std::span(rows).subspan(position * kToyHiddenSize, kToyHiddenSize),
                  ElementsAreArray(toyHidden(
                      {prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(position) + 1})))
          << position;
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<float> rows;
  FinishReason reason = FinishReason::Failed;
  Usage usage;
  bool hasEnded = false;
};

TEST(HiddenStates, AreThoseOfEveryPosition) {
  auto engine = makeEngine(givingHidden());
  for (size_t length : {1, 2, 16, 17, 100, 256}) {
    auto recorder = std::make_shared<HiddenRecorder>();
    ASSERT_TRUE(engine->submit(hiddenOf(somePrompt(length, 5)), recorder).isOk());
    recorder->expectThoseOf(somePrompt(length, 5));
    EXPECT_EQ(recorder->usage.numCachedTokens, 0u);
  }
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
  EXPECT_EQ(engine->stats().numKvBlocksCached, 0u)
      << "texts that are read once push nothing out of the cache";
}

// Many of both at once, in a pool that is too small for them: steps take turns, and somebody gives way.
TEST(HiddenStates, AndAnswersAreEachAsAlone) {
  EngineOptions options = withThreads(2);
  options.kvBytes = 20 * 64;
  auto engine = makeEngine(givingHidden(), options);
  std::vector<std::shared_ptr<HiddenRecorder>> hidden;
  std::vector<std::shared_ptr<Recorder>> answers;
  for (int32_t number = 0; number < 16; ++number) {
    hidden.push_back(std::make_shared<HiddenRecorder>());
    answers.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(
        engine->submit(hiddenOf(somePrompt(20 + 9 * static_cast<size_t>(number), number)), hidden.back())
            .isOk());
    ASSERT_TRUE(engine->submit(greedy(somePrompt(30, number), 60), answers.back()).isOk());
  }
  for (int32_t number = 0; number < 16; ++number) {
    auto index = static_cast<size_t>(number);
    hidden[index]->expectThoseOf(somePrompt(20 + 9 * index, number));
    answers[index]->wait();
    EXPECT_EQ(answers[index]->received, toyGreedy(somePrompt(30, number), 60));
  }
  EXPECT_GT(engine->stats().numPreemptions, 0u);
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
}

TEST(HiddenStates, AreRefusedWhereThereAreNone) {
  auto engine = makeEngine();
  auto refused = engine->submit(hiddenOf({1, 2}), std::make_shared<HiddenRecorder>());
  EXPECT_EQ(refused.status().code(), StatusCode::Unimplemented);
  engine = makeEngine(givingHidden());
  Request request = hiddenOf({1, 2});
  request.maxTokens = 1;
  EXPECT_EQ(engine->submit(request, std::make_shared<HiddenRecorder>()).status().code(),
            StatusCode::InvalidArgument);
  request = hiddenOf({1, 2});
  request.wantLogits = true;
  EXPECT_EQ(engine->submit(request, std::make_shared<HiddenRecorder>()).status().code(),
            StatusCode::InvalidArgument);
}

} // namespace
} // namespace girih::engine
