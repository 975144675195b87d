// SPDX-License-Identifier: Apache-2.0
// Who is in the next step, in what order, and who gives way when blocks run out. No device, no threads.
#include "runtime/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  void add(RequestId id, size_t promptLength, uint32_t maxTokens = 100) {
    Request request;
    request.promptTokens.assign(promptLength, 1);
    request.maxTokens = maxTokens;
    scheduler->add(std::make_unique<Sequence>(id, std::move(request), nullptr, 10, context));
  }
  // One step: who was in it, with how many tokens. Sequences get token 2 and leave when they are full.
  std::vector<std::pair<RequestId, uint32_t>> step() {
    std::vector<std::pair<RequestId, uint32_t>> served;
    std::vector<RequestId> full;
    for (Sequence *sequence : scheduler->plan(*batch)) {
      served.emplace_back(sequence->id, sequence->numPlanned);
      sequence->numCached += sequence->numPlanned;
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
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 31}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 19}, Served{3, 4}));
  EXPECT_THAT(step(), ElementsAre(Served{1, 1}, Served{2, 1}, Served{3, 1}));
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
  EXPECT_EQ(scheduler->pool().numUsed(), 0u);
}

TEST_F(SchedulerTest, RemovingFreesWhatItHolds) {
  begin({});
  add(1, 40);
  add(2, 40);
  step();
  EXPECT_GT(scheduler->pool().numUsed(), 0u);
  EXPECT_NE(scheduler->remove(1), nullptr);
  EXPECT_NE(scheduler->remove(2), nullptr);
  EXPECT_EQ(scheduler->remove(2), nullptr);
  EXPECT_EQ(scheduler->pool().numUsed(), 0u);
  EXPECT_TRUE(scheduler->isIdle());
  EXPECT_EQ(scheduler->any(), nullptr);
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
      EXPECT_EQ(scheduler->pool().numUsed(), 0u);
    }
}

} // namespace
} // namespace girih::engine
