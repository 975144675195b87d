// SPDX-License-Identifier: Apache-2.0
// Who is in the next step, in what order, and who gives way when blocks run out. No device, no threads.
#include "runtime/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <set>

namespace girih::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SchedulerTest : public ::testing::Test {
protected:
  struct Setup {
    uint32_t maxSequences = 8, tokensPerStep = 32, logitRows = 8, blocks = 64, context = 256;
  };
  void begin(const Setup &setup) {
    context = setup.context;
    scheduler.emplace(SchedulerLimits{setup.maxSequences, false}, setup.blocks);
    batch.emplace(setup.tokensPerStep, setup.maxSequences, setup.logitRows, kv::numBlocksFor(setup.context));
  }
  // A prompt of its own, that shares nothing with others.
  void add(RequestId id, size_t promptLength, uint32_t maxTokens = 100) {
    Request request;
    request.promptTokens.assign(promptLength, 100 + static_cast<int32_t>(id));
    request.maxTokens = maxTokens;
    add(id, std::move(request));
  }
  void add(RequestId id, Request request) {
    scheduler->add(std::make_unique<Sequence>(id, std::move(request), nullptr, 1000, context));
  }
  // One step: who was in it, with how many tokens. Sequences get token 2 and leave when they are full.
  std::vector<std::pair<RequestId, uint32_t>> step(const StepTerms &terms = {}) {
    std::vector<std::pair<RequestId, uint32_t>> served;
    std::vector<RequestId> full;
    for (Sequence *sequence : scheduler->plan(*batch, terms)) {
      served.emplace_back(sequence->id, sequence->numPlanned);
      scheduler->advance(*sequence);
      if (sequence->numPending() > 0)
        continue;
      EXPECT_EQ(sequence->numRows, 1u) << "the last position is sampled from";
      sequence->tokens.push_back(2);
      if (!sequence->wantsToken())
        full.push_back(sequence->id);
    }
    for (RequestId id : full)
      scheduler->remove(id);
    return served;
  }
  using Served = std::pair<RequestId, uint32_t>;

  uint32_t context = 0;
  std::optional<Scheduler> scheduler;
  std::optional<program::StepBatch> batch;
};

TEST_F(SchedulerTest, MixesDecodeRowsAndPromptChunks) {
  begin({});
  add(1, 5);
  EXPECT_THAT(step(), ElementsAre(Served{1, 5}));
  add(2, 50);
  add(3, 4);
  // A chunk ends with a block: 16 and not 31, and the room goes to the next one.
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 16}, Served{3, 4}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{3, 1}, Served{2, 16}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{3, 1}, Served{2, 18}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{3, 1}, Served{2, 1}));
}

TEST_F(SchedulerTest, HiddenStatesTakeTurnsWithTokens) {
  begin({.logitRows = 32});
  auto addHidden = [&](RequestId id, size_t promptLength) {
    Request request;
    request.promptTokens.assign(promptLength, 7);
    request.maxTokens = 0;
    request.wantHidden = true;
    add(id, std::move(request));
  };
  auto served = [&](uint32_t maxPromptTokens) {
    std::vector<Served> result;
    StepTerms terms;
    terms.maxPromptTokens = maxPromptTokens;
    terms.shortPromptTokens = 32;
    for (Sequence *sequence : scheduler->plan(*batch, terms)) {
      EXPECT_EQ(sequence->rowKind(), batch->kind());
      result.emplace_back(sequence->id, sequence->numPlanned);
      scheduler->advance(*sequence);
      if (sequence->wantsToken())
        sequence->tokens.push_back(2);
    }
    return result;
  };
  add(1, 5);
  EXPECT_THAT(served(16), ElementsAre(Served{1, 5}));
  addHidden(2, 60);
  // Beside a stream the steps in between are short.
  EXPECT_THAT(served(16), ElementsAre(Served{2, 16}));
  EXPECT_THAT(served(16), ElementsAre(Served{1, 1}));
  EXPECT_THAT(served(16), ElementsAre(Served{2, 16}));
  scheduler->remove(1);
  EXPECT_THAT(served(16), ElementsAre(Served{2, 28})) << "alone it takes what is left";
  EXPECT_EQ(scheduler->cache().numIdle(), 0u) << "and leaves nothing in the cache";
}

