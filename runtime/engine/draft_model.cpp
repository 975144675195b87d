// SPDX-License-Identifier: Apache-2.0
// DraftModel: reads what it has not seen of each sequence, then goes on with its own guesses, a step for each.
#include "runtime/engine/draft_model.h"

#include "runtime/kv/block_cache.h"

#include <algorithm>
#include <chrono>
#include <numeric>

namespace girih::engine {
namespace {

// Tokens that it reads at most before others get their next one: streams must not pause for a guess.
constexpr uint32_t kTokensToCatchUp = 256;
constexpr double kWeightOfLast = 0.2;

std::string numWords(const program::Program &program) {
  return std::to_string(program.model().vocabSize) + " words";
}

// Tokens that the draft would have to be told of its sequence, guesses included.
uint32_t numPending(const Sequence &sequence) {
  return static_cast<uint32_t>(sequence.tokens.size() + sequence.draft.size() -
                               sequence.draftCache.tokens.size());
}

} // namespace

Status checkDraft(const program::Program &model, const program::Program &draft) {
  const std::string hint =
      "; a draft guesses the model's own tokens: take a smaller model of the same family";
  if (model.model().vocabSize != draft.model().vocabSize)
    return invalidArgument("the draft " + draft.path() + " has a vocabulary of " + numWords(draft) +
                           ", the model one of " + numWords(model) + hint);
  const program::Tokenizer &ours = model.tables().tokenizer, &its = draft.tables().tokenizer;
  bool areBoth = !ours.payload.empty() && !its.payload.empty();
  if (areBoth && (ours.kind != its.kind || !std::equal(ours.payload.begin(), ours.payload.end(),
                                                       its.payload.begin(), its.payload.end())))
    return invalidArgument("the draft " + draft.path() +
                           " has another tokenizer than the model, though both have " + numWords(model) +
                           hint);
  if (draft.model().recompute)
    return invalidArgument(
        "the draft " + draft.path() +
        " keeps no KV and would read the whole text for each guess; take one that was compiled with a cache");
  return {};
}

Expected<std::unique_ptr<DraftModel>> DraftModel::create(std::shared_ptr<const program::Program> program,
                                                         const program::ExecutorOptions &executorOptions,
                                                         const DraftModelOptions &options) {
  program::ExecutorOptions own = executorOptions;
  own.numKvBlocks = options.numKvBlocks;
  own.leastKvBlocks = 1;
  auto executor = program::Executor::create(std::move(program), own);
  if (!executor.isOk())
    return std::move(executor).status().withContext("the draft");
  return std::unique_ptr<DraftModel>(new DraftModel(std::move(executor).value(), options));
}

DraftModel::DraftModel(std::unique_ptr<program::Executor> newExecutor, const DraftModelOptions &options)
    : executor(std::move(newExecutor)), batch(executor->program().model().maxTokensPerStep,
                                              options.maxSequences, executor->program().model().maxLogitRows,
                                              kv::numBlocksFor(executor->program().model().maxPositions)),
      sampler(executor->program().model().vocabSize), freeBlocks(executor->numKvBlocks()) {
  // The lowest numbers first, so that memory is touched only as far as it is needed.
  std::iota(freeBlocks.rbegin(), freeBlocks.rend(), 0);
  fed.reserve(options.maxSequences);
}

void DraftModel::release(Sequence &sequence) {
  DraftCache &cache = sequence.draftCache;
  freeBlocks.insert(freeBlocks.end(), cache.blocks.begin(), cache.blocks.end());
  cache.blocks.clear();
  cache.tokens.clear();
  cache.numSure = 0;
}

double DraftModel::secondsPerGuess(uint32_t numSequences) const {
  return costs.isKnown(1) || costs.isKnown(numSequences) ? costs.seconds(numSequences) / numSequences : 0.0;
}

double DraftModel::secondsToCatchUp(const Sequence &sequence) const {
  return promptSecondsPerToken * numPending(sequence);
}

Status DraftModel::propose(std::span<Sequence *const> sequences) {
  for (Sequence *sequence : sequences)
    if (!prepare(*sequence))
      sequence->draftCache.numWanted = 0;
  for (bool isFirst = true;; isFirst = false) {
    gather(sequences, isFirst);
    if (fed.empty())
      return {};
    GIRIH_TRY(runStep());
  }
}

// Forgets guesses that did not come true and takes blocks for what is to come. False: there is no room.
bool DraftModel::prepare(Sequence &sequence) {
  DraftCache &cache = sequence.draftCache;
  size_t numSame = std::min<size_t>(cache.numSure, cache.tokens.size()),
         most = std::min(cache.tokens.size(), sequence.tokens.size());
  while (numSame < most && cache.tokens[numSame] == sequence.tokens[numSame])
    ++numSame;
  // The last token is always told: what follows it is wanted.
  cache.tokens.resize(std::min(numSame, sequence.tokens.size() - 1));
  cache.numSure = static_cast<uint32_t>(cache.tokens.size());
  uint64_t numPositions = sequence.tokens.size() + cache.numWanted - 1;
  if (numPositions > executor->program().model().maxPositions)
    return false;
  uint32_t numBlocks = kv::numBlocksFor(static_cast<uint32_t>(numPositions));
  if (numBlocks > cache.blocks.size() + freeBlocks.size())
    return false;
  // Steps allocate nothing once a sequence generates.
  cache.tokens.reserve(sequence.maxTokens);
  cache.blocks.reserve(kv::numBlocksFor(sequence.maxTokens));
  for (; cache.blocks.size() < numBlocks; freeBlocks.pop_back())
    cache.blocks.push_back(freeBlocks.back());
  return true;
}

// The next step: what each sequence still has to be told. The first of a round may take many tokens of some; who was not
// told all by it guesses another time.
void DraftModel::gather(std::span<Sequence *const> sequences, bool isFirst) {
  batch.clear();
  fed.clear();
  uint32_t tokensLeft =
      std::min(batch.tokensLeft(), std::max(kTokensToCatchUp, 2 * static_cast<uint32_t>(sequences.size())));
  for (Sequence *sequence : sequences) {
    DraftCache &cache = sequence->draftCache;
    uint32_t pending = numPending(*sequence);
    if (sequence->draft.size() >= cache.numWanted || tokensLeft == 0 || batch.sequencesLeft() == 0 ||
        batch.logitRowsLeft() == 0 || (!isFirst && sequence->draft.empty()))
      continue;
    uint32_t count = std::min(pending, tokensLeft), first = static_cast<uint32_t>(cache.tokens.size());
    for (uint32_t position = first; position < first + count; ++position)
      cache.tokens.push_back(position < sequence->tokens.size()
                                 ? sequence->tokens[position]
                                 : sequence->draft[position - sequence->tokens.size()]);
    batch.addSequence(std::span<const int32_t>(cache.tokens).subspan(first), first, cache.blocks,
                      count == pending ? 1 : 0);
    tokensLeft -= count;
    fed.push_back(sequence);
  }
}

Status DraftModel::runStep() {
  auto begin = std::chrono::steady_clock::now();
  GIRIH_TRY(executor->run(batch));
  uint32_t row = 0;
  for (Sequence *sequence : fed) {
    if (numPending(*sequence) > 0)
      continue; // it has more to read
    uint64_t position = sequence->tokens.size() + sequence->draft.size();
    GIRIH_ASSIGN(int32_t token, sampler.sample(executor->logits(row++), sequence->request.sampling,
                                               sequence->seen, position));
    sequence->draft.push_back(token);
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  totalSeconds += seconds;
  // After a round in which all came true, two tokens of each are told.
  if (batch.numTokens() <= 2 * fed.size())
    costs.observe(static_cast<uint32_t>(fed.size()), seconds);
  else
    promptSecondsPerToken += (promptSecondsPerToken == 0.0 ? 1.0 : kWeightOfLast) *
                             (seconds / batch.numTokens() - promptSecondsPerToken);
  return {};
}

} // namespace girih::engine
