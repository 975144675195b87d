// SPDX-License-Identifier: Apache-2.0
// Continuous batching with preemption by recomputation.
#include "runtime/engine/scheduler.h"

#include <algorithm>

namespace girih::engine {

Scheduler::Scheduler(const SchedulerLimits &limits, uint32_t numKvBlocks)
    : limits(limits), blockPool(numKvBlocks) {
  running.reserve(limits.maxSequences);
  order.reserve(limits.maxSequences);
  planned.reserve(limits.maxSequences);
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  sequence->blocks.reserve(kv::numBlocksFor(limits.recompute ? 0 : sequence->maxTokens));
  waiting.push_back(std::move(sequence));
}

std::unique_ptr<Sequence> Scheduler::remove(RequestId id) {
  auto hasId = [&](const std::unique_ptr<Sequence> &sequence) { return sequence->id == id; };
  std::unique_ptr<Sequence> removed;
  if (auto found = std::find_if(running.begin(), running.end(), hasId); found != running.end()) {
    removed = std::move(*found);
    running.erase(found);
  } else if (auto queued = std::find_if(waiting.begin(), waiting.end(), hasId); queued != waiting.end()) {
    removed = std::move(*queued);
    waiting.erase(queued);
  }
  if (removed)
    blockPool.releaseAll(removed->blocks);
  return removed;
}

Sequence *Scheduler::any() const {
  return !running.empty() ? running.front().get() : !waiting.empty() ? waiting.front().get() : nullptr;
}

// Generating sequences before prompts, so that a long prompt never holds up a stream; among the former the
// longest unserved first, among the latter the oldest.
void Scheduler::orderRunning() {
  order.clear();
  for (const std::unique_ptr<Sequence> &sequence : running)
    order.push_back(sequence.get());
  std::sort(order.begin(), order.end(), [](const Sequence *a, const Sequence *b) {
    bool aGenerates = a->numPending() == 1, bGenerates = b->numPending() == 1;
    if (aGenerates != bGenerates)
      return aGenerates;
    if (aGenerates && a->lastServed != b->lastServed)
      return a->lastServed < b->lastServed;
    return a->id < b->id;
  });
}

std::span<Sequence *const> Scheduler::plan(program::StepBatch &batch) {
  batch.clear();
  planned.clear();
  for (const std::unique_ptr<Sequence> &sequence : running)
    sequence->numPlanned = 0;
  if (limits.recompute) {
    admit(batch);
    // One sequence a step; in turn, so that all of them stream.
    auto next = std::min_element(running.begin(), running.end(), [](const auto &a, const auto &b) {
      return a->lastServed != b->lastServed ? a->lastServed < b->lastServed : a->id < b->id;
    });
    if (next != running.end())
      planWhole(**next, batch);
    return planned;
  }
  orderRunning();
  for (Sequence *sequence : order) {
    if (batch.tokensLeft() == 0 || batch.sequencesLeft() == 0)
      break;
    planSequence(*sequence, batch);
  }
  admit(batch);
  return planned;
}

// The most tokens of the chunk whose wanted rows fit.
uint32_t Scheduler::chunkWithinRows(const Sequence &sequence, uint32_t numTokens, uint32_t rowsLeft) const {
  uint32_t numRows = 0;
  for (uint32_t index = 0; index < numTokens; ++index) {
    numRows += sequence.wantsRow(sequence.numCached + index);
    if (numRows > rowsLeft)
      return index;
  }
  return numTokens;
}

namespace {

// Wanted rows are consecutive: every position from some point on, or the last alone. A gap can only lie
// between prompt rows that were asked for and the last one; it is filled, since rows are named by a range.
void chooseRows(Sequence &sequence, uint32_t firstPosition, uint32_t numTokens) {
  uint32_t first = firstPosition, end = firstPosition + numTokens;
  while (first < end && !sequence.wantsRow(first))
    ++first;
  while (end > first && !sequence.wantsRow(end - 1))
    --end;
  sequence.firstRowPosition = first;
  sequence.numRows = end - first;
}

} // namespace

void Scheduler::planSequence(Sequence &sequence, program::StepBatch &batch) {
  if (sequence.blocks.empty() && sequence.numCached > 0)
    return; // gave its blocks away in this very plan
  uint32_t numTokens = std::min(sequence.numPending(), batch.tokensLeft());
  numTokens = chunkWithinRows(sequence, numTokens, batch.logitRowsLeft());
  if (numTokens == 0 || !reserveBlocks(sequence, sequence.numCached + numTokens))
    return;
  chooseRows(sequence, sequence.numCached, numTokens);
  batch.addSequence(std::span<const int32_t>(sequence.tokens).subspan(sequence.numCached, numTokens),
                    sequence.numCached, sequence.blocks, sequence.firstRowPosition - sequence.numCached,
                    sequence.numRows);
  sequence.numPlanned = numTokens;
  sequence.lastServed = ++numServices;
  planned.push_back(&sequence);
}

// A step of a program without a cache: everything again, and as many of the rows still wanted as fit.
void Scheduler::planWhole(Sequence &sequence, program::StepBatch &batch) {
  uint32_t numTokens = static_cast<uint32_t>(sequence.tokens.size());
  chooseRows(sequence, 0, numTokens);
  bool isComplete = sequence.numRows <= batch.logitRowsLeft();
  sequence.numRows = std::min(sequence.numRows, batch.logitRowsLeft());
  batch.addSequence(sequence.tokens, 0, {}, sequence.firstRowPosition, sequence.numRows);
  sequence.numPlanned = isComplete ? numTokens : 0; // 0: another step gives the rows that are left
  sequence.lastServed = ++numServices;
  planned.push_back(&sequence);
}

// Takes blocks for the positions, from younger sequences when none are free. False: the sequence must wait,
// and has given its own blocks up if it is the youngest.
bool Scheduler::reserveBlocks(Sequence &sequence, uint32_t numPositions) {
  uint32_t numWanted = kv::numBlocksFor(numPositions);
  while (sequence.blocks.size() + blockPool.numFree() < numWanted) {
    // The youngest that is not in this step already.
    Sequence *victim = nullptr;
    for (const std::unique_ptr<Sequence> &candidate : running)
      if (candidate->numPlanned == 0 && !candidate->blocks.empty())
        victim = candidate.get();
    if (!victim || victim->id < sequence.id)
      return false;
    preempt(*victim);
    if (victim == &sequence)
      return false;
  }
  while (sequence.blocks.size() < numWanted)
    sequence.blocks.push_back(blockPool.allocate());
  return true;
}

// Its tokens stay; their K and V are computed again when there is room. It keeps its place in `running` until
// the plan is made, because `order` points to it.
void Scheduler::preempt(Sequence &sequence) {
  blockPool.releaseAll(sequence.blocks);
  ++sequence.usage.numPreemptions;
  ++preemptions;
}

// Free blocks less what running sequences will still take for tokens that they already have.
uint64_t Scheduler::unclaimedBlocks() const {
  uint64_t claimed = 0;
  for (const std::unique_ptr<Sequence> &sequence : running)
    claimed += kv::numBlocksFor(sequence->tokens.size() + 1) - sequence->blocks.size();
  return blockPool.numFree() > claimed ? blockPool.numFree() - claimed : 0;
}

void Scheduler::admit(program::StepBatch &batch) {
  // First those who gave their blocks away go back to the queue, ahead of all that are younger.
  for (size_t index = 0; index < running.size();) {
    Sequence &sequence = *running[index];
    if (sequence.numCached == 0 || !sequence.blocks.empty() || limits.recompute) {
      ++index;
      continue;
    }
    sequence.numCached = 0;
    auto place = std::find_if(waiting.begin(), waiting.end(),
                              [&](const auto &other) { return other->id > sequence.id; });
    waiting.insert(place, std::move(running[index]));
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(index));
  }
  while (!waiting.empty() && running.size() < limits.maxSequences) {
    Sequence &sequence = *waiting.front();
    if (!limits.recompute) {
      bool hasRoom = batch.tokensLeft() > 0 && batch.sequencesLeft() > 0;
      uint64_t numBlocks =
          kv::numBlocksFor(std::min<uint64_t>(sequence.tokens.size() + 1, sequence.maxTokens));
      if (!hasRoom || unclaimedBlocks() < numBlocks)
        return;
    }
    auto place = std::find_if(running.begin(), running.end(),
                              [&](const auto &other) { return other->id > sequence.id; });
    running.insert(place, std::move(waiting.front()));
    waiting.pop_front();
    if (!limits.recompute)
      planSequence(sequence, batch);
  }
}

} // namespace girih::engine
