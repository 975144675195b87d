// SPDX-License-Identifier: Apache-2.0
// EvictionQueue: the blocks of one owner that could be evicted, the one that is missed least first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace girih::kv {

// A binary heap that knows where each block lies, so that any can be taken out when it is used again.
// `positions` [numBlocks] is shared by the queues of all owners: a block is in one of them at most.
// Thread-compatible. Adding and removing cost O(log n).
class EvictionQueue {
public:
  struct Entry {
    uint64_t keepUntil; // milliseconds; the smallest goes first
    uint64_t order;     // among equal ones: the one that was released first
    int32_t block;
  };
  static constexpr int32_t kAbsent = -1;

  bool isEmpty() const { return heap.empty(); }
  // Requires: not empty.
  const Entry &first() const { return heap.front(); }
  void add(const Entry &entry, std::vector<int32_t> &positions);
  // Requires: the block is in this queue.
  void remove(int32_t block, std::vector<int32_t> &positions);

private:
  void moveUp(size_t index, std::vector<int32_t> &positions);
  void moveDown(size_t index, std::vector<int32_t> &positions);
  void place(size_t index, const Entry &entry, std::vector<int32_t> &positions);

  std::vector<Entry> heap;
};

} // namespace girih::kv