TEST_F(SchedulerTest, NobodyOvertakesInTheQueue) {
  begin({.maxSequences = 2});
  for (RequestId id : {1, 2, 3, 4})
    add(id, 2, id == 1 ? 3 : 100);
  EXPECT_THAT(step(), ElementsAre(Served{1, 2}, Served{2, 2}));
  EXPECT_EQ(scheduler->numWaiting(), 2u);
  step();
  step(); // the first is full
  EXPECT_THAT(step(), ElementsAre(Served{2, 1}, Served{3, 2}));
}

TEST_F(SchedulerTest, ALargeHeadOfTheQueueHoldsUpTheSmallBehindIt) {
  begin({.blocks = 8, .context = 128});
  add(1, 60);  // 4 blocks
  add(2, 100); // 7 blocks: must wait for the first
  add(3, 2);
  step();
  step();
  EXPECT_EQ(scheduler->numRunning(), 1u);
  EXPECT_EQ(scheduler->numWaiting(), 2u);
}

TEST_F(SchedulerTest, FewRowsGoRound) {
  begin({.logitRows = 2});
  for (RequestId id : {1, 2, 3})
    add(id, 1);
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 1}));
  EXPECT_THAT(step(), ElementsAre(Served{3, 1}, Served{1, 1}));
  EXPECT_THAT(step(), ElementsAre(Served{2, 1}, Served{3, 1}));
}

TEST_F(SchedulerTest, TheYoungestGivesWayAndComesBackFirst) {
  begin({.blocks = 5, .context = 80});
  add(1, 30, 40);
  add(2, 30, 40); // 2 blocks each at first; both grow to 5
  add(3, 30, 40);
  std::vector<size_t> numServed;
  while (scheduler->numPreemptions() == 0)
    step();
  EXPECT_EQ(scheduler->numRunning(), 1u);
  EXPECT_EQ(scheduler->numWaiting(), 2u);
  RequestId next = 0;
  while (next == 0)
    for (const Served &served : step())
      if (served.first != 1)
        next = served.first;
  EXPECT_EQ(next, 2u) << "the one that gave way is ahead of the third";
  while (!scheduler->isIdle())
    ASSERT_THAT(step(), ::testing::Not(IsEmpty())) << "something always moves";
  EXPECT_EQ(scheduler->cache().numHeld(), 0u);
}

TEST_F(SchedulerTest, RemovingFreesWhatItHolds) {
  begin({});
  add(1, 40);
  add(2, 40);
  step();
  EXPECT_GT(scheduler->cache().numHeld(), 0u);
  EXPECT_NE(scheduler->remove(1), nullptr);
  EXPECT_NE(scheduler->remove(2), nullptr);
  EXPECT_EQ(scheduler->remove(2), nullptr);
  EXPECT_EQ(scheduler->cache().numHeld(), 0u);
  EXPECT_TRUE(scheduler->isIdle());
  EXPECT_EQ(scheduler->any(), nullptr);
}

Request promptOf(std::vector<int32_t> tokens, uint32_t maxTokens = 5) {
  Request request;
  request.promptTokens = std::move(tokens);
  request.maxTokens = maxTokens;
  return request;
}

// `length` tokens that depend on `salt` from position `common` on.
std::vector<int32_t> promptSharing(uint32_t common, uint32_t length, int32_t salt) {
  std::vector<int32_t> tokens;
  for (uint32_t position = 0; position < length; ++position)
    tokens.push_back(static_cast<int32_t>(position % 50) + (position < common ? 0 : 50 * salt));
  return tokens;
}

TEST_F(SchedulerTest, APromptGoesOnFromWhereTheCacheEnds) {
  begin({});
  add(1, promptOf(promptSharing(40, 50, 1), 1));
  EXPECT_THAT(step(), ElementsAre(Served{1, 32}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 18}));
  EXPECT_TRUE(scheduler->isIdle());
  EXPECT_EQ(scheduler->cache().numIdle(), 3u);
  add(2, promptOf(promptSharing(40, 50, 2)));
  EXPECT_THAT(step(), ElementsAre(Served{2, 18})) << "two of three blocks are the same";
  EXPECT_EQ(scheduler->remove(2)->usage.numCachedTokens, 32u);
  // At least one token is fed, for its logits: an equal prompt of whole blocks computes the last one again.
  add(3, promptOf(promptSharing(40, 48, 1)));
  EXPECT_THAT(step(), ElementsAre(Served{3, 16}));
}

