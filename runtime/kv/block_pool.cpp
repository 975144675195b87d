// SPDX-License-Identifier: Apache-2.0
// BlockPool as a stack of free blocks.
#include "runtime/kv/block_pool.h"

#include "runtime/abi/step.h"
#include "runtime/base/status.h"

namespace girih::kv {

BlockPool::BlockPool(uint32_t numBlocks) : isUsed(numBlocks, false) {
  freeBlocks.reserve(numBlocks);
  for (uint32_t block = numBlocks; block > 0; --block)
    freeBlocks.push_back(static_cast<int32_t>(block - 1));
}

int32_t BlockPool::allocate() {
  GIRIH_CHECK(!freeBlocks.empty());
  int32_t block = freeBlocks.back();
  freeBlocks.pop_back();
  isUsed[static_cast<size_t>(block)] = true;
  return block;
}

void BlockPool::release(int32_t block) {
  GIRIH_CHECK(block >= 0 && static_cast<uint32_t>(block) < numBlocks() && isUsed[static_cast<size_t>(block)]);
  isUsed[static_cast<size_t>(block)] = false;
  freeBlocks.push_back(block);
}

void BlockPool::releaseAll(std::vector<int32_t> &blocks) {
  // Last first, so that the next sequence gets them in the order of their first use.
  for (size_t index = blocks.size(); index > 0; --index)
    release(blocks[index - 1]);
  blocks.clear();
}

uint32_t numBlocksFor(uint64_t numPositions) {
  return static_cast<uint32_t>((numPositions + GIRIH_KV_BLOCK_TOKENS - 1) / GIRIH_KV_BLOCK_TOKENS);
}

} // namespace girih::kv
