// SPDX-License-Identifier: Apache-2.0
// Scheduler: which tokens of which sequences the next step takes, and whose the KV blocks are.
#pragma once

#include "runtime/engine/lower_tier.h"
#include "runtime/engine/sequence.h"
#include "runtime/kv/block_cache.h"
#include "runtime/program/executor.h"

#include <deque>
#include <memory>
#include <span>
#include <vector>

namespace girih::engine {

struct SchedulerLimits {
  uint32_t maxSequences = 1;
  bool recompute = false; // no cache: a step takes one whole sequence
  // Prompts shorter than this are not worth a file, and chains shorter than that not a read.
  uint32_t leastStoredTokens = 256;
  uint32_t leastLoadedBlocks = 4;
};

// What one step is planned under.
struct StepTerms {
  kv::CacheTime now = 0;                   // for the recency of blocks
  uint32_t maxPromptTokens = ~uint32_t{0}; // of long prompts, beside sequences that generate; see StepPacer
  uint32_t shortPromptTokens = 0;          // prompts up to this length make one pause and are not cut for it
};

// A step takes first the next token of every sequence that generates (the longest unserved first, should there
// be more than fit), then prompts in chunks, then admits who waits. Who goes first, in the queue and among
// prompts: the higher priority; then the client that has been served least (tokens evaluated by its weight, so
// that no client gets more by asking more often; what the cache gives is free); then the older.
// Sequences are admitted when the pool holds their tokens besides what the running ones still claim. When it
// runs dry all the same, or a higher priority waits, the youngest of the lowest priority gives its blocks back
// and is recomputed later, from what of them the cache still has. Because one sequence alone always fits (its
// length is bounded by the pool's) and the oldest of the highest priority never gives way, something always
// moves.
// A prompt goes on from where the cache ends. What another sequence computes in this very step is waited for
// and not computed twice: a burst of equal prompts costs one of them.
// The rows of a step are logits or hidden states: where sequences of both kinds are there, steps take turns, and those of
// hidden states stay short beside sequences that generate.
// Guesses (Sequence::draft) follow the token that a sequence generates, where there is room beside everybody's tokens.
// Below the pool there may be another tier: what it has of a prompt is fetched while others compute, and what a long
// prompt leaves goes there.
// Knows neither threads nor devices. Thread-compatible.
class Scheduler {
public:
  Scheduler(const SchedulerLimits &limits, uint32_t numKvBlocks);

  // From here on blocks come from there and go there too; null: no more. What it ends is told by finish().
  void setLowerTier(LowerTier *tier) { lowerTier = tier; }
  void finish(const LowerTierResults &results);
  // Blocks are on their way up or down: sequences may wait for them though no step can be planned.
  bool isMoving() const { return numLoading > 0 || numStoring > 0; }

  void add(std::unique_ptr<Sequence> sequence);
  // Fills the batch with the next step; empty when there is nothing to do. Returns the sequences in it, in
  // order.
  std::span<Sequence *const> plan(program::StepBatch &batch, const StepTerms &terms = {});
  // The step is done for this sequence: its planned tokens are in the cache, and full blocks can be shared.
  void advance(Sequence &sequence);
  // The first guess that it fed and that is not among its tokens yet was right: the last of its tokens, just added, is in
  // the cache, too.
  void acceptDraft(Sequence &sequence);
  // Takes a sequence out; null when there is none of that id. Its blocks stay in the cache for others.
  std::unique_ptr<Sequence> remove(RequestId id);
  // Any one of the sequences left, null when there is none.
  Sequence *any() const;
  // Appends those whose deadline has passed.
  void collectOverdue(Clock::time_point now, std::vector<RequestId> &overdue) const;
  void accrue(kv::CacheTime now) { blockCache.accrue(now); }
  void clearCache() { blockCache.clearIdle(); }
  // Of the pool, what no sequence uses of these and no other chain goes on from.
  void forget(std::span<const kv::ContentKey> keys) { blockCache.forget(keys); }
  // What the pool held is gone: who runs waits again, is recomputed, and finds nothing of before. Requires: no lower tier.
  void forgetPool();

  bool isIdle() const { return running.empty() && waiting.empty(); }
  uint32_t numRunning() const { return static_cast<uint32_t>(running.size()); }
  uint32_t numWaiting() const { return static_cast<uint32_t>(waiting.size()); }
  // Running sequences that have one token to feed.
  uint32_t numGenerating() const;
  // All that run where each has one token to feed and nobody waits; else none. Valid until the next call.
  std::span<Sequence *const> onlyGenerating();
  uint64_t numPreemptions() const { return preemptions; }
  const kv::BlockCache &cache() const { return blockCache; }

private:
  // What a client has had, by which the next one is chosen.
  struct Client {
    double numServed = 0.0; // tokens evaluated, divided by its weight
    uint32_t numSequences = 0;
  };
  bool goesFirst(const Sequence &a, const Sequence &b) const;
  Client &clientOf(const Sequence &sequence) { return clients[sequence.request.client]; }
  void orderRunning();
  program::RowKind nextKind() const;
  void planRows(program::StepBatch &batch, program::RowKind kind);
  void planSequence(Sequence &sequence, program::StepBatch &batch);
  void addToBatch(Sequence &sequence, uint32_t numTokens, program::StepBatch &batch);
  uint32_t numDraftsThatFit(const Sequence &sequence, const program::StepBatch &batch) const;
  void planWhole(Sequence &sequence, program::StepBatch &batch);
  bool isPaced(const Sequence &sequence) const;
  uint32_t chunkOf(const Sequence &sequence, const program::StepBatch &batch) const;
  uint32_t chunkWithinRows(const Sequence &sequence, uint32_t numTokens, uint32_t rowsLeft) const;
  bool adoptBlocks(Sequence &sequence);
  bool mayAdoptAt(const Sequence &sequence, uint32_t position) const;
  bool startLoad(Sequence &sequence);
  void storeBlocks(Sequence &sequence);
  void announceBlocks(Sequence &sequence);
  bool reserveBlocks(Sequence &sequence, uint32_t numPositions);
  Sequence *mostExpendable() const;
  void preempt(Sequence &sequence);
  void preemptForUrgent();
  void requeuePreempted();
  size_t nextWaiting() const;
  uint64_t numBlocksToAdmit(Sequence &sequence) const;
  void admit(program::StepBatch &batch);
  uint64_t unclaimedBlocks() const;
  kv::CacheTime keepUntil(const Sequence &sequence) const;

  SchedulerLimits limits;
  kv::BlockCache blockCache;
  std::deque<std::unique_ptr<Sequence>> waiting;  // in any order
  std::vector<std::unique_ptr<Sequence>> running; // by id
  std::vector<Client> clients;                    // by number; grows to the largest seen
  std::vector<Sequence *> order;                  // running, in the order of service
  std::vector<Sequence *> planned;
  LowerTier *lowerTier = nullptr;
  uint32_t numLoading = 0; // chains
  uint32_t numStoring = 0; // blocks
  StepTerms terms;
  program::RowKind lastKind = program::RowKind::Hidden;
  uint32_t promptTokensLeft = 0; // of the plan in the making
  uint64_t numServices = 0;      // of sequences in steps; orders them by when they were served last
  uint64_t preemptions = 0;
};

} // namespace girih::engine