TEST_F(SchedulerTest, ABurstComputesItsPrefixOnce) {
  begin({.maxSequences = 8, .tokensPerStep = 64, .logitRows = 16});
  for (RequestId id = 1; id <= 8; ++id)
    add(id, promptOf(promptSharing(128, 130, static_cast<int32_t>(id)), 1));
  uint32_t numEvaluated = 0;
  while (!scheduler->isIdle())
    for (const Served &served : step())
      numEvaluated += served.second;
  EXPECT_EQ(numEvaluated, 128u + 8 * 2);
}

TEST_F(SchedulerTest, OtherSaltsShareNothing) {
  begin({});
  for (RequestId id : {1, 2}) {
    kv::ContentKey root = {static_cast<uint8_t>(id)};
    scheduler->add(
        std::make_unique<Sequence>(id, promptOf(promptSharing(30, 30, 0), 1), nullptr, 1000, context, root));
    EXPECT_THAT(step(), ElementsAre(Served{id, 30}));
  }
}

TEST_F(SchedulerTest, WhoWantsThePromptsLogitsComputesThem) {
  begin({.logitRows = 64});
  add(1, promptOf(promptSharing(30, 30, 0), 1));
  step();
  Request echo = promptOf(promptSharing(30, 30, 0), 1);
  echo.wantPromptLogprobs = true;
  echo.maxTokens = 0;
  add(2, std::move(echo));
  std::vector<Served> served;
  for (Sequence *sequence : scheduler->plan(*batch))
    served.emplace_back(sequence->id, sequence->numPlanned);
  EXPECT_THAT(served, ElementsAre(Served{2, 30}));
}

TEST_F(SchedulerTest, EqualOutputsShareTheirBlocksAfterwards) {
  begin({});
  for (RequestId id : {1, 2})
    add(id, promptOf(promptSharing(20, 20, 0), 30));
  for (int count = 0; count < 15; ++count)
    step();
  // Both generate the same 14 tokens after 20: two full blocks, and a tail of their own each.
  EXPECT_EQ(scheduler->cache().numHeld(), 2u + 2u);
}

TEST_F(SchedulerTest, APreemptedSequenceFindsWhatIsLeftOfIt) {
  begin({.blocks = 6, .context = 96});
  add(1, 40, 50);
  add(2, 40, 50);
  while (scheduler->numPreemptions() == 0)
    step();
  uint32_t numEvaluated = 0;
  while (!scheduler->isIdle()) {
    std::vector<Served> served = step();
    ASSERT_FALSE(served.empty());
    for (const Served &one : served)
      numEvaluated += one.first == 2 ? one.second : 0;
  }
  EXPECT_GT(numEvaluated, 0u);
  EXPECT_EQ(scheduler->cache().numHeld(), 0u);
}

TEST_F(SchedulerTest, ClientsGetEqualPartsHoweverOftenTheyAsk) {
  begin({.maxSequences = 2, .tokensPerStep = 32});
  auto addFor = [&](RequestId id, uint32_t client, uint32_t weight = 1) {
    Request request = promptOf(std::vector<int32_t>(8, static_cast<int32_t>(id)), 8);
    request.client = client;
    request.clientWeight = weight;
    add(id, std::move(request));
  };
  // Client 1 asks for 60 before client 2 asks for 10: the latter's are done after about twice ten.
  for (RequestId id = 1; id <= 60; ++id)
    addFor(id, 1);
  for (RequestId id = 101; id <= 110; ++id)
    addFor(id, 2);
  size_t numOfFirst = 0;
  std::set<RequestId> seen;
  while (seen.size() - numOfFirst < 10)
    for (const Served &served : step())
      if (seen.insert(served.first).second)
        numOfFirst += served.first <= 60;
  EXPECT_LE(numOfFirst, 13u);
  EXPECT_GE(numOfFirst, 8u);
}

