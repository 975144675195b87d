// SPDX-License-Identifier: Apache-2.0
// Random schedules through the whole engine: cold, cached in memory or on disk, batched, preempted, guessed, cancelled beside
// others: each answer is the one that its prompt has alone, and nobody finds what another key's prompts left.
#include "tests/runtime/engine/engine_rig.h"

#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>

namespace girih::engine {
namespace {

using girih::testing::openToyProgram;
using girih::testing::TemporaryFolder;
using girih::testing::ToyOptions;

constexpr uint32_t kBlockBytes = 64; // of the toy's KV
constexpr uint32_t kNumKeys = 3;

struct Totals {
  uint64_t numAnswers = 0, numCached = 0, numLoaded = 0, numPreemptions = 0, numShared = 0;
  uint64_t numAccepted = 0, numWrong = 0, numOfModel = 0, numCancelled = 0;
};

// An engine in some shape, and what it was asked.
class Schedule {
public:
  Schedule(unsigned seed, Engine &alone, const std::shared_ptr<const program::Program> (&drafts)[2])
      : random(seed), alone(alone), drafts(drafts) {}

  void run(Totals &totals) {
    uint32_t numRuns = random() % 3 == 0 ? 2 : 1; // of the engine, with the same folder
    usesDisk = numRuns == 2;
    for (uint32_t index = 0; index < numRuns && !::testing::Test::HasFailure(); ++index)
      runOnce(totals);
  }

private:
  struct Asked {
    Request request;
    std::shared_ptr<Recorder> recorder;
    RequestId id;
    bool isCancelled = false;
  };

  EngineOptions someOptions() {
    EngineOptions options = withThreads(1 + static_cast<int32_t>(random() % 2));
    options.maxSequences = 1 + random() % 8;
    options.maxTokensPerStep = 8 + random() % 25;
    options.kvBytes = uint64_t{random() % 2 ? 17 + random() % 12 : 120} * kBlockBytes;
    options.maxDraft = random() % 3 ? random() % (kMaxDraft + 1) : 0;
    options.draftsEagerly = random() % 4 != 0;
    if (random() % 2)
      options.draft = drafts[random() % 2];
    if (usesDisk)
      options.cacheFolder = folder.file("kv");
    return options;
  }

  // Prompts of few families, so that prefixes are common; some go on from answers.
  Request someRequest() {
    uint32_t length = 1 + random() % 150;
    Request request = greedy(somePrompt(length, static_cast<int32_t>(random() % 2), 5), random() % 60);
    if (!asked.empty() && random() % 3 == 0) {
      const Asked &before = asked[random() % asked.size()];
      std::lock_guard lock(before.recorder->mutex);
      request.promptTokens = before.request.promptTokens;
      request.promptTokens.insert(request.promptTokens.end(), before.recorder->received.begin(), before.recorder->received.end());
    }
    request.cacheSalt = "key " + std::to_string(random() % kNumKeys);
    request.client = random() % kNumKeys;
    request.priority = random() % 6 == 0;
    request.keepSeconds = usesDisk ? 60 : 0;
    if (random() % 2) {
      request.sampling.temperature = 0.4f + 0.1f * static_cast<float>(random() % 12);
      request.sampling.seed = random() % 5;
      request.sampling.topP = random() % 2 ? 0.9f : 1.0f;
      request.sampling.topK = random() % 3 ? 0 : 3;
      request.sampling.repetitionPenalty = random() % 4 ? 1.0f : 1.2f;
    }
    return request;
  }

  void runOnce(Totals &totals) {
    asked.clear();
    ToyOptions toy;
    toy.vocabSize = 5;
    auto engine = makeEngine(toy, someOptions());
    for (uint32_t number = 4 + random() % 10; number > 0; --number) {
      Asked next{someRequest(), std::make_shared<Recorder>(), 0};
      auto id = engine->submit(next.request, next.recorder);
      if (!id.isOk())
        continue; // longer than this pool
      next.id = *id;
      asked.push_back(next);
      uint32_t patience = random() % 30;
      if (random() % 3 == 0)
        next.recorder->waitForTokens(patience);
      if (random() % 10 == 0) {
        asked.back().isCancelled = true;
        engine->cancel(next.id);
      }
    }
    for (Asked &each : asked)
      judge(each, totals);
    count(engine->stats(), totals);
  }

