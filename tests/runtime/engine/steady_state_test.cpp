// SPDX-License-Identifier: Apache-2.0
// What the engine costs beside the model, once sequences generate: no allocation, and so much time a step.
#include "tests/runtime/engine/engine_rig.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

// Of the engine's thread alone, between two tokens of the sequence that is watched.
thread_local bool isCounted = false;
std::atomic<uint64_t> numAllocations = 0;

void *allocate(size_t numBytes) {
  numAllocations += isCounted;
  if (void *memory = std::malloc(numBytes ? numBytes : 1))
    return memory;
  throw std::bad_alloc();
}

} // namespace

void *operator new(size_t numBytes) { return allocate(numBytes); }
void *operator new[](size_t numBytes) { return allocate(numBytes); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t) noexcept { std::free(memory); }

namespace girih::engine {
namespace {

using girih::testing::ToyOptions;

constexpr uint32_t kNumTokens = 1200;
constexpr size_t kFirst = 50, kLast = 1150; // of the tokens between which everything is counted

// Keeps nothing, so that what is counted is the engine's.
class Counter final : public Listener {
public:
  Counter(bool isWatched, const std::atomic<bool> &areAllThere) : isWatched(isWatched), areAllThere(areAllThere) {}
  // No step is taken before all sequences are there: what begins one allocates.
  void onTokens(RequestId, std::span<const TokenResult> tokens) override {
    areAllThere.wait(false);
    numTokens += tokens.size();
    if (isWatched)
      isCounted = numTokens >= kFirst && numTokens < kLast;
  }
  void onFinish(RequestId, FinishReason, const Usage &, const Status &) override {
    hasEnded = true;
    hasEnded.notify_one();
  }
  std::atomic<bool> hasEnded = false;

private:
  const bool isWatched;
  const std::atomic<bool> &areAllThere;
  size_t numTokens = 0;
};

struct Cost {
  uint64_t numAllocations;
  double secondsPerStep; // in the engine, beside the program
};

Cost costOf(uint32_t numSequences, const Request &request) {
  ToyOptions toy;
  toy.maxPositions = 2048;
  toy.maxTokensPerStep = toy.maxLogitRows = 64;
  EngineOptions options = withThreads(1);
  options.maxSequences = 64;
  options.kvBytes = 64 * 128 * uint64_t{numSequences};
  auto engine = makeEngine(toy, options);
  numAllocations = 0;
  std::atomic<bool> areAllThere = false;
  std::vector<std::shared_ptr<Counter>> counters;
  for (uint32_t number = 0; number < numSequences; ++number) {
    counters.push_back(std::make_shared<Counter>(number == 0, areAllThere));
    Request own = request;
    own.promptTokens = somePrompt(4, static_cast<int32_t>(number));
    GIRIH_CHECK(engine->submit(std::move(own), counters.back()).isOk());
  }
  areAllThere = true;
  areAllThere.notify_all();
  for (auto &counter : counters)
    counter->hasEnded.wait(false);
  EngineStats stats = engine->stats();
  return {numAllocations, (stats.busySeconds - stats.stepSeconds) / static_cast<double>(stats.numSteps)};
}

// Greedy, and by everything that a token is chosen by without a grammar.
TEST(SteadyState, AllocatesNothing) {
  Request sampled = greedy({}, kNumTokens);
  sampled.ignoreStop = true;
  Request plain = sampled;
  sampled.sampling.temperature = 0.8f;
  sampled.sampling.topK = 20;
  sampled.sampling.topP = 0.9f;
  sampled.sampling.minP = 0.01f;
  sampled.sampling.repetitionPenalty = 1.1f;
  sampled.rules.presencePenalty = 0.1f;
  sampled.rules.frequencyPenalty = 0.1f;
  sampled.numTopLogprobs = 5;
  for (uint32_t numSequences : {1, 8, 64}) {
    Cost ofPlain = costOf(numSequences, plain), ofSampled = costOf(numSequences, sampled);
    EXPECT_EQ(ofPlain.numAllocations, 0u) << numSequences << " sequences";
    EXPECT_EQ(ofSampled.numAllocations, 0u) << numSequences << " sequences, sampled";
    // With a vocabulary of 97, sampling is next to nothing.
    std::printf("%2u sequences: %.1f us a step beside the program, sampled %.1f us\n", numSequences,
                1e6 * ofPlain.secondsPerStep, 1e6 * ofSampled.secondsPerStep);
  }
}

} // namespace
} // namespace girih::engine
