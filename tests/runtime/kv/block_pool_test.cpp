// SPDX-License-Identifier: Apache-2.0
// BlockPool: every block once, last freed first.
#include "runtime/kv/block_pool.h"

#include <gtest/gtest.h>
#include <set>

namespace girih::kv {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(5);
  std::set<int32_t> seen;
  while (pool.numFree() > 0)
    EXPECT_TRUE(seen.insert(pool.allocate()).second);
  EXPECT_EQ(seen, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.numUsed(), 5u);
}

TEST(BlockPool, ReusesTheLastFreedFirst) {
  BlockPool pool(100);
  std::vector<int32_t> blocks = {pool.allocate(), pool.allocate(), pool.allocate()};
  std::vector<int32_t> before = blocks;
  pool.releaseAll(blocks);
  EXPECT_TRUE(blocks.empty());
  EXPECT_EQ(pool.numUsed(), 0u);
  for (int32_t block : before)
    EXPECT_EQ(pool.allocate(), block);
}

TEST(BlockPoolDeathTest, FreeingTwiceIsABug) {
  BlockPool pool(2);
  int32_t block = pool.allocate();
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "internal error");
  EXPECT_DEATH(pool.release(7), "internal error");
}

TEST(NumBlocksFor, RoundsUp) {
  EXPECT_EQ(numBlocksFor(0), 0u);
  EXPECT_EQ(numBlocksFor(1), 1u);
  EXPECT_EQ(numBlocksFor(16), 1u);
  EXPECT_EQ(numBlocksFor(17), 2u);
}

} // namespace
} // namespace girih::kv