  void judge(Asked &each, Totals &totals) {
    each.recorder->wait();
    Request request = each.request;
    request.cacheSalt = "alone " + std::to_string(++totals.numAnswers); // cold
    request.keepSeconds = 0;
    auto expected = generate(alone, request);
    ASSERT_TRUE(expected.isOk());
    std::vector<int32_t> &received = each.recorder->received;
    if (each.isCancelled && received.size() < expected->tokens.size()) {
      ++totals.numCancelled;
      expected->tokens.resize(received.size());
    }
    // A small pool bounds the context, too.
    if (each.recorder->reason == FinishReason::Length && received.size() < expected->tokens.size())
      expected->tokens.resize(received.size());
    ASSERT_EQ(received, expected->tokens);
    if (each.recorder->usage.numCachedTokens > 0)
      ASSERT_LE(each.recorder->usage.numCachedTokens, mostShared(each)) << "of its own key's texts";
    totals.numCached += each.recorder->usage.numCachedTokens;
    texts[each.request.cacheSalt].push_back(textOf(each));
  }

  static std::vector<int32_t> textOf(const Asked &each) {
    std::vector<int32_t> text = each.request.promptTokens;
    text.insert(text.end(), each.recorder->received.begin(), each.recorder->received.end());
    return text;
  }
  // The longest beginning that it has in common with any text of its key, of this run or the one before.
  uint32_t mostShared(const Asked &each) {
    std::vector<std::vector<int32_t>> candidates = texts[each.request.cacheSalt];
    for (const Asked &other : asked)
      if (other.id != each.id && other.request.cacheSalt == each.request.cacheSalt) {
        std::lock_guard lock(other.recorder->mutex);
        // What it will say is not known yet, but what it may begin with is its prompt and what came.
        candidates.push_back(textOf(other));
      }
    size_t most = 0;
    const std::vector<int32_t> &prompt = each.request.promptTokens;
    for (const std::vector<int32_t> &text : candidates) {
      size_t common = 0;
      while (common < std::min(prompt.size(), text.size()) && prompt[common] == text[common])
        ++common;
      most = std::max(most, common);
    }
    return static_cast<uint32_t>(most);
  }

  void count(const EngineStats &stats, Totals &totals) const {
    if (!usesDisk) // else some may still be on their way there
      EXPECT_EQ(stats.numKvBlocksUsed, 0u);
    totals.numLoaded += stats.disk.numTokensLoaded;
    totals.numPreemptions += stats.numPreemptions;
    totals.numShared += stats.numSharedSteps;
    totals.numAccepted += stats.numAcceptedTokens;
    totals.numWrong += stats.numDraftedTokens - stats.numAcceptedTokens;
    totals.numOfModel += stats.numModelDraftedTokens;
  }

  std::mt19937 random;
  Engine &alone;
  const std::shared_ptr<const program::Program> (&drafts)[2];
  TemporaryFolder folder;
  bool usesDisk = false;
  std::vector<Asked> asked;
  std::map<std::string, std::vector<std::vector<int32_t>>> texts; // by key, of answers that were judged
};

// So many that each way was taken often; `./check --full` takes thousands.
TEST(SameTokens, ByAnySchedule) {
  unsigned numSchedules = std::getenv("GIRIH_FULL") ? 4000 : 120;
  ToyOptions toy, other;
  toy.vocabSize = other.vocabSize = 5;
  other.salt = 2;
  const std::shared_ptr<const program::Program> drafts[2] = {openToyProgram(toy), openToyProgram(other)};
  auto alone = makeEngine(toy, withThreads(1));
  Totals totals;
  for (unsigned seed = 0; seed < numSchedules; ++seed) {
    Schedule(seed, *alone, drafts).run(totals);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  // It could have gone wrong.
  std::printf("%llu answers: %llu tokens from memory or disk, %llu of these from disk; %llu preemptions, %llu shared steps, %llu "
              "guesses right, %llu wrong, %llu of a draft model; %llu cancelled\n",
              static_cast<unsigned long long>(totals.numAnswers), static_cast<unsigned long long>(totals.numCached),
              static_cast<unsigned long long>(totals.numLoaded), static_cast<unsigned long long>(totals.numPreemptions),
              static_cast<unsigned long long>(totals.numShared), static_cast<unsigned long long>(totals.numAccepted),
              static_cast<unsigned long long>(totals.numWrong), static_cast<unsigned long long>(totals.numOfModel),
              static_cast<unsigned long long>(totals.numCancelled));
  EXPECT_GT(totals.numCached, 50 * numSchedules);
  EXPECT_GT(totals.numLoaded, numSchedules);
  EXPECT_GT(totals.numPreemptions, numSchedules / 8);
  EXPECT_GT(totals.numShared, 10 * numSchedules);
  EXPECT_GT(totals.numAccepted, 8 * numSchedules);
  EXPECT_GT(totals.numWrong, 20 * numSchedules);
  EXPECT_GT(totals.numOfModel, 20 * numSchedules);
}

} // namespace
} // namespace girih::engine
