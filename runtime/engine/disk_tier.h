// SPDX-License-Identifier: Apache-2.0
// DiskTier: the thread that moves KV blocks between the pool and a DiskStore.
#pragma once

#include "runtime/engine/lower_tier.h"
#include "runtime/kv/disk_store.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <variant>

namespace girih::engine {

// Reads straight into the pool's blocks and writes straight from them: nothing is copied twice. Loads go before all else;
// what is stored, touched and forgotten is so in the order in which it was asked for.
// A load that turns out slower than computing ends early; while that was so lately, none is begun.
// Threads: the engine's calls everything but what the disk's own thread does.
class DiskTier final : public LowerTier {
public:
  // `blockBytes` gives a block of the pool. `wake` is called, by the disk's thread, when there are results.
  DiskTier(std::unique_ptr<kv::DiskStore> store, std::function<std::span<uint8_t>(int32_t)> blockBytes,
           uint32_t maxStoring, std::function<void()> wake);
  // Gives up loads; writes what waits for a short time.
  ~DiskTier() override;

  bool has(const kv::ContentKey &key) const override { return files->has(key); }
  bool isWorthLoading() const override;
  void load(std::vector<TierBlock> chain) override;
  bool store(const TierBlock &block) override;
  void touch(std::vector<kv::ContentKey> keys, uint32_t keepSeconds) override;
  // After everything that was stored before. The order comes back in the results.
  void forget(ForgetOrder order);

  // What ended since the last call.
  LowerTierResults takeResults();
  bool hasResults() const;
  // How long computing a block takes, as measured; before that a guess.
  void setComputeSeconds(double secondsPerBlock);
  kv::DiskStore::Counts counts() const { return files->counts(); }

private:
  using Time = std::chrono::steady_clock::time_point;
  struct Touch {
    std::vector<kv::ContentKey> keys;
    uint32_t keepSeconds;
  };
  using Job = std::variant<TierBlock, Touch, ForgetOrder>;
  void work();
  void run(Job &job);
  size_t loadChain(const std::vector<TierBlock> &chain, double computeSeconds);

  const std::unique_ptr<kv::DiskStore> files;
  const std::function<std::span<uint8_t>(int32_t)> blockBytes;
  const uint32_t maxStoring;
  const std::function<void()> wake;

  mutable std::mutex mutex; // guards all below
  std::condition_variable hasWork;
  std::deque<std::vector<TierBlock>> loads;
  std::deque<Job> jobs;
  LowerTierResults results;
  uint32_t numStoring = 0;
  double computeSeconds;
  std::optional<Time> tooSlowAt;
  bool isStopping = false;

  std::thread thread; // last: it uses all of the above
};

} // namespace girih::engine
