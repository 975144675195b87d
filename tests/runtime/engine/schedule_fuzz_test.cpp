// SPDX-License-Identifier: Apache-2.0
// Thousands of random schedules over a pool that remembers what was written where: whatever is shared, evicted,
// preempted, cut or cancelled, a step reads exactly the tokens of its own sequence, and every sequence ends.
#include "runtime/engine/scheduler.h"

#include <gtest/gtest.h>
#include <map>
#include <random>

namespace girih::engine {
namespace {

struct Shape {
  uint32_t numBlocks, tokensPerStep, maxSequences, logitRows, context;
};

// A slow, forgetful disk: loads and stores end some steps later, loads often only in part.
class FakeTier final : public LowerTier {
public:
  FakeTier(std::mt19937 &random, std::vector<uint64_t> &pool) : random(random), pool(pool) {}
  bool has(const kv::ContentKey &key) const override { return files.contains(key); }
  bool isWorthLoading() const override { return random() % 8 != 0; }
  void load(std::vector<TierBlock> chain) override {
    ++numLoads;
    loads.push_back(std::move(chain));
  }
  uint64_t numLoads = 0;
  bool store(const TierBlock &block) override {
    if (stores.size() >= 4)
      return false;
    stores.push_back(block);
    return true;
  }

  void touch(std::vector<kv::ContentKey> keys, uint32_t) override {
    for (const kv::ContentKey &key : keys)
      EXPECT_TRUE(files.contains(key));
  }

  LowerTierResults end(bool endsAll) {
    LowerTierResults results;
    while (!stores.empty() && (endsAll || random() % 2)) {
      if (random() % 4)
        files[stores.front().key] = contentOf(stores.front().block);
      results.stored.push_back(stores.front().block);
      stores.erase(stores.begin());
    }
    while (!loads.empty() && (endsAll || random() % 3 == 0)) {
      LowerTierResults::Loaded loaded{std::move(loads.front()), 0};
      loads.erase(loads.begin());
      size_t numWanted = random() % 2 ? loaded.chain.size() : random() % (loaded.chain.size() + 1);
      for (; loaded.numGood < numWanted; ++loaded.numGood) {
        const TierBlock &next = loaded.chain[loaded.numGood];
        std::copy_n(files[next.key].begin(), GIRIH_KV_BLOCK_TOKENS, slotsOf(next.block));
      }
      results.loaded.push_back(std::move(loaded));
    }
    return results;
  }

private:
  std::vector<uint64_t>::iterator slotsOf(int32_t block) {
    return pool.begin() + block * GIRIH_KV_BLOCK_TOKENS;
  }
  std::vector<uint64_t> contentOf(int32_t block) {
    return {slotsOf(block), slotsOf(block) + GIRIH_KV_BLOCK_TOKENS};
  }

  std::mt19937 &random;
  std::vector<uint64_t> &pool;
  std::map<kv::ContentKey, std::vector<uint64_t>> files;
  std::vector<std::vector<TierBlock>> loads;
  std::vector<TierBlock> stores;
};

class Simulation {
public:
  Simulation(unsigned seed, const Shape &shape)
      : random(seed), shape(shape),
        scheduler({shape.maxSequences, false, /*leastStoredTokens=*/20, /*leastLoadedBlocks=*/1},
                  shape.numBlocks),
        batch(shape.tokensPerStep, shape.maxSequences, shape.logitRows, kv::numBlocksFor(shape.context)),
        pool(uint64_t{shape.numBlocks} * GIRIH_KV_BLOCK_TOKENS), tier(random, pool) {
    if (seed % 2)
      scheduler.setLowerTier(&tier);
  }

