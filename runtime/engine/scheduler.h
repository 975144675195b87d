// SPDX-License-Identifier: Apache-2.0
// Scheduler: which tokens of which sequences the next step takes, and whose the KV blocks are.
#pragma once

#include "runtime/engine/sequence.h"
#include "runtime/kv/block_pool.h"
#include "runtime/program/executor.h"

#include <deque>
#include <memory>
#include <span>
#include <vector>

namespace girih::engine {

struct SchedulerLimits {
  uint32_t maxSequences = 1;
  bool recompute = false; // no cache: a step takes one whole sequence
};

// First come, first served: a step takes first the next token of every sequence that generates (the longest
// unserved first, should there be more than fit), then prompts in chunks by age, then admits who waits.
// Sequences are admitted when the pool holds their tokens besides what the running ones still claim. When it
// runs dry all the same, the youngest gives its blocks back and waits at the head of the queue: nobody is
// overtaken for good, and because one sequence alone always fits (its length is bounded by the pool's),
// something always moves. Knows neither threads nor devices. Thread-compatible.
class Scheduler {
public:
  Scheduler(const SchedulerLimits &limits, uint32_t numKvBlocks);

  void add(std::unique_ptr<Sequence> sequence);
  // Fills the batch with the next step; empty when there is nothing to do. Returns the sequences in it, in
  // order.
  std::span<Sequence *const> plan(program::StepBatch &batch);
  // Takes a sequence out, its blocks freed; null when there is none of that id. Not between plan and the end
  // of its step.
  std::unique_ptr<Sequence> remove(RequestId id);
  // Any one of the sequences left, null when there is none.
  Sequence *any() const;

  bool isIdle() const { return running.empty() && waiting.empty(); }
  uint32_t numRunning() const { return static_cast<uint32_t>(running.size()); }
  uint32_t numWaiting() const { return static_cast<uint32_t>(waiting.size()); }
  uint64_t numPreemptions() const { return preemptions; }
  const kv::BlockPool &pool() const { return blockPool; }

private:
  void orderRunning();
  void planSequence(Sequence &sequence, program::StepBatch &batch);
  void planWhole(Sequence &sequence, program::StepBatch &batch);
  uint32_t chunkWithinRows(const Sequence &sequence, uint32_t numTokens, uint32_t rowsLeft) const;
  bool reserveBlocks(Sequence &sequence, uint32_t numPositions);
  void preempt(Sequence &sequence);
  void admit(program::StepBatch &batch);
  uint64_t unclaimedBlocks() const;

  SchedulerLimits limits;
  kv::BlockPool blockPool;
  std::deque<std::unique_ptr<Sequence>> waiting;  // by id, which is age
  std::vector<std::unique_ptr<Sequence>> running; // by id
  std::vector<Sequence *> order;                  // running, in the order of service
  std::vector<Sequence *> planned;
  uint64_t numServices = 0; // of sequences in steps; orders them by when they were served last
  uint64_t preemptions = 0;
};

} // namespace girih::engine
