// SPDX-License-Identifier: Apache-2.0
// Continuous batching: who is in the next step, with how many tokens, and who gives way.
#include "runtime/engine/scheduler.h"

#include <algorithm>
#include <limits>

namespace girih::engine {

Scheduler::Scheduler(const SchedulerLimits &limits, uint32_t numKvBlocks)
    : limits(limits), blockCache(numKvBlocks) {
  running.reserve(limits.maxSequences);
  order.reserve(limits.maxSequences);
  planned.reserve(limits.maxSequences);
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  if (sequence->request.client >= clients.size())
    clients.resize(sequence->request.client + 1);
  Client &client = clientOf(*sequence);
  if (client.numSequences++ == 0) {
    // Who comes back has no claim for the time away: it starts level with the least served of those here.
    double least = std::numeric_limits<double>::infinity();
    for (const Client &other : clients)
      if (&other != &client && other.numSequences > 0)
        least = std::min(least, other.numServed);
    if (least < std::numeric_limits<double>::infinity())
      client.numServed = std::max(client.numServed, least);
  }
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
  if (removed) {
    --clientOf(*removed).numSequences;
    storeBlocks(*removed);
    blockCache.releaseAll(removed->blocks, keepUntil(*removed));
  }
  return removed;
}

Sequence *Scheduler::any() const {
  return !running.empty() ? running.front().get() : !waiting.empty() ? waiting.front().get() : nullptr;
}

void Scheduler::collectOverdue(Clock::time_point now, std::vector<RequestId> &overdue) const {
  auto look = [&](const std::unique_ptr<Sequence> &sequence) {
    if (sequence->request.deadline && *sequence->request.deadline <= now)
      overdue.push_back(sequence->id);
  };
  std::for_each(running.begin(), running.end(), look);
  std::for_each(waiting.begin(), waiting.end(), look);
}

uint32_t Scheduler::numGenerating() const {
  return static_cast<uint32_t>(std::count_if(running.begin(), running.end(),
                                             [](const auto &sequence) { return sequence->isGenerating(); }));
}

std::span<Sequence *const> Scheduler::onlyGenerating() {
  order.clear();
  if (!waiting.empty() || limits.recompute || numGenerating() < running.size())
    return {};
  for (const std::unique_ptr<Sequence> &sequence : running)
    order.push_back(sequence.get());
  return order;
}

kv::CacheTime Scheduler::keepUntil(const Sequence &sequence) const {
  return terms.now + uint64_t{sequence.request.keepSeconds} * 1000;
}

bool Scheduler::goesFirst(const Sequence &a, const Sequence &b) const {
  if (a.request.priority != b.request.priority)
    return a.request.priority > b.request.priority;
  double servedA = clients[a.request.client].numServed, servedB = clients[b.request.client].numServed;
  if (a.request.client != b.request.client && servedA != servedB)
    return servedA < servedB;
  return a.id < b.id;
}

// Generating sequences before prompts, so that a long prompt never holds up a stream; among the former the
// longest unserved first.
void Scheduler::orderRunning() {
  order.clear();
  for (const std::unique_ptr<Sequence> &sequence : running)
    order.push_back(sequence.get());
  std::sort(order.begin(), order.end(), [this](const Sequence *a, const Sequence *b) {
    bool aGenerates = a->isGenerating(), bGenerates = b->isGenerating();
    if (aGenerates != bGenerates)
      return aGenerates;
    if (aGenerates)
      return a->lastServed != b->lastServed ? a->lastServed < b->lastServed : a->id < b->id;
    return goesFirst(*a, *b);
  });
}

std::span<Sequence *const> Scheduler::plan(program::StepBatch &batch, const StepTerms &newTerms) {
  batch.clear();
  planned.clear();
  terms = newTerms;
  for (const std::unique_ptr<Sequence> &sequence : running)
    sequence->numPlanned = 0;
  preemptForUrgent();
  requeuePreempted();
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
  program::RowKind kind = nextKind();
  planRows(batch, kind);
  // All of that kind may wait for the tier below.
  if (planned.empty())
    planRows(batch, kind == program::RowKind::Hidden ? program::RowKind::Logits : program::RowKind::Hidden);
  return planned;
}

// In turn where there are both.
program::RowKind Scheduler::nextKind() const {
  bool hasLogits = false, hasHidden = false;
  auto look = [&](const std::unique_ptr<Sequence> &sequence) {
    (sequence->request.wantHidden ? hasHidden : hasLogits) = true;
  };
  std::for_each(running.begin(), running.end(), look);
  std::for_each(waiting.begin(), waiting.end(), look);
  bool isTurnOfHidden = !hasLogits || lastKind == program::RowKind::Logits;
  return hasHidden && isTurnOfHidden ? program::RowKind::Hidden : program::RowKind::Logits;
}

void Scheduler::planRows(program::StepBatch &batch, program::RowKind kind) {
  batch.clear(kind);
  lastKind = kind;
  promptTokensLeft = numGenerating() > 0 ? terms.maxPromptTokens : ~uint32_t{0};
  orderRunning();
  for (Sequence *sequence : order) {
    if (batch.tokensLeft() == 0 || batch.sequencesLeft() == 0)
      break;
    planSequence(*sequence, batch);
  }
  requeuePreempted();
  admit(batch);
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

// Whether its prompt is cut so that streams do not pause. Steps of hidden states come beside those of the streams, as often.
bool Scheduler::isPaced(const Sequence &sequence) const {
  if (sequence.request.wantHidden)
    return true;
  return sequence.numPending() > 1 &&
         sequence.tokens.size() - sequence.usage.numCachedTokens > terms.shortPromptTokens;
}

// How many of its pending tokens a sequence may feed in this step.
uint32_t Scheduler::chunkOf(const Sequence &sequence, const program::StepBatch &batch) const {
  uint32_t numPending = sequence.numPending();
  uint32_t numTokens = std::min(numPending, batch.tokensLeft());
  if (isPaced(sequence))
    numTokens = std::min(numTokens, promptTokensLeft);
  numTokens = chunkWithinRows(sequence, numTokens, batch.logitRowsLeft());
  // A chunk that does not end the prompt ends with a block, where others can go on from.
  uint32_t end = sequence.numCached + numTokens;
  uint32_t blockEnd = end / GIRIH_KV_BLOCK_TOKENS * GIRIH_KV_BLOCK_TOKENS;
  return numTokens < numPending && blockEnd > sequence.numCached ? blockEnd - sequence.numCached : numTokens;
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
  if (sequence.isPreempted || sequence.rowKind() != batch.kind() || !adoptBlocks(sequence))
    return;
  uint32_t numTokens = chunkOf(sequence, batch);
  if (numTokens == 0 || !reserveBlocks(sequence, sequence.numCached + numTokens))
    return;
  addToBatch(sequence, numTokens, batch);
  if (isPaced(sequence) && promptTokensLeft != ~uint32_t{0})
    promptTokensLeft -= numTokens;
  sequence.numPlanned = numTokens;
  sequence.lastServed = ++numServices;
  clientOf(sequence).numServed += static_cast<double>(numTokens) / sequence.request.clientWeight;
  announceBlocks(sequence);
  planned.push_back(&sequence);
}

void Scheduler::addToBatch(Sequence &sequence, uint32_t numTokens, program::StepBatch &batch) {
  chooseRows(sequence, sequence.numCached, numTokens);
  sequence.numDrafted = numTokens == sequence.numPending() ? numDraftsThatFit(sequence, batch) : 0;
  sequence.numRows += sequence.numDrafted;
  uint32_t numBlocks = kv::numBlocksFor(sequence.numCached + numTokens + sequence.numDrafted);
  while (sequence.blocks.size() < numBlocks)
    sequence.blocks.push_back(blockCache.allocate(sequence.request.client, terms.now));
  // They stand behind its tokens as long as the batch takes them; there is room, since they are never its last.
  sequence.tokens.insert(sequence.tokens.end(), sequence.draft.begin(), sequence.draft.begin() + sequence.numDrafted);
  batch.addSequence(
      std::span<const int32_t>(sequence.tokens).subspan(sequence.numCached, numTokens + sequence.numDrafted),
      sequence.numCached, sequence.blocks, sequence.firstRowPosition - sequence.numCached, sequence.numRows);
  sequence.tokens.resize(sequence.tokens.size() - sequence.numDrafted);
}

// Nobody gives a block, a row or a place up for a guess.
uint32_t Scheduler::numDraftsThatFit(const Sequence &sequence, const program::StepBatch &batch) const {
  if (sequence.draft.empty() || sequence.numRows == 0)
    return 0;
  uint64_t numTokens = sequence.tokens.size();
  uint64_t numPositions = (sequence.blocks.size() + unclaimedBlocks()) * GIRIH_KV_BLOCK_TOKENS;
  uint64_t most = std::min<uint64_t>(std::min(batch.tokensLeft() - sequence.numPending(),
                                              batch.logitRowsLeft() - sequence.numRows),
                                     std::min<uint64_t>(numPositions, sequence.maxTokens - 1) - numTokens);
  return static_cast<uint32_t>(std::min<uint64_t>(most, sequence.draft.size()));
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

// Whether the block at a position can come from a cache: it begins there, a token is left to be fed after it, and
// nobody wants the logits of its positions, which a cache does not have.
bool Scheduler::mayAdoptAt(const Sequence &sequence, uint32_t position) const {
  uint32_t end = position + GIRIH_KV_BLOCK_TOKENS;
  if (position % GIRIH_KV_BLOCK_TOKENS != 0 || end >= sequence.tokens.size())
    return false;
  for (; position < end; ++position)
    if (sequence.wantsRow(position))
      return false;
  return true;
}

// Takes over what the cache has of the tokens that come next. False: the next block is being computed by
// another sequence of this very step, or fetched from the tier below, and is there for a later one.
bool Scheduler::adoptBlocks(Sequence &sequence) {
  while (mayAdoptAt(sequence, sequence.numCached)) {
    kv::BlockCache::Found found = blockCache.find(sequence.keyOf(sequence.numCached / GIRIH_KV_BLOCK_TOKENS));
    if (found.block < 0)
      return !startLoad(sequence);
    if (!found.isReady)
      return false;
    blockCache.hold(found.block);
    sequence.blocks.push_back(found.block);
    sequence.numCached += GIRIH_KV_BLOCK_TOKENS;
    if (sequence.usage.numPreemptions == 0)
      sequence.usage.numCachedTokens += GIRIH_KV_BLOCK_TOKENS;
  }
  return true;
}

// Asks the tier below for what it has of the tokens that come next. The blocks are announced, so that others wait for
// them too. True: something is on its way.
bool Scheduler::startLoad(Sequence &sequence) {
  if (!lowerTier || sequence.hasTriedLoading || !lowerTier->isWorthLoading())
    return false;
  std::vector<TierBlock> chain;
  for (uint32_t index = sequence.numCached / GIRIH_KV_BLOCK_TOKENS;
       mayAdoptAt(sequence, index * GIRIH_KV_BLOCK_TOKENS) && chain.size() < blockCache.numAvailable();
       ++index) {
    const kv::ContentKey &key = sequence.keyOf(index);
    if (blockCache.find(key).block >= 0 || !lowerTier->has(key))
      break;
    chain.push_back({key, -1, index});
  }
  int32_t parent = sequence.blocks.empty() ? -1 : sequence.blocks.back();
  if (chain.size() < limits.leastLoadedBlocks || (parent >= 0 && !blockCache.hasKey(parent)))
    return false;
  for (TierBlock &next : chain) {
    next.block = blockCache.allocate(sequence.request.client, terms.now);
    blockCache.announce(next.block, next.key, parent);
    parent = next.block;
  }
  sequence.hasTriedLoading = true;
  ++numLoading;
  lowerTier->load(std::move(chain));
  return true;
}

void Scheduler::finish(const LowerTierResults &results) {
  for (const LowerTierResults::Loaded &loaded : results.loaded) {
    --numLoading;
    for (size_t index = 0; index < loaded.numGood; ++index)
      blockCache.publish(loaded.chain[index].block);
    // Last first, as always; those without content are forgotten.
    for (size_t index = loaded.chain.size(); index > 0; --index)
      blockCache.release(loaded.chain[index - 1].block, terms.now);
  }
  numStoring -= static_cast<uint32_t>(results.stored.size());
  for (int32_t block : results.stored)
    blockCache.release(block, 0);
}

// What a long prompt leaves is worth keeping longer than this process lives. A block is held while it is written.
void Scheduler::storeBlocks(Sequence &sequence) {
  // Who names a time means it, however short the prompt.
  uint32_t keepSeconds = sequence.request.keepSeconds;
  if (!lowerTier || !sequence.request.keepOnDisk ||
      (keepSeconds == 0 && sequence.numPrompt < limits.leastStoredTokens))
    return;
  std::vector<kv::ContentKey> known;
  uint32_t numFull = sequence.numCached / GIRIH_KV_BLOCK_TOKENS;
  for (uint32_t index = 0; index < numFull && index < sequence.blocks.size(); ++index) {
    TierBlock next{sequence.keyOf(index), sequence.blocks[index], index, keepSeconds};
    if (!blockCache.isReady(next.block))
      break;
    if (lowerTier->has(next.key)) {
      known.push_back(next.key);
      continue;
    }
    blockCache.hold(next.block);
    if (lowerTier->store(next)) {
      ++numStoring;
      continue;
    }
    blockCache.release(next.block, 0);
    break;
  }
  if (!known.empty())
    lowerTier->touch(std::move(known), keepSeconds);
}

// Tells the cache which blocks this step fills. Where an equal one is there already (or comes from a sequence
// before this one), ours is swapped for it afterwards.
void Scheduler::announceBlocks(Sequence &sequence) {
  if (sequence.request.wantHidden)
    return;
  uint32_t first = sequence.numCached / GIRIH_KV_BLOCK_TOKENS;
  uint32_t end = (sequence.numCached + sequence.numPlanned) / GIRIH_KV_BLOCK_TOKENS;
  for (uint32_t index = first; index < end; ++index) {
    int32_t parent = index > 0 ? sequence.blocks[index - 1] : -1;
    if (parent >= 0 && !blockCache.hasKey(parent))
      return;
    if (blockCache.find(sequence.keyOf(index)).block >= 0)
      return;
    blockCache.announce(sequence.blocks[index], sequence.keyOf(index), parent);
  }
}

void Scheduler::advance(Sequence &sequence) {
  uint32_t first = sequence.numCached / GIRIH_KV_BLOCK_TOKENS;
  // Without a cache "cached" means: everything asked of these tokens was answered.
  sequence.numCached = limits.recompute ? sequence.numPlanned : sequence.numCached + sequence.numPlanned;
  if (limits.recompute || sequence.request.wantHidden)
    return;
  uint32_t end = sequence.numCached / GIRIH_KV_BLOCK_TOKENS;
  for (uint32_t index = first; index < end; ++index) {
    int32_t &block = sequence.blocks[index];
    kv::BlockCache::Found found = blockCache.find(sequence.keyOf(index));
    if (found.block == block) {
      blockCache.publish(block);
    } else if (found.isReady) {
      blockCache.hold(found.block);
      blockCache.release(block, terms.now);
      block = found.block;
    } else if (found.block < 0 && (index == 0 || blockCache.hasKey(sequence.blocks[index - 1]))) {
      // It stood behind one that was swapped just now.
      blockCache.announce(block, sequence.keyOf(index), index > 0 ? sequence.blocks[index - 1] : -1);
      blockCache.publish(block);
    }
  }
}

void Scheduler::acceptDraft(Sequence &sequence) {
  sequence.numPlanned = 1;
  advance(sequence);
}

// The one to give its blocks back first: of those outside this step the youngest of the lowest priority.
Sequence *Scheduler::mostExpendable() const {
  Sequence *victim = nullptr;
  for (const std::unique_ptr<Sequence> &candidate : running)
    if (candidate->numPlanned == 0 && !candidate->isPreempted &&
        (!victim || candidate->request.priority <= victim->request.priority))
      victim = candidate.get();
  return victim;
}

// Takes blocks for the positions, from more expendable sequences when none are left. False: the sequence must
// wait, and has given its own blocks up if it is the most expendable itself.
bool Scheduler::reserveBlocks(Sequence &sequence, uint32_t numPositions) {
  uint32_t numWanted = kv::numBlocksFor(numPositions);
  while (sequence.blocks.size() + blockCache.numAvailable() < numWanted) {
    Sequence *victim = mostExpendable();
    bool isBetter =
        victim && (victim->request.priority > sequence.request.priority ||
                   (victim->request.priority == sequence.request.priority && victim->id < sequence.id));
    if (!victim || isBetter)
      return false;
    preempt(*victim);
    if (victim == &sequence)
      return false;
  }
  while (sequence.blocks.size() < numWanted)
    sequence.blocks.push_back(blockCache.allocate(sequence.request.client, terms.now));
  return true;
}

// Its tokens stay; their K and V are found in the cache or computed again when there is room. It keeps its
// place in `running` until the plan is made, because `order` points to it.
void Scheduler::preempt(Sequence &sequence) {
  blockCache.releaseAll(sequence.blocks, keepUntil(sequence));
  sequence.isPreempted = true;
  ++sequence.usage.numPreemptions;
  ++preemptions;
}

// One place a step for who waits with a higher priority than somebody who runs.
void Scheduler::preemptForUrgent() {
  if (waiting.empty() || running.empty())
    return;
  Sequence &urgent = *waiting[nextWaiting()];
  Sequence *victim = mostExpendable();
  if (!victim || victim->request.priority >= urgent.request.priority)
    return;
  bool hasRoom = running.size() < limits.maxSequences &&
                 (limits.recompute || unclaimedBlocks() >= numBlocksToAdmit(urgent));
  if (!hasRoom)
    preempt(*victim);
}

// Those who gave their blocks away wait again.
void Scheduler::requeuePreempted() {
  for (size_t index = 0; index < running.size();) {
    Sequence &sequence = *running[index];
    if (!sequence.isPreempted) {
      ++index;
      continue;
    }
    sequence.isPreempted = false;
    sequence.numCached = 0;
    waiting.push_back(std::move(running[index]));
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(index));
  }
}

void Scheduler::forgetPool() {
  GIRIH_CHECK(!lowerTier && !isMoving());
  for (const std::unique_ptr<Sequence> &sequence : running)
    preempt(*sequence);
  requeuePreempted();
  blockCache.clearIdle();
}

// Free and idle blocks less what running sequences will still take for tokens that they already have. Who fed guesses may
// have a block more than that.
uint64_t Scheduler::unclaimedBlocks() const {
  uint64_t claimed = 0;
  for (const std::unique_ptr<Sequence> &sequence : running) {
    uint64_t wanted = kv::numBlocksFor(sequence->tokens.size() + 1);
    claimed += wanted - std::min<uint64_t>(wanted, sequence->blocks.size());
  }
  return blockCache.numAvailable() > claimed ? blockCache.numAvailable() - claimed : 0;
}

size_t Scheduler::nextWaiting() const {
  size_t best = 0;
  for (size_t index = 1; index < waiting.size(); ++index)
    if (goesFirst(*waiting[index], *waiting[best]))
      best = index;
  return best;
}

// Blocks that its tokens take; those that others hold already cost nothing.
uint64_t Scheduler::numBlocksToAdmit(Sequence &sequence) const {
  uint64_t numBlocks = kv::numBlocksFor(std::min<uint64_t>(sequence.tokens.size() + 1, sequence.maxTokens));
  for (uint32_t index = 0; (index + 1) * GIRIH_KV_BLOCK_TOKENS < sequence.tokens.size(); ++index) {
    kv::BlockCache::Found found = blockCache.find(sequence.keyOf(index));
    if (!found.isReady)
      break;
    numBlocks -= blockCache.numHolders(found.block) > 0;
  }
  return numBlocks;
}

void Scheduler::admit(program::StepBatch &batch) {
  while (!waiting.empty() && running.size() < limits.maxSequences) {
    size_t next = nextWaiting();
    Sequence &sequence = *waiting[next];
    if (!limits.recompute) {
      bool hasRoom = batch.tokensLeft() > 0 && batch.sequencesLeft() > 0;
      if (!hasRoom || unclaimedBlocks() < numBlocksToAdmit(sequence))
        return;
    }
    auto place = std::find_if(running.begin(), running.end(),
                              [&](const auto &other) { return other->id > sequence.id; });
    running.insert(place, std::move(waiting[next]));
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(next));
    if (!limits.recompute)
      planSequence(sequence, batch);
  }
}

} // namespace girih::engine
