// SPDX-License-Identifier: Apache-2.0
// BlockCache: what is shared, what is kept, and what goes first when room is needed.
#include "runtime/kv/block_cache.h"

#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

namespace girih::kv {
namespace {

ContentKey keyOf(int number) {
  std::vector<int32_t> tokens(16, number);
  return blockKey({}, tokens);
}

// A chain of new blocks of `owner`, keys first, first + 1, ...; still held.
std::vector<int32_t> computeChain(BlockCache &cache, int firstKey, int length, OwnerId owner = 0,
                                  CacheTime now = 0) {
  std::vector<int32_t> chain;
  for (int index = 0; index < length; ++index) {
    int32_t block = cache.allocate(owner, now);
    cache.announce(block, keyOf(firstKey + index), chain.empty() ? -1 : chain.back());
    cache.publish(block);
    chain.push_back(block);
  }
  return chain;
}

bool has(const BlockCache &cache, int key) { return cache.find(keyOf(key)).block >= 0; }

TEST(BlockCache, HandsOutEveryBlockOnceAndReusesTheLastFreedFirst) {
  BlockCache cache(5);
  std::vector<int32_t> held;
  while (cache.numAvailable() > 0)
    held.push_back(cache.allocate(0, 0));
  EXPECT_EQ(held, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(cache.numHeld(), 5u);
  std::vector<int32_t> before = held;
  cache.releaseAll(held, 0);
  EXPECT_TRUE(held.empty());
  EXPECT_EQ(cache.numFree(), 5u) << "blocks of unknown content are not kept";
  for (int32_t block : before)
    EXPECT_EQ(cache.allocate(0, 0), block);
}

TEST(BlockCache, KeepsWhatHasAKeyAndFindsIt) {
  BlockCache cache(4);
  std::vector<int32_t> chain = computeChain(cache, 1, 2);
  int32_t first = chain[0];
  cache.releaseAll(chain, 5);
  EXPECT_EQ(cache.numIdle(), 2u);
  EXPECT_EQ(cache.numHeld(), 0u);
  auto found = cache.find(keyOf(1));
  EXPECT_EQ(found.block, first);
  EXPECT_TRUE(found.isReady);
  cache.hold(found.block);
  cache.hold(found.block);
  EXPECT_EQ(cache.numHeld(), 1u);
  EXPECT_EQ(cache.numHolders(first), 2u);
  cache.release(first, 6);
  EXPECT_EQ(cache.numHeld(), 1u);
  cache.release(first, 6);
  EXPECT_EQ(cache.numIdle(), 2u);
}

TEST(BlockCache, WhatWasOnlyAnnouncedIsForgotten) {
  BlockCache cache(2);
  int32_t block = cache.allocate(0, 0);
  cache.announce(block, keyOf(1), -1);
  EXPECT_EQ(cache.find(keyOf(1)).block, block);
  EXPECT_FALSE(cache.find(keyOf(1)).isReady);
  cache.release(block, 0);
  EXPECT_FALSE(has(cache, 1));
  EXPECT_EQ(cache.numFree(), 2u);
}

TEST(BlockCache, EvictsLeavesFirstThenTheLongestUnused) {
  BlockCache cache(6);
  std::vector<int32_t> older = computeChain(cache, 1, 3), newer = computeChain(cache, 11, 3);
  cache.releaseAll(older, 10);
  cache.releaseAll(newer, 20);
  for (int gone : {3, 2, 1, 13, 12}) {
    cache.allocate(0, 30);
    EXPECT_FALSE(has(cache, gone)) << gone;
  }
  EXPECT_TRUE(has(cache, 11));
  EXPECT_EQ(cache.numEvictions(), 5u);
}

TEST(BlockCache, AHeldSuccessorKeepsItsPrefix) {
  BlockCache cache(3);
  std::vector<int32_t> prefix = computeChain(cache, 1, 1);
  cache.hold(prefix[0]); // a second sequence goes on from it
  int32_t second = cache.allocate(0, 0);
  cache.announce(second, keyOf(2), prefix[0]);
  cache.publish(second);
  cache.releaseAll(prefix, 1);
  EXPECT_EQ(cache.numAvailable(), 1u);
  cache.allocate(0, 2);
  EXPECT_TRUE(has(cache, 1) && has(cache, 2));
}

TEST(BlockCache, ABlockHeldAloneHoldsTheChainBeforeIt) {
  BlockCache cache(4);
  std::vector<int32_t> chain = computeChain(cache, 1, 3);
  int32_t last = chain[2];
  cache.hold(last); // as while it is written to a disk
  cache.releaseAll(chain, 1);
  EXPECT_EQ(cache.numHeld(), 3u);
  EXPECT_EQ(cache.numAvailable(), 1u) << "nothing of it can be evicted";
  cache.release(last, 1);
  EXPECT_EQ(cache.numHeld(), 0u);
  cache.hold(cache.find(keyOf(2)).block);
  EXPECT_EQ(cache.numHeld(), 2u);
  cache.allocate(0, 2);
  cache.allocate(0, 2);
  EXPECT_TRUE(has(cache, 1) && has(cache, 2) && !has(cache, 3));
}

TEST(BlockCache, WhatIsAnnouncedHoldsTheChainBeforeIt) {
  BlockCache cache(4);
  std::vector<int32_t> chain = computeChain(cache, 1, 2);
  int32_t parent = chain[1], loading = cache.allocate(0, 0);
  cache.releaseAll(chain, 1);
  EXPECT_EQ(cache.numIdle(), 2u);
  cache.announce(loading, keyOf(3), parent);
  EXPECT_EQ(cache.numIdle(), 0u);
  cache.release(loading, 1); // it did not come
  EXPECT_EQ(cache.numIdle(), 2u);
  EXPECT_EQ(cache.numHeld(), 0u);
}

TEST(BlockCache, RetentionCountsAsUseUntilThenAndNoLonger) {
  BlockCache cache(3);
  std::vector<int32_t> kept = computeChain(cache, 1, 1), plain = computeChain(cache, 2, 1),
                       late = computeChain(cache, 3, 1);
  cache.releaseAll(kept, 1000); // released at 10, kept until 1000
  cache.releaseAll(plain, 20);
  cache.releaseAll(late, 2000); // used at 2000
  int32_t block = cache.allocate(0, 2000);
  EXPECT_FALSE(has(cache, 2));
  cache.release(block, 2000);
  cache.allocate(0, 2000);
  cache.allocate(0, 2000);
  EXPECT_FALSE(has(cache, 1)) << "past its time it is older than what was used since";
  EXPECT_TRUE(has(cache, 3));
}

TEST(BlockCache, RetentionNeverMakesAllocationFail) {
  BlockCache cache(4);
  std::vector<int32_t> kept = computeChain(cache, 1, 4);
  cache.releaseAll(kept, ~CacheTime{0} >> 1);
  for (int count = 0; count < 4; ++count)
    cache.allocate(0, 10);
  EXPECT_EQ(cache.numIdle(), 0u);
}

TEST(BlockCache, WhoHoldsMoreThanItsShareEvictsItsOwn) {
  BlockCache cache(8);
  std::vector<int32_t> quiet = computeChain(cache, 100, 3, /*owner=*/1, 0);
  cache.releaseAll(quiet, 1); // the least recently used of all
  for (int round = 0; round < 50; ++round) {
    std::vector<int32_t> flood = computeChain(cache, 200 + round, 1, /*owner=*/2, 10 + round);
    cache.releaseAll(flood, 10 + round);
  }
  EXPECT_TRUE(has(cache, 100) && has(cache, 101) && has(cache, 102));
  // An owner that has been away for long has no share.
  CacheTime later = 60 * 60 * 1000;
  for (int round = 0; round < 8; ++round) {
    std::vector<int32_t> flood = computeChain(cache, 300 + round, 1, 2, later);
    cache.releaseAll(flood, later);
  }
  EXPECT_FALSE(has(cache, 100));
}

TEST(BlockCache, RetentionDoesNotProtectBeyondTheShare) {
  BlockCache cache(8);
  std::vector<int32_t> greedy = computeChain(cache, 1, 8, /*owner=*/1, 0);
  cache.releaseAll(greedy, 1'000'000);
  std::vector<int32_t> modest;
  for (int round = 0; round < 4; ++round) {
    modest = computeChain(cache, 100 + round, 1, /*owner=*/2, 10 + round);
    cache.releaseAll(modest, 10 + round);
  }
  for (int round = 0; round < 4; ++round)
    EXPECT_TRUE(has(cache, 100 + round)) << round;
}

TEST(BlockCache, ClearForgetsAllThatNobodyHolds) {
  BlockCache cache(6);
  std::vector<int32_t> held = computeChain(cache, 1, 2, 0), idle = computeChain(cache, 11, 3, 1);
  cache.releaseAll(idle, 1);
  cache.clearIdle();
  EXPECT_EQ(cache.numIdle(), 0u);
  EXPECT_FALSE(has(cache, 11));
  EXPECT_TRUE(has(cache, 1));
  EXPECT_EQ(cache.numHeld(), 2u);
}

TEST(BlockCacheDeathTest, MisuseIsABug) {
  BlockCache cache(2);
  int32_t block = cache.allocate(0, 0);
  cache.release(block, 0);
  EXPECT_DEATH(cache.release(block, 0), "internal error");
  EXPECT_DEATH(cache.release(7, 0), "internal error");
  EXPECT_DEATH(cache.hold(block), "internal error");
  EXPECT_DEATH(cache.allocate(kMaxOwners, 0), "internal error");
}

// Sequences of random length take, share, give back and grow, as the scheduler does; a map of what each block
// holds says whether the cache ever hands out a block that someone reads or finds content that is not there.
TEST(BlockCache, NeverMixesContentUpInAnyOrderOfUse) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    BlockCache cache(24);
    std::map<int32_t, int> content; // by block
    struct Chain {
      int family = 0;
      std::vector<int32_t> blocks;
    };
    std::vector<Chain> chains;
    auto keyAt = [](int family, size_t index) { return family * 100 + static_cast<int>(index); };
    for (CacheTime now = 1; now < 3000; ++now) {
      if (chains.size() < 4 && random() % 2) {
        chains.push_back({static_cast<int>(random() % 6), {}});
      } else if (!chains.empty() && random() % 4 == 0) {
        size_t which = random() % chains.size();
        cache.releaseAll(chains[which].blocks, now + random() % 3 * 50);
        chains.erase(chains.begin() + static_cast<std::ptrdiff_t>(which));
      }
      for (Chain &chain : chains) {
        if (chain.blocks.size() >= 9)
          continue;
        int key = keyAt(chain.family, chain.blocks.size());
        auto found = cache.find(keyOf(key));
        if (found.block >= 0) {
          ASSERT_EQ(content[found.block], key);
          cache.hold(found.block);
          chain.blocks.push_back(found.block);
        } else if (cache.numAvailable() > 0) {
          int32_t block = cache.allocate(static_cast<OwnerId>(chain.family % 3), now);
          for (const Chain &other : chains)
            for (int32_t used : other.blocks)
              ASSERT_NE(used, block);
          content[block] = key;
          cache.announce(block, keyOf(key), chain.blocks.empty() ? -1 : chain.blocks.back());
          cache.publish(block);
          chain.blocks.push_back(block);
        }
      }
      std::set<int32_t> held;
      for (const Chain &chain : chains)
        held.insert(chain.blocks.begin(), chain.blocks.end());
      ASSERT_EQ(cache.numHeld(), held.size());
    }
    for (Chain &chain : chains)
      cache.releaseAll(chain.blocks, 0);
    EXPECT_EQ(cache.numAvailable(), 24u);
  }
}

TEST(NumBlocksFor, RoundsUp) {
  EXPECT_EQ(numBlocksFor(0), 0u);
  EXPECT_EQ(numBlocksFor(1), 1u);
  EXPECT_EQ(numBlocksFor(16), 1u);
  EXPECT_EQ(numBlocksFor(17), 2u);
}

} // namespace
} // namespace girih::kv