TEST_F(SchedulerTest, AWeightIsAPartOfTheSteps) {
  begin({.maxSequences = 1});
  std::map<uint32_t, size_t> numStarted;
  for (RequestId id = 1; id <= 80; ++id) {
    Request request = promptOf(std::vector<int32_t>(8, static_cast<int32_t>(id)), 1);
    request.client = id % 2 ? 1 : 2;
    request.clientWeight = id % 2 ? 1 : 3;
    add(id, std::move(request));
  }
  for (int count = 0; count < 40; ++count)
    for (const Served &served : step())
      ++numStarted[served.first % 2 ? 1 : 2];
  EXPECT_NEAR(static_cast<double>(numStarted[2]), 30.0, 2.0);
}

TEST_F(SchedulerTest, WhoComesBackHasNoClaimForTheTimeAway) {
  begin({.maxSequences = 1});
  auto addFor = [&](RequestId id, uint32_t client) {
    Request request = promptOf(std::vector<int32_t>(8, static_cast<int32_t>(id)), 1);
    request.client = client;
    add(id, std::move(request));
  };
  for (RequestId id = 1; id <= 100; ++id)
    addFor(id, 1);
  for (int count = 0; count < 50; ++count)
    step();
  for (RequestId id = 201; id <= 250; ++id)
    addFor(id, 2);
  size_t numOfNewcomer = 0;
  for (int count = 0; count < 20; ++count)
    for (const Served &served : step())
      numOfNewcomer += served.first > 200;
  EXPECT_NEAR(static_cast<double>(numOfNewcomer), 10.0, 1.0);
}

TEST_F(SchedulerTest, AHigherPriorityTakesAPlaceAndGivesItBack) {
  begin({.maxSequences = 2});
  add(1, 4);
  add(2, 4);
  step();
  Request urgent = promptOf(std::vector<int32_t>(4, 7), 2);
  urgent.priority = 5;
  add(3, std::move(urgent));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{3, 4})) << "the youngest of the lower gave way";
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{3, 1}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 5})) << "recomputed with its first token";
}

TEST_F(SchedulerTest, PromptsBesideStreamsAreCutAsTold) {
  begin({});
  add(1, 4);
  step();
  add(2, 100);
  StepTerms terms;
  terms.maxPromptTokens = 16;
  EXPECT_THAT(step(terms), ElementsAre(Served{1, 1}, Served{2, 16}));
  terms.shortPromptTokens = 30;
  add(3, 12, 1);
  EXPECT_THAT(step(terms), ElementsAre(Served{1, 1}, Served{2, 16}, Served{3, 12}))
      << "a short one is let in";
  scheduler->remove(1);
  EXPECT_THAT(step(terms), ElementsAre(Served{2, 32})) << "nobody waits for it";
}

TEST_F(SchedulerTest, NamesWhoIsOverdue) {
  begin({.maxSequences = 1});
  Clock::time_point now = Clock::now();
  for (RequestId id : {1, 2, 3}) {
    Request request = promptOf({1, 2}, 9);
    if (id != 2)
      request.deadline = now + std::chrono::seconds(id);
    add(id, std::move(request));
  }
  step();
  std::vector<RequestId> overdue;
  scheduler->collectOverdue(now, overdue);
  EXPECT_THAT(overdue, IsEmpty());
  scheduler->collectOverdue(now + std::chrono::seconds(5), overdue);
  EXPECT_THAT(overdue, ElementsAre(1, 3));
}

// Any mix of lengths in any small pool: every step moves, every sequence ends, nothing leaks.
TEST_F(SchedulerTest, AlwaysEnds) {
  for (uint32_t numBlocks = 4; numBlocks < 14; ++numBlocks)
    for (uint32_t logitRows : {1u, 3u, 8u}) {
      begin({.maxSequences = 4,
             .tokensPerStep = 9,
             .logitRows = logitRows,
             .blocks = numBlocks,
             .context = 64});
      for (RequestId id = 1; id <= 12; ++id)
        add(id, 1 + id * 13 % 47, 1 + id * 29 % 60);
      int numSteps = 0;
      while (!scheduler->isIdle()) {
        ASSERT_THAT(step(), ::testing::Not(IsEmpty())) << numBlocks << " blocks, " << logitRows << " rows";
        ASSERT_LT(++numSteps, 20000);
      }
      EXPECT_EQ(scheduler->cache().numHeld(), 0u);
    }
}

} // namespace
} // namespace girih::engine
