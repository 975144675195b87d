// SPDX-License-Identifier: Apache-2.0
// BlockPool: which blocks of the KV pool are free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace girih::kv {

// Blocks are numbered from 0 and hold GIRIH_KV_BLOCK_TOKENS positions of one sequence, all layers.
// Thread-compatible. Handed out last freed first: memory that was never used stays untouched, so a large pool
// costs no memory until it is needed. Allocates in the constructor only.
class BlockPool {
public:
  explicit BlockPool(uint32_t numBlocks);

  uint32_t numBlocks() const { return static_cast<uint32_t>(isUsed.size()); }
  uint32_t numFree() const { return static_cast<uint32_t>(freeBlocks.size()); }
  uint32_t numUsed() const { return numBlocks() - numFree(); }

  // Requires: numFree() > 0.
  int32_t allocate();
  // Requires: the block is in use.
  void release(int32_t block);
  // Releases and clears the list.
  void releaseAll(std::vector<int32_t> &blocks);

private:
  std::vector<int32_t> freeBlocks; // a stack
  std::vector<bool> isUsed;
};

// Blocks that so many positions take.
uint32_t numBlocksFor(uint64_t numPositions);

} // namespace girih::kv
