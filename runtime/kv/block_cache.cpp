// SPDX-License-Identifier: Apache-2.0
// BlockCache: reference counts, a hash table through the blocks themselves, and a queue of evictable ones an owner.
#include "runtime/kv/block_cache.h"

#include "runtime/abi/step.h"
#include "runtime/base/status.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace girih::kv {
namespace {

// A client that asked for nothing for so long has no claim to a share: its blocks go as soon as room is needed.
constexpr CacheTime kShareMilliseconds = 10 * 60 * 1000;

} // namespace

BlockCache::BlockCache(uint32_t numBlocks)
    : blocks(numBlocks), buckets(std::bit_ceil(std::max(numBlocks, 1u)), -1),
      queuePositions(numBlocks, EvictionQueue::kAbsent) {
  freeBlocks.reserve(numBlocks);
  for (uint32_t block = numBlocks; block > 0; --block)
    freeBlocks.push_back(static_cast<int32_t>(block - 1));
}

BlockCache::Block &BlockCache::at(int32_t block) {
  GIRIH_CHECK(block >= 0 && static_cast<uint32_t>(block) < numBlocks());
  return blocks[static_cast<size_t>(block)];
}

const BlockCache::Block &BlockCache::at(int32_t block) const {
  return const_cast<BlockCache *>(this)->at(block);
}

BlockCache::Owner &BlockCache::ownerAt(OwnerId owner) {
  GIRIH_CHECK(owner < kMaxOwners);
  if (owner >= owners.size())
    owners.resize(owner + 1);
  return owners[owner];
}

int32_t BlockCache::allocate(OwnerId owner, CacheTime now) {
  Owner &payer = ownerAt(owner);
  payer.lastActive = now;
  payer.wasActive = true;
  if (freeBlocks.empty())
    evictOne(owner, now);
  GIRIH_CHECK(!freeBlocks.empty());
  int32_t number = freeBlocks.back();
  freeBlocks.pop_back();
  Block &block = at(number);
  block = Block();
  block.isFree = false;
  block.numHolders = 1;
  block.owner = owner;
  ++payer.numBlocks;
  return number;
}

void BlockCache::hold(int32_t number) {
  Block &block = at(number);
  GIRIH_CHECK(!block.isFree && (isHeld(block) || block.state == State::Ready));
  bool wasHeld = isHeld(block);
  ++block.numHolders;
  if (!wasHeld)
    becomeHeld(number);
}

// Up the chain, as far as nobody held it.
void BlockCache::becomeHeld(int32_t number) {
  for (bool wasHeld = false; !wasHeld && number >= 0;) {
    dequeue(number);
    removeIdle(at(number));
    number = at(number).parent;
    if (number < 0)
      return;
    wasHeld = isHeld(at(number));
    ++at(number).numHeldChildren;
  }
}

// The block and, up the chain, those that were held for its sake alone. Requires: Ready, not held any more.
void BlockCache::becomeIdle(int32_t number) {
  for (;;) {
    Block &block = at(number);
    block.releaseOrder = ++numReleases;
    addIdle(block);
    enqueue(number);
    number = block.parent;
    if (number < 0)
      return;
    --at(number).numHeldChildren;
    if (isHeld(at(number)))
      return;
  }
}

void BlockCache::release(int32_t number, CacheTime keepUntil) {
  Block &block = at(number);
  GIRIH_CHECK(!block.isFree && block.numHolders > 0);
  block.keepUntil = std::max(block.keepUntil, keepUntil);
  --block.numHolders;
  if (isHeld(block))
    return;
  if (block.state == State::Ready)
    return becomeIdle(number);
  int32_t parent = block.state == State::Announced ? block.parent : -1;
  forgetKey(number);
  free(number);
  if (parent >= 0 && --at(parent).numHeldChildren == 0 && !isHeld(at(parent)))
    becomeIdle(parent);
}

void BlockCache::releaseAll(std::vector<int32_t> &held, CacheTime keepUntil) {
  for (size_t index = held.size(); index > 0; --index)
    release(held[index - 1], keepUntil);
  held.clear();
}

size_t BlockCache::bucketOf(const ContentKey &key) const {
  uint64_t word; // a SHA-256 is evenly spread: any bits of it do
  std::memcpy(&word, key.data(), sizeof word);
  return word & (buckets.size() - 1);
}

BlockCache::Found BlockCache::find(const ContentKey &key) const {
  for (int32_t number = buckets[bucketOf(key)]; number >= 0; number = at(number).nextInBucket)
    if (at(number).key == key)
      return {number, at(number).state == State::Ready};
  return {};
}

