// SPDX-License-Identifier: Apache-2.0
// LowerTier: where KV blocks come from and go to below the pool; what the scheduler asks of a disk.
#pragma once

#include "runtime/kv/content_key.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace girih::engine {

struct TierBlock {
  kv::ContentKey key;
  int32_t block = -1;       // of the pool
  uint32_t depth = 0;       // its place in the chain
  uint32_t keepSeconds = 0; // how long it is wanted; 0: nobody says
};

// Called by the engine's thread. Loads and stores end later, in LowerTierResults; until then their blocks are theirs.
class LowerTier {
public:
  virtual ~LowerTier() = default;
  virtual bool has(const kv::ContentKey &key) const = 0;
  // Whether loading is worth its time at present: measured, against computing.
  virtual bool isWorthLoading() const = 0;
  // Fills the blocks of a chain, in order.
  virtual void load(std::vector<TierBlock> chain) = 0;
  // False: not taken, too many wait already.
  virtual bool store(const TierBlock &block) = 0;
  // What is there of these was used again.
  virtual void touch(std::vector<kv::ContentKey> keys, uint32_t keepSeconds) = 0;
};

// The KV of a chain's end, which somebody wants nobody to have any more. `done` is called once, when nothing of it that
// could go is left anywhere.
struct ForgetOrder {
  std::vector<kv::ContentKey> keys; // in the order of the chain
  std::function<void()> done;
};

struct LowerTierResults {
  struct Loaded {
    std::vector<TierBlock> chain;
    size_t numGood = 0; // the first so many have their content
  };
  std::vector<Loaded> loaded;
  std::vector<int32_t> stored;        // blocks, whether written or not
  std::vector<ForgetOrder> forgotten; // by this tier
};

} // namespace girih::engine
