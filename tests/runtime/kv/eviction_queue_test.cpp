// SPDX-License-Identifier: Apache-2.0
// EvictionQueue against a sorted list: any order of adding, removing and taking the first.
#include "runtime/kv/eviction_queue.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>

namespace girih::kv {
namespace {

TEST(EvictionQueue, GivesTheSmallestFirstWhateverIsTakenOutBetween) {
  std::mt19937 random(7);
  std::vector<int32_t> positions(200, EvictionQueue::kAbsent);
  EvictionQueue queue;
  std::vector<EvictionQueue::Entry> sorted;
  auto isBefore = [](const EvictionQueue::Entry &a, const EvictionQueue::Entry &b) {
    return std::pair(a.keepUntil, a.order) < std::pair(b.keepUntil, b.order);
  };
  for (uint64_t order = 0; order < 20000; ++order) {
    auto block = static_cast<int32_t>(random() % positions.size());
    auto found = std::find_if(sorted.begin(), sorted.end(), [&](const auto &e) { return e.block == block; });
    if (found != sorted.end()) {
      queue.remove(block, positions);
      sorted.erase(found);
    } else {
      EvictionQueue::Entry entry{random() % 50, order, block};
      queue.add(entry, positions);
      sorted.insert(std::upper_bound(sorted.begin(), sorted.end(), entry, isBefore), entry);
    }
    ASSERT_EQ(queue.isEmpty(), sorted.empty());
    if (!sorted.empty())
      ASSERT_EQ(queue.first().block, sorted.front().block);
  }
}

TEST(EvictionQueueDeathTest, RefusesABlockThatIsNotInIt) {
  std::vector<int32_t> positions(2, EvictionQueue::kAbsent);
  EvictionQueue queue;
  queue.add({1, 1, 0}, positions);
  EXPECT_DEATH(queue.remove(1, positions), "internal error");
  EXPECT_DEATH(queue.add({1, 2, 0}, positions), "internal error");
}

} // namespace
} // namespace girih::kv