void BlockCache::announce(int32_t number, const ContentKey &key, int32_t parent) {
  Block &block = at(number);
  GIRIH_CHECK(block.numHolders > 0 && block.state == State::Unknown && find(key).block < 0);
  GIRIH_CHECK(parent < 0 || hasKey(parent));
  block.key = key;
  block.state = State::Announced;
  block.parent = parent;
  if (parent >= 0) {
    bool wasHeld = isHeld(at(parent));
    ++at(parent).numChildren;
    ++at(parent).numHeldChildren;
    if (!wasHeld)
      becomeHeld(parent);
  }
  int32_t &bucket = buckets[bucketOf(key)];
  block.nextInBucket = bucket;
  bucket = number;
}

void BlockCache::publish(int32_t number) {
  Block &block = at(number);
  GIRIH_CHECK(block.state == State::Announced);
  block.state = State::Ready;
}

bool BlockCache::isEvictable(const Block &block) {
  return block.state == State::Ready && !isHeld(block) && block.numChildren == 0;
}

void BlockCache::addIdle(const Block &block) {
  ++idleBlocks;
  ++ownerAt(block.owner).numIdle;
}

void BlockCache::removeIdle(const Block &block) {
  --idleBlocks;
  --ownerAt(block.owner).numIdle;
}

void BlockCache::accrue(CacheTime now) {
  if (accruedAt > 0)
    for (Owner &owner : owners)
      owner.idleBlockMilliseconds += owner.numIdle * (now - accruedAt);
  accruedAt = now;
}

void BlockCache::enqueue(int32_t number) {
  const Block &block = at(number);
  if (isEvictable(block))
    ownerAt(block.owner).queue.add({block.keepUntil, block.releaseOrder, number}, queuePositions);
}

void BlockCache::dequeue(int32_t number) {
  if (queuePositions[static_cast<size_t>(number)] != EvictionQueue::kAbsent)
    ownerAt(at(number).owner).queue.remove(number, queuePositions);
}

void BlockCache::forgetKey(int32_t number) {
  Block &block = at(number);
  if (block.state == State::Unknown)
    return;
  GIRIH_CHECK(block.numChildren == 0);
  int32_t *link = &buckets[bucketOf(block.key)];
  while (*link != number)
    link = &at(*link).nextInBucket;
  *link = block.nextInBucket;
  block.state = State::Unknown;
  if (block.parent >= 0) {
    --at(block.parent).numChildren;
    enqueue(block.parent); // a leaf from here on, if nobody holds it
  }
}

void BlockCache::free(int32_t number) {
  Block &block = at(number);
  --ownerAt(block.owner).numBlocks;
  block.isFree = true;
  freeBlocks.push_back(number);
}

uint32_t BlockCache::shareOf(const Owner &owner, CacheTime now) const {
  bool isActive = owner.wasActive && now - owner.lastActive < kShareMilliseconds;
  return isActive ? numBlocks() / std::max(numActiveOwners, 1u) : 0;
}

// From the requester itself when it holds more than its share; else from whoever does; else from anybody: each
// time the block that is missed least.
void BlockCache::evictOne(OwnerId requester, CacheTime now) {
  numActiveOwners = 0;
  for (const Owner &owner : owners)
    numActiveOwners += owner.wasActive && now - owner.lastActive < kShareMilliseconds;
  Owner *chosen = nullptr;
  bool chosenIsOver = false;
  for (Owner &owner : owners) {
    if (owner.queue.isEmpty())
      continue;
    bool isOver = owner.numBlocks > shareOf(owner, now);
    if (isOver && &owner == &owners[requester]) {
      chosen = &owner;
      break;
    }
    bool isOlder = chosen && owner.queue.first().keepUntil < chosen->queue.first().keepUntil;
    if (!chosen || (isOver && !chosenIsOver) || (isOver == chosenIsOver && isOlder)) {
      chosen = &owner;
      chosenIsOver = isOver;
    }
  }
  GIRIH_CHECK(chosen); // an idle block has an idle leaf below it, or is one
  evict(chosen->queue.first().block);
  ++evictions;
}

void BlockCache::evict(int32_t block) {
  dequeue(block);
  forgetKey(block);
  removeIdle(at(block));
  free(block);
}

void BlockCache::clearIdle() {
  // Freeing a leaf may make an idle parent of another owner evictable: until nothing is left.
  for (bool isDone = false; !isDone;) {
    isDone = true;
    for (Owner &owner : owners)
      for (; !owner.queue.isEmpty(); isDone = false)
        evict(owner.queue.first().block);
  }
}

void BlockCache::forget(std::span<const ContentKey> keys) {
  for (size_t index = keys.size(); index > 0; --index) {
    int32_t number = find(keys[index - 1]).block;
    if (number < 0)
      continue;
    if (!isEvictable(at(number)))
      return;
    evict(number);
  }
}

uint32_t numBlocksFor(uint64_t numPositions) {
  return static_cast<uint32_t>((numPositions + GIRIH_KV_BLOCK_TOKENS - 1) / GIRIH_KV_BLOCK_TOKENS);
}

} // namespace girih::kv
