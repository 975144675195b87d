// SPDX-License-Identifier: Apache-2.0
// DiskTier: two queues, one thread.
#include "runtime/engine/disk_tier.h"

#include <pthread.h>

namespace girih::engine {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Until prompts were measured: a block of 16 tokens at a thousand tokens a second.
constexpr double kGuessedComputeSeconds = 0.016;
// Blocks that a load may take to show its speed: the first may have to wait for a disk to wake.
constexpr size_t kTrialBlocks = 2;
// How long a disk that was too slow is left alone.
constexpr std::chrono::seconds kSlowTime{30};
// For writing what waits when the server ends.
constexpr std::chrono::seconds kFlushTime{5};
// A disk that nobody uses still loses what has expired.
constexpr std::chrono::seconds kSweepTime{60};

} // namespace

DiskTier::DiskTier(std::unique_ptr<kv::DiskStore> store,
                   std::function<std::span<uint8_t>(int32_t)> blockBytes, uint32_t maxStoring,
                   std::function<void()> wake)
    : files(std::move(store)), blockBytes(std::move(blockBytes)), maxStoring(maxStoring),
      wake(std::move(wake)), computeSeconds(kGuessedComputeSeconds), thread([this] { work(); }) {}

DiskTier::~DiskTier() {
  {
    std::lock_guard lock(mutex);
    isStopping = true;
  }
  hasWork.notify_one();
  thread.join();
}

bool DiskTier::isWorthLoading() const {
  std::lock_guard lock(mutex);
  return !tooSlowAt || SteadyClock::now() - *tooSlowAt > kSlowTime;
}

void DiskTier::load(std::vector<TierBlock> chain) {
  {
    std::lock_guard lock(mutex);
    loads.push_back(std::move(chain));
  }
  hasWork.notify_one();
}

bool DiskTier::store(const TierBlock &block) {
  {
    std::lock_guard lock(mutex);
    if (numStoring >= maxStoring)
      return false;
    ++numStoring;
    jobs.emplace_back(block);
  }
  hasWork.notify_one();
  return true;
}

void DiskTier::touch(std::vector<kv::ContentKey> keys, uint32_t keepSeconds) {
  {
    std::lock_guard lock(mutex);
    jobs.emplace_back(Touch{std::move(keys), keepSeconds});
  }
  hasWork.notify_one();
}

void DiskTier::forget(ForgetOrder order) {
  {
    std::lock_guard lock(mutex);
    jobs.emplace_back(std::move(order));
  }
  hasWork.notify_one();
}

LowerTierResults DiskTier::takeResults() {
  std::lock_guard lock(mutex);
  numStoring -= static_cast<uint32_t>(results.stored.size());
  return std::exchange(results, {});
}

bool DiskTier::hasResults() const {
  std::lock_guard lock(mutex);
  return !results.loaded.empty() || !results.stored.empty() || !results.forgotten.empty();
}

void DiskTier::setComputeSeconds(double secondsPerBlock) {
  std::lock_guard lock(mutex);
  computeSeconds = secondsPerBlock;
}

// How many blocks of the chain are there; stops at the first that is not, and where computing would be ahead.
size_t DiskTier::loadChain(const std::vector<TierBlock> &chain, double secondsPerBlock) {
  auto begin = SteadyClock::now();
  files->tick();
  for (size_t index = 0; index < chain.size(); ++index) {
    if (!files->read(chain[index].key, blockBytes(chain[index].block)))
      return index;
    double seconds = std::chrono::duration<double>(SteadyClock::now() - begin).count();
    if (index + 1 < kTrialBlocks || seconds <= secondsPerBlock * static_cast<double>(index + 1))
      continue;
    std::lock_guard lock(mutex);
    tooSlowAt = SteadyClock::now();
    return index + 1;
  }
  std::lock_guard lock(mutex);
  tooSlowAt.reset();
  return chain.size();
}

void DiskTier::run(Job &job) {
  if (auto *block = std::get_if<TierBlock>(&job)) {
    if (block->depth == 0)
      files->tick(); // a chain begins
    files->write(block->key, block->depth, blockBytes(block->block), block->keepSeconds);
  } else if (auto *touched = std::get_if<Touch>(&job)) {
    files->tick();
    for (const kv::ContentKey &key : touched->keys)
      files->touch(key, touched->keepSeconds);
  } else {
    // Last first: what is left of a chain when the machine stops half-way can be found.
    const std::vector<kv::ContentKey> &keys = std::get<ForgetOrder>(job).keys;
    for (size_t index = keys.size(); index > 0; --index)
      files->erase(keys[index - 1]);
  }
}

void DiskTier::work() {
  ::pthread_setname_np(::pthread_self(), "girih-disk");
  std::optional<Time> stopAt;
  std::unique_lock lock(mutex);
  for (;;) {
    bool hasSome =
        hasWork.wait_for(lock, kSweepTime, [this] { return isStopping || !loads.empty() || !jobs.empty(); });
    if (isStopping && !stopAt)
      stopAt = SteadyClock::now() + kFlushTime;
    if (isStopping && (jobs.empty() || SteadyClock::now() > *stopAt))
      return;
    if (!hasSome) {
      lock.unlock();
      files->tick();
      lock.lock();
      continue;
    }
    if (!loads.empty() && !isStopping) {
      LowerTierResults::Loaded loaded{std::move(loads.front()), 0};
      loads.pop_front();
      double secondsPerBlock = computeSeconds;
      lock.unlock();
      loaded.numGood = loadChain(loaded.chain, secondsPerBlock);
      lock.lock();
      results.loaded.push_back(std::move(loaded));
    } else {
      Job job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      run(job);
      lock.lock();
      if (auto *block = std::get_if<TierBlock>(&job))
        results.stored.push_back(block->block);
      else if (auto *order = std::get_if<ForgetOrder>(&job))
        results.forgotten.push_back(std::move(*order));
      else
        continue; // nobody waits for it
    }
    lock.unlock();
    wake();
    lock.lock();
  }
}

} // namespace girih::engine
