// SPDX-License-Identifier: Apache-2.0
// Sequence: one request on its way, with all tokens known so far.
#pragma once

#include "runtime/abi/step.h"
#include "runtime/engine/drafter.h"
#include "runtime/engine/engine.h"
#include "runtime/kv/content_key.h"
#include "runtime/program/executor.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace girih::engine {

// The keys of a request's blocks: a chain from the program's root, salted where what is shared ends.
class KeyChain {
public:
  KeyChain(const kv::ContentKey &programRoot, const Request &request)
      : numShared(request.numSharedTokens / GIRIH_KV_BLOCK_TOKENS), ownSalt(request.cacheSalt),
        root(kv::saltedKey(programRoot, numShared > 0 ? request.sharedSalt : request.cacheSalt)) {}

  void reserve(size_t numBlocks) { keys.reserve(numBlocks); }
  // Requires: the block's tokens are among `tokens`.
  const kv::ContentKey &at(uint32_t blockIndex, std::span<const int32_t> tokens) {
    while (keys.size() <= blockIndex) {
      kv::ContentKey parent = keys.empty() ? root : keys.back();
      if (numShared > 0 && keys.size() == numShared)
        parent = kv::saltedKey(parent, ownSalt);
      keys.push_back(
          kv::blockKey(parent, tokens.subspan(keys.size() * GIRIH_KV_BLOCK_TOKENS, GIRIH_KV_BLOCK_TOKENS)));
    }
    return keys[blockIndex];
  }

private:
  size_t numShared; // blocks
  std::string ownSalt;
  kv::ContentKey root;
  std::vector<kv::ContentKey> keys;
};

// Prompt and output are one list: what is not in the cache yet is fed next, be it a prompt, the last sampled
// token, or everything again after the blocks were given away. Owned by the scheduler, used by the engine
// thread alone.
struct Sequence {
  // `programRoot` is the start of all chains of this program. The keys of the prompt are computed here, on the thread
  // that submits.
  Sequence(RequestId id, Request newRequest, std::shared_ptr<Listener> listener, uint32_t vocabSize,
           uint32_t contextTokens, const kv::ContentKey &programRoot = {})
      : id(id), request(std::move(newRequest)), listener(std::move(listener)), seen(vocabSize),
        tokens(request.promptTokens), numPrompt(static_cast<uint32_t>(tokens.size())),
        keys(programRoot, request) {
    uint64_t most = uint64_t{numPrompt} + request.maxTokens;
    maxTokens = static_cast<uint32_t>(std::min<uint64_t>(most, std::max(contextTokens, numPrompt)));
    tokens.reserve(maxTokens);
    keys.reserve(maxTokens / GIRIH_KV_BLOCK_TOKENS);
    // Steps allocate nothing.
    seen.reserve(std::min(vocabSize, maxTokens));
    if (request.rules.countsOutput())
      outputCounts.reserve(std::min(vocabSize, maxTokens - numPrompt));
    for (int32_t token : tokens)
      seen.add(token);
    if (numPrompt >= GIRIH_KV_BLOCK_TOKENS)
      keyOf(numPrompt / GIRIH_KV_BLOCK_TOKENS - 1);
  }

  const RequestId id;
  const Request request;
  const std::shared_ptr<Listener> listener;
  SeenTokens seen;
  OutputCounts outputCounts;   // only where a rule asks for it
  std::vector<int32_t> tokens; // prompt, then output
  const uint32_t numPrompt;
  KeyChain keys;                 // of full blocks
  uint32_t maxTokens;            // prompt and output together never exceed it
  uint32_t numCached = 0;        // tokens whose K and V are in `blocks`
  uint32_t numRowsDelivered = 0; // positions below it need no logits for the listener any more
  std::vector<int32_t> blocks;
  uint64_t lastServed = 0; // the scheduler's count at its last service
  bool isPreempted = false;
  bool hasTriedLoading = false; // from the tier below: once, so that a failing one holds nobody up

  // What may come next, guessed for the next step or the one in flight.
  std::vector<int32_t> draft;
  DraftSource draftSource = DraftSource::Text;
  std::array<DraftRecord, kNumDraftSources> drafts; // by source
  NgramIndex ngrams;
  DraftCache draftCache;

  DraftRecord &draftsOf(DraftSource source) { return drafts[static_cast<size_t>(source)]; }

  // What the step in flight does with it.
  uint32_t numPlanned = 0; // of `tokens`
  uint32_t numDrafted = 0; // of `draft`, fed behind them, a row each
  uint32_t firstRowPosition = 0; // rows are for consecutive positions from here on
  uint32_t numRows = 0;

  Usage usage;
  Clock::time_point submitted, started, firstToken, lastToken;
  bool hasStarted = false;

  uint32_t numPending() const { return static_cast<uint32_t>(tokens.size()) - numCached; }
  // One token is left to be fed, and another one follows from it.
  bool isGenerating() const { return numPending() == 1 && !request.wantHidden; }
  // A step's rows are of one kind, so it takes sequences of one kind.
  program::RowKind rowKind() const {
    return request.wantHidden ? program::RowKind::Hidden : program::RowKind::Logits;
  }
  // A token is to be sampled once everything so far is evaluated.
  bool wantsToken() const { return tokens.size() < maxTokens; }
  // Whether the listener or the sampler needs the logits at a position of `tokens`.
  bool wantsRow(uint32_t position) const {
    if (position + 1 == tokens.size() && wantsToken())
      return true;
    if (position < numRowsDelivered)
      return false;
    return request.wantLogits || request.wantHidden || (request.wantPromptLogprobs && position + 1 < numPrompt);
  }
  // The key of the block of that number. Requires: all its tokens are known.
  const kv::ContentKey &keyOf(uint32_t blockIndex) { return keys.at(blockIndex, tokens); }
};

} // namespace girih::engine
