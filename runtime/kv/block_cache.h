// SPDX-License-Identifier: Apache-2.0
// BlockCache: the blocks of the KV pool, shared by content, kept after their sequences until room is needed.
#pragma once

#include "runtime/kv/content_key.h"
#include "runtime/kv/eviction_queue.h"

#include <cstdint>
#include <span>
#include <vector>

namespace girih::kv {

// Who computed a block: its keeping counts against that client's share. Small numbers: a table is kept.
using OwnerId = uint32_t;
inline constexpr OwnerId kMaxOwners = 4096;
// Milliseconds of a steady clock. The cache has no clock of its own: tests say what time it is.
using CacheTime = uint64_t;

// Blocks are numbered from 0 and hold GIRIH_KV_BLOCK_TOKENS positions of one sequence, all layers. A block is
//   free   nothing in it; handed out last freed first, so that memory never used stays untouched
//   held   by one or more sequences, or because a block behind it is: its successor would be useless without it
//   idle   by none, but its content is known: found again by key, or evicted when the free ones run out
// Only full blocks get a key, and a block with a key is never written again: sharing needs no copy on write.
// Leaves go first: a block whose successor is in the cache stays, since the successor is useless without it.
// Among leaves the one goes that was used longest ago; being kept until a time counts as being used then, so
// that retention is soft and decays by itself. A client that holds more than its share of the pool pays first.
// Thread-compatible.
class BlockCache {
public:
  explicit BlockCache(uint32_t numBlocks);

  uint32_t numBlocks() const { return static_cast<uint32_t>(blocks.size()); }
  uint32_t numFree() const { return static_cast<uint32_t>(freeBlocks.size()); }
  uint32_t numIdle() const { return idleBlocks; }
  uint32_t numHeld() const { return numBlocks() - numFree() - numIdle(); }
  // What allocate() can still give.
  uint32_t numAvailable() const { return numFree() + numIdle(); }
  uint64_t numEvictions() const { return evictions; }

  // A block held once, without a key; evicts when none is free. Requires: numAvailable() > 0.
  int32_t allocate(OwnerId owner, CacheTime now);
  // One more holder.
  void hold(int32_t block);
  // One holder less. The last one leaves an idle block, used until `keepUntil` (at least now), or a free one
  // where the content is not known. Requires: held.
  void release(int32_t block, CacheTime keepUntil);
  // Releases and clears a sequence's list, last first: a block must not be idle before its successors.
  void releaseAll(std::vector<int32_t> &held, CacheTime keepUntil);

  struct Found {
    int32_t block = -1;   // -1: not in the cache
    bool isReady = false; // false: announced, its content is being computed in this step
  };
  Found find(const ContentKey &key) const;
  // Names the content that the step in the making will give a block. `parent` is the block before it, which
  // has a key; -1 for the first of a sequence. Requires: find(key) gives nothing, the block has no key.
  void announce(int32_t block, const ContentKey &key, int32_t parent);
  // The step is done: the content is there. A block released before that loses its key.
  void publish(int32_t block);
  bool hasKey(int32_t block) const { return at(block).state != State::Unknown; }
  bool isReady(int32_t block) const { return at(block).state == State::Ready; }
  uint32_t numHolders(int32_t block) const { return at(block).numHolders; }
  // Idle blocks times the milliseconds that they lay there for their owner, up to `now`. Requires: `now` never goes back.
  void accrue(CacheTime now);
  uint64_t idleBlockMilliseconds(OwnerId owner) const {
    return owner < owners.size() ? owners[owner].idleBlockMilliseconds : 0;
  }
  // Forgets every idle block, for instance when an operator asks.
  void clearIdle();
  // Forgets the end of a chain, `keys` in its order: from the last one on, up to what is held or has another successor.
  void forget(std::span<const ContentKey> keys);

private:
  enum class State : uint8_t { Unknown, Announced, Ready };
  struct Block {
    ContentKey key = {};
    int32_t parent = -1;
    int32_t nextInBucket = -1;
    uint32_t numHolders = 0;
    uint32_t numChildren = 0; // blocks with a key whose parent is this one
    uint32_t numHeldChildren = 0;
    OwnerId owner = 0;
    State state = State::Unknown;
    bool isFree = true;
    CacheTime keepUntil = 0;
    uint64_t releaseOrder = 0;
  };
  struct Owner {
    uint32_t numBlocks = 0; // held and idle
    uint32_t numIdle = 0;
    uint64_t idleBlockMilliseconds = 0;
    CacheTime lastActive = 0;
    bool wasActive = false;
    EvictionQueue queue;
  };
  Block &at(int32_t block);
  const Block &at(int32_t block) const;
  size_t bucketOf(const ContentKey &key) const;
  Owner &ownerAt(OwnerId owner);
  static bool isHeld(const Block &block) { return block.numHolders + block.numHeldChildren > 0; }
  static bool isEvictable(const Block &block);
  void becomeHeld(int32_t block);
  void becomeIdle(int32_t block);
  void addIdle(const Block &block);
  void removeIdle(const Block &block);
  void enqueue(int32_t block);
  void dequeue(int32_t block);
  void forgetKey(int32_t block);
  void free(int32_t block);
  void evictOne(OwnerId requester, CacheTime now);
  void evict(int32_t block);
  uint32_t shareOf(const Owner &owner, CacheTime now) const;

  std::vector<Block> blocks;
  std::vector<int32_t> freeBlocks;     // a stack
  std::vector<int32_t> buckets;        // heads of chains through nextInBucket
  std::vector<int32_t> queuePositions; // of EvictionQueue
  std::vector<Owner> owners;           // grows to the largest owner seen
  uint32_t numActiveOwners = 0;        // as of the allocation in hand
  uint32_t idleBlocks = 0;
  CacheTime accruedAt = 0;
  uint64_t evictions = 0;
  uint64_t numReleases = 0;
};

// Blocks that so many positions take.
uint32_t numBlocksFor(uint64_t numPositions);

} // namespace girih::kv