  void run(int numRequests) {
    int numSteps = 0;
    while (numAdded < numRequests || !scheduler.isIdle()) {
      if (numAdded < numRequests && (scheduler.isIdle() || random() % 4 == 0))
        addOne();
      if (random() % 40 == 0 && numAdded > 0)
        scheduler.remove(1 + random() % static_cast<unsigned>(numAdded));
      scheduler.finish(tier.end(/*endsAll=*/false));
      step();
      if (::testing::Test::HasFatalFailure())
        return;
      ASSERT_LT(++numSteps, 100000);
    }
    scheduler.finish(tier.end(/*endsAll=*/true));
    EXPECT_EQ(scheduler.cache().numHeld(), 0u);
  }
  uint64_t numLoads() const { return tier.numLoads; }
  uint64_t numPreemptions() const { return scheduler.numPreemptions(); }
  uint64_t numEvictions() const { return scheduler.cache().numEvictions(); }
  uint64_t numShared = 0; // tokens that came from the cache
  uint64_t numGuessed = 0, numAccepted = 0;
  uint64_t numHiddenRows = 0;

private:
  // A slot remembers the whole past of its token, as K and V of all layers but the first do.
  static uint64_t extend(uint64_t past, int32_t token) {
    past = (past ^ static_cast<uint64_t>(token + 1)) * 0x9e3779b97f4a7c15;
    return past ^ (past >> 29);
  }

  void addOne() {
    Request request;
    // Prompts of few families, so that prefixes are common; salts keep some apart.
    uint32_t family = random() % 3, length = 1 + random() % (shape.context - 1);
    for (uint32_t position = 0; position < length; ++position)
      request.promptTokens.push_back(static_cast<int32_t>(family * 100 + position % 7));
    if (random() % 3 == 0)
      request.promptTokens[random() % length] = 999;
    request.maxTokens = random() % 40;
    request.client = random() % 3;
    request.priority = random() % 8 == 0 ? 1 : 0;
    request.keepSeconds = random() % 5 == 0 ? 10 : 0;
    request.wantPromptLogprobs = random() % 10 == 0;
    if (random() % 6 == 0) {
      request.wantHidden = true;
      request.wantPromptLogprobs = false;
      request.maxTokens = 0;
    }
    request.cacheSalt = random() % 2 ? "one" : "other";
    if (random() % 4 == 0) {
      request.sharedSalt = "all";
      request.numSharedTokens = random() % (length + 1);
    }
    request.keepOnDisk = random() % 8 != 0;
    ++numAdded;
    scheduler.add(std::make_unique<Sequence>(static_cast<RequestId>(numAdded), std::move(request), nullptr,
                                             1000, shape.context));
  }

  void step() {
    StepTerms terms;
    terms.now = ++time * 500;
    if (random() % 3 == 0)
      terms.maxPromptTokens = 1 + random() % shape.tokensPerStep;
    bool wasIdle = scheduler.isIdle();
    for (Sequence *sequence : scheduler.onlyGenerating())
      guess(*sequence);
    std::span<Sequence *const> planned = scheduler.plan(batch, terms);
    ASSERT_TRUE(wasIdle || scheduler.isMoving() || !planned.empty()) << "something always moves";
    // All writes of a step come before its reads.
    for (Sequence *sequence : planned) {
      ASSERT_EQ(sequence->rowKind(), batch.kind());
      numHiddenRows += sequence->request.wantHidden ? sequence->numRows : 0;
      write(*sequence);
    }
    for (Sequence *sequence : planned)
      read(*sequence);
    std::vector<Sequence *> ended;
    for (Sequence *sequence : planned)
      finish(*sequence, ended);
    for (Sequence *sequence : ended) {
      numShared += sequence->usage.numCachedTokens;
      std::vector<kv::ContentKey> keys;
      for (uint32_t index = 0; index < sequence->numCached / GIRIH_KV_BLOCK_TOKENS; ++index)
        keys.push_back(sequence->keyOf(index));
      scheduler.remove(sequence->id);
      if (random() % 6 == 0)
        scheduler.forget(keys);
    }
  }

  // Right for a while, then wrong, and sometimes more than there is room for.
  void guess(Sequence &sequence) {
    sequence.draft.clear();
    uint32_t numRight = random() % 20, numWrong = random() % 4;
    for (uint32_t count = 0; count < numRight + numWrong; ++count)
      sequence.draft.push_back(count < numRight ? answerAt(sequence.tokens.size() + count) : 998);
  }
  static int32_t answerAt(size_t position) { return static_cast<int32_t>(position % 5); }

