// SPDX-License-Identifier: Apache-2.0
// A device that is lost between two steps: what runs goes on elsewhere from its tokens, and nothing of the lost pool is
// ever read.
#include "runtime/hal/registry.h"
#include "tests/runtime/engine/engine_rig.h"

#include <atomic>
#include <cstdio>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

namespace girih::engine {
namespace {

using girih::testing::openToyProgram;
using girih::testing::toyGreedy;
using girih::testing::toyLogits;
using girih::testing::ToyOptions;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The CPU backend until its submissions are used up.
std::atomic<int> submissionsLeft;
const girih_backend *cpu() { return *hal::findBackend("cpu"); }

girih_code submitOrLose(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                        girih_message *message) {
  if (submissionsLeft-- > 0)
    return cpu()->run->submit(device, submission, ticket, message);
  std::snprintf(message->text, message->capacity_bytes, "somebody pulled the card");
  return GIRIH_UNAVAILABLE;
}

const girih_backend *lossy(int numSubmissions) {
  static girih_run_table table = *cpu()->run;
  static girih_backend backend = *cpu();
  table.submit = submitOrLose;
  backend.run = &table;
  submissionsLeft = numSubmissions;
  return &backend;
}

struct Rig {
  std::vector<std::string> notes;
  std::unique_ptr<Engine> engine;

  Rig(int numSubmissions, bool hasOther, const ToyOptions &toy = {}) {
    EngineOptions options;
    options.numThreads = 1;
    options.devices = {{lossy(numSubmissions), 0}};
    if (hasOther)
      options.devices.push_back({cpu(), 0});
    options.onNote = [this](const std::string &note) { notes.push_back(note); };
    auto created = Engine::create(openToyProgram(toy), options);
    GIRIH_CHECK(created.isOk());
    engine = std::move(created).value();
  }
};

Request fortyTokens(int32_t first, uint32_t maxTokens) { return greedy(somePrompt(40, first), maxTokens); }

TEST(LostDevice, GoesOnWithTheNextAndLosesNoToken) {
  for (int numSubmissions : {0, 1, 2, 7}) {
    Rig rig(numSubmissions, /*hasOther=*/true);
    std::vector<std::thread> clients;
    std::vector<std::vector<int32_t>> answers(5);
    for (int32_t client = 0; client < 5; ++client)
      clients.emplace_back([&, client] {
        auto completion = generate(*rig.engine, fortyTokens(client, 20));
        ASSERT_TRUE(completion.isOk()) << completion.status().message();
        answers[static_cast<size_t>(client)] = completion->tokens;
      });
    for (std::thread &client : clients)
      client.join();
    for (int32_t client = 0; client < 5; ++client)
      EXPECT_EQ(answers[static_cast<size_t>(client)], toyGreedy(fortyTokens(client, 20).promptTokens, 20))
          << numSubmissions;
    EXPECT_THAT(rig.notes, ElementsAre(HasSubstr("somebody pulled the card; going on with cpu:0, where")));
  }
}

TEST(LostDevice, FindsNothingOfThePoolThatIsGone) {
  Rig rig(/*numSubmissions=*/1000, /*hasOther=*/true);
  auto first = generate(*rig.engine, fortyTokens(3, 8));
  submissionsLeft = 1; // the next request's first step works, and fills what it found in the cache
  auto second = generate(*rig.engine, fortyTokens(3, 8));
  auto third = generate(*rig.engine, fortyTokens(3, 8));
  ASSERT_TRUE(first.isOk() && second.isOk() && third.isOk());
  EXPECT_EQ(first->tokens, toyGreedy(fortyTokens(3, 8).promptTokens, 8));
  EXPECT_EQ(second->tokens, first->tokens);
  EXPECT_EQ(third->tokens, first->tokens);
  EXPECT_EQ(rig.notes.size(), 1u);
}

TEST(LostDevice, EveryPositionIsReportedOnce) {
  Rig rig(/*numSubmissions=*/3, /*hasOther=*/true);
  Request request = fortyTokens(1, 6);
  request.wantLogits = true;
  auto completion = generate(*rig.engine, std::move(request));
  ASSERT_TRUE(completion.isOk()) << completion.status().message();
  std::vector<int32_t> tokens = fortyTokens(1, 6).promptTokens;
  uint32_t vocabSize = rig.engine->program().model().vocabSize;
  ASSERT_EQ(completion->numLogitRows, tokens.size() + 5);
  tokens.insert(tokens.end(), completion->tokens.begin(), completion->tokens.end() - 1);
  for (size_t row = 0; row < tokens.size(); ++row) {
    std::vector<int32_t> seen(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(row) + 1);
    std::vector<float> got(completion->logits.begin() + static_cast<std::ptrdiff_t>(row * vocabSize),
                           completion->logits.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocabSize));
    EXPECT_EQ(got, toyLogits(seen)) << row;
  }
}

TEST(LostDevice, ProgramsWithoutACacheGoOnToo) {
  ToyOptions toy;
  toy.recompute = true;
  Rig rig(/*numSubmissions=*/2, /*hasOther=*/true, toy);
  Request request = fortyTokens(2, 4);
  request.promptTokens.resize(5);
  std::vector<int32_t> prompt = request.promptTokens;
  auto completion = generate(*rig.engine, std::move(request));
  ASSERT_TRUE(completion.isOk()) << completion.status().message();
  EXPECT_EQ(completion->tokens, toyGreedy(prompt, 4, toy));
}

TEST(LostDevice, WithoutAnotherTheRequestFailsByItsReason) {
  Rig rig(/*numSubmissions=*/1, /*hasOther=*/false);
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto completion = generate(*rig.engine, fortyTokens(1, 8));
    ASSERT_FALSE(completion.isOk());
    EXPECT_EQ(completion.status().code(), StatusCode::Unavailable);
    EXPECT_THAT(std::string(completion.status().message()), HasSubstr("somebody pulled the card"));
  }
  EXPECT_THAT(rig.notes, ElementsAre());
}

} // namespace
} // namespace girih::engine