  uint64_t &slot(const Sequence &sequence, uint32_t position) {
    auto block = static_cast<uint64_t>(sequence.blocks[position / GIRIH_KV_BLOCK_TOKENS]);
    return pool[block * GIRIH_KV_BLOCK_TOKENS + position % GIRIH_KV_BLOCK_TOKENS];
  }
  // Who finds another's blocks though salts differ finds another past.
  static uint64_t pastOf(const Sequence &sequence, uint32_t numTokens) {
    uint32_t numShared = sequence.request.numSharedTokens / GIRIH_KV_BLOCK_TOKENS * GIRIH_KV_BLOCK_TOKENS;
    uint64_t past = 0;
    for (uint32_t position = 0; position < numTokens; ++position) {
      if (position == numShared)
        past = extend(past, static_cast<int32_t>(sequence.request.cacheSalt.size()));
      past = extend(past, sequence.tokens[position]);
    }
    return past;
  }
  void write(Sequence &sequence) {
    for (uint32_t index = 0; index < sequence.numPlanned; ++index)
      slot(sequence, sequence.numCached + index) = pastOf(sequence, sequence.numCached + index + 1);
    // Guesses stand behind the tokens as the step sees them, and what is shared may end right there.
    auto numTokens = static_cast<uint32_t>(sequence.tokens.size());
    for (uint32_t index = 0; index < sequence.numDrafted; ++index) {
      sequence.tokens.push_back(sequence.draft[index]);
      slot(sequence, numTokens + index) = pastOf(sequence, numTokens + index + 1);
    }
    sequence.tokens.resize(numTokens);
    numGuessed += sequence.numDrafted;
  }
  void read(Sequence &sequence) {
    for (uint32_t position = 0; position < sequence.numCached + sequence.numPlanned; ++position)
      ASSERT_EQ(slot(sequence, position), pastOf(sequence, position + 1))
          << "sequence " << sequence.id << " at " << position;
  }
  void finish(Sequence &sequence, std::vector<Sequence *> &ended) {
    uint32_t endOfRows = sequence.firstRowPosition + sequence.numRows;
    if (sequence.numRows > 0)
      sequence.numRowsDelivered = std::max(sequence.numRowsDelivered, endOfRows);
    scheduler.advance(sequence);
    if (sequence.numPending() > 0)
      return;
    if (sequence.wantsToken()) {
      ASSERT_EQ(endOfRows, sequence.tokens.size() + sequence.numDrafted) << "the last position is sampled from";
      sequence.tokens.push_back(answerAt(sequence.tokens.size()));
      for (uint32_t index = 0; index < sequence.numDrafted && sequence.draft[index] == sequence.tokens.back();
           ++index) {
        ASSERT_TRUE(sequence.wantsToken()) << "a guess is never the last token";
        scheduler.acceptDraft(sequence);
        sequence.tokens.push_back(answerAt(sequence.tokens.size()));
        ++numAccepted;
      }
    }
    if (!sequence.wantsToken())
      ended.push_back(&sequence);
  }

  std::mt19937 random;
  const Shape shape;
  Scheduler scheduler;
  program::StepBatch batch;
  std::vector<uint64_t> pool;
  FakeTier tier;
  int numAdded = 0;
  kv::CacheTime time = 0;
};

TEST(ScheduleFuzz, EveryStepReadsItsOwnTokens) {
  uint64_t numPreemptions = 0, numEvictions = 0, numShared = 0, numLoads = 0;
  uint64_t numGuessed = 0, numAccepted = 0, numHiddenRows = 0;
  constexpr Shape kShapes[] = {
      {6, 9, 4, 4, 80}, {10, 32, 8, 16, 120}, {40, 64, 8, 64, 200}, {7, 16, 3, 2, 112}};
  for (unsigned seed = 0; seed < 4000; ++seed) {
    Simulation simulation(seed, kShapes[seed % std::size(kShapes)]);
    simulation.run(12);
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
    numPreemptions += simulation.numPreemptions();
    numEvictions += simulation.numEvictions();
    numShared += simulation.numShared;
    numLoads += simulation.numLoads();
    numGuessed += simulation.numGuessed;
    numAccepted += simulation.numAccepted;
    numHiddenRows += simulation.numHiddenRows;
  }
  // The schedules must be such that it could have gone wrong.
  EXPECT_GT(numPreemptions, 4000u);
  EXPECT_GT(numEvictions, 20000u);
  EXPECT_GT(numShared, 40000u);
  EXPECT_GT(numLoads, 1000u);
  EXPECT_GT(numAccepted, 10000u);
  EXPECT_GT(numGuessed, numAccepted + 1000);
  EXPECT_GT(numHiddenRows, 40000u);
}

} // namespace
} // namespace girih::engine
