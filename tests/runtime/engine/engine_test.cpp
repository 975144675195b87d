// SPDX-License-Identifier: Apache-2.0
// The engine over the toy model, whose every logit depends on every token through its blocks: whatever
// shares, splits, preempts or cancels steps must leave each sequence's tokens exactly as they are alone.
#include "tests/runtime/engine/engine_rig.h"

#include <algorithm>
#include <atomic>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::engine {
namespace {

using girih::testing::openToyProgram;
using girih::testing::toyGreedy;
using girih::testing::toyLogits;
using girih::testing::ToyOptions;
using ::testing::HasSubstr;

TEST(Engine, AnswersAsTheModelDoes) {
  auto engine = makeEngine();
  for (size_t length : {1, 15, 16, 17, 32, 33, 100}) {
    std::vector<int32_t> prompt = somePrompt(length, 3);
    auto completion = generate(*engine, greedy(prompt, 20));
    ASSERT_TRUE(completion.isOk()) << completion.status().message();
    EXPECT_EQ(completion->tokens, toyGreedy(prompt, 20)) << length;
    EXPECT_EQ(completion->reason, FinishReason::Length);
    EXPECT_EQ(completion->usage.numPromptTokens, length);
    EXPECT_EQ(completion->usage.numOutputTokens, 20u);
  }
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
}

TEST(Engine, AnyChunkingAndAnyThreadsAnswerAlike) {
  std::vector<int32_t> prompt = somePrompt(70, 5), expected = toyGreedy(prompt, 12);
  for (uint32_t stepTokens : {1u, 3u, 16u, 32u})
    for (int32_t numThreads : {1, 2, 3}) {
      EngineOptions options = withThreads(numThreads);
      options.maxTokensPerStep = stepTokens;
      auto engine = makeEngine({}, options);
      EXPECT_EQ(engine->numThreads(), numThreads);
      auto completion = generate(*engine, greedy(prompt, 12));
      ASSERT_TRUE(completion.isOk()) << completion.status().message();
      EXPECT_EQ(completion->tokens, expected) << stepTokens << " tokens a step, " << numThreads << " threads";
    }
}

TEST(Engine, ThirtyTwoTogetherAreEachAsAlone) {
  auto engine = makeEngine();
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int32_t index = 0; index < 32; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(
        engine->submit(greedy(somePrompt(1 + index * 3 % 40, index), 5 + index % 20), recorders.back())
            .isOk());
  }
  for (int32_t index = 0; index < 32; ++index) {
    recorders[index]->wait();
    EXPECT_EQ(recorders[index]->received, toyGreedy(somePrompt(1 + index * 3 % 40, index), 5 + index % 20))
        << index;
    EXPECT_EQ(recorders[index]->numFinishes, 1);
  }
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numSharedSteps, 0u);
  EXPECT_GT(stats.maxSequencesInStep, 8u);
  EXPECT_EQ(stats.numKvBlocksUsed, 0u);
  EXPECT_EQ(stats.numRequestsFinished[static_cast<size_t>(FinishReason::Length)], 32u);
}

TEST(Engine, MoreGeneratingThanLogitRowsTakeTurns) {
  ToyOptions toy;
  toy.maxLogitRows = 2;
  auto engine = makeEngine(toy);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int32_t index = 0; index < 9; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy(somePrompt(4, index), 15), recorders.back()).isOk());
  }
  for (int32_t index = 0; index < 9; ++index) {
    recorders[index]->wait();
    EXPECT_EQ(recorders[index]->received, toyGreedy(somePrompt(4, index), 15)) << index;
  }
}

TEST(Engine, ADryPoolPreemptsTheYoungestAndLosesNoToken) {
  EngineOptions options = withThreads(2);
  options.kvBytes = 16 * 64; // 16 blocks, 256 positions: one full sequence or several short ones
  auto engine = makeEngine({}, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int32_t index = 0; index < 8; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy(somePrompt(20, index), 80), recorders.back()).isOk());
  }
  for (int32_t index = 0; index < 8; ++index) {
    recorders[index]->wait();
    EXPECT_EQ(recorders[index]->received, toyGreedy(somePrompt(20, index), 80)) << index;
  }
  EngineStats stats = engine->stats();
  EXPECT_GT(stats.numPreemptions, 0u);
  EXPECT_EQ(stats.numKvBlocks, 16u);
  EXPECT_EQ(stats.numKvBlocksUsed, 0u);
}

TEST(Engine, CancelFreesTheBlocksAndLeavesTheOthers) {
  ToyOptions toy;
  toy.maxPositions = 1 << 16; // so that the victim cannot end by itself before it is cancelled
  auto engine = makeEngine(toy);
  auto victim = std::make_shared<Recorder>(), other = std::make_shared<Recorder>();
  auto id = engine->submit(greedy(somePrompt(30, 1), kUntilContextEnds), victim);
  ASSERT_TRUE(id.isOk());
  ASSERT_TRUE(engine->submit(greedy(somePrompt(30, 2), 60), other).isOk());
  victim->waitForTokens(3);
  engine->cancel(*id);
  victim->wait();
  EXPECT_EQ(victim->reason, FinishReason::Cancelled);
  EXPECT_EQ(victim->code, StatusCode::Cancelled);
  other->wait();
  EXPECT_EQ(other->received, toyGreedy(somePrompt(30, 2), 60));
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
  engine->cancel(*id); // after its end: nothing happens
  EXPECT_TRUE(generate(*engine, greedy({1}, 1)).isOk());
  EXPECT_EQ(victim->numFinishes, 1);
}

TEST(Engine, TwoHundredCancelledInMidStreamLeakNothing) {
  auto engine = makeEngine();
  for (int32_t round = 0; round < 200; ++round) {
    auto recorder = std::make_shared<Recorder>();
    recorder->onToken = [&](RequestId id) { engine->cancel(id); };
    ASSERT_TRUE(engine->submit(greedy(somePrompt(1 + round % 50, round), 200), recorder).isOk());
    if (round % 8 == 7)
      recorder->wait();
    if (round == 199)
      recorder->wait();
  }
  auto last = generate(*engine, greedy({1, 2}, 3));
  ASSERT_TRUE(last.isOk());
  EXPECT_EQ(last->tokens, toyGreedy({1, 2}, 3));
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
}

TEST(Engine, ListenersMaySubmitFromTheirCallbacks) {
  auto engine = makeEngine();
  auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  std::atomic<bool> isSubmitted{false};
  first->onToken = [&](RequestId) {
    if (!isSubmitted.exchange(true)) {
      EXPECT_TRUE(engine->submit(greedy({9}, 4), second).isOk());
    }
  };
  ASSERT_TRUE(engine->submit(greedy({8}, 4), first).isOk());
  first->wait();
  second->wait();
  EXPECT_EQ(second->received, toyGreedy({9}, 4));
}

TEST(Engine, CachedAnswersAreTheColdOnes) {
  auto engine = makeEngine();
  std::vector<int32_t> prompt = somePrompt(100, 3), expected = toyGreedy(prompt, 20);
  auto cold = generate(*engine, greedy(prompt, 20));
  ASSERT_TRUE(cold.isOk());
  EXPECT_EQ(cold->tokens, expected);
  EXPECT_EQ(cold->usage.numCachedTokens, 0u);
  uint64_t numEvaluated = engine->stats().numTokensEvaluated;
  auto cached = generate(*engine, greedy(prompt, 20));
  ASSERT_TRUE(cached.isOk());
  EXPECT_EQ(cached->tokens, expected);
  EXPECT_EQ(cached->usage.numCachedTokens, 96u);
  EXPECT_EQ(engine->stats().numTokensEvaluated, numEvaluated + 4 + 19);
  // The next turn: the answer and a new question behind the old prompt.
  prompt.insert(prompt.end(), expected.begin(), expected.end());
  prompt.push_back(5);
  auto next = generate(*engine, greedy(prompt, 10));
  ASSERT_TRUE(next.isOk());
  EXPECT_EQ(next->tokens, toyGreedy(prompt, 10));
  EXPECT_EQ(next->usage.numCachedTokens, 112u) << "118 positions were fed: 7 full blocks";
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
  EXPECT_GT(engine->stats().numKvBlocksCached, 7u);
}

TEST(Engine, SaltsAndClearingKeepPromptsApart) {
  auto engine = makeEngine();
  auto numCached = [&](const char *salt) {
    Request request = greedy(somePrompt(50, 3), 2);
    request.cacheSalt = salt;
    auto completion = generate(*engine, std::move(request));
    EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(50, 3), 2));
    return completion->usage.numCachedTokens;
  };
  EXPECT_EQ(numCached("a"), 0u);
  EXPECT_EQ(numCached("a"), 48u);
  EXPECT_EQ(numCached("b"), 0u);
  EXPECT_EQ(numCached(""), 0u);
  engine->clearCache();
  EXPECT_EQ(numCached("a"), 0u);
}

TEST(Engine, ABurstOfOnePrefixComputesItOnce) {
  EngineOptions options = withThreads(2);
  options.kvBytes = 64 * 512;
  auto engine = makeEngine({}, options);
  std::vector<int32_t> prefix = somePrompt(192, 1);
  std::vector<std::shared_ptr<Recorder>> recorders;
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t index = 0; index < 16; ++index) {
    prompts.push_back(prefix);
    prompts.back().push_back(index);
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy(prompts.back(), 5), recorders.back()).isOk());
  }
  uint64_t numCached = 0;
  for (size_t index = 0; index < prompts.size(); ++index) {
    recorders[index]->wait();
    EXPECT_EQ(recorders[index]->received, toyGreedy(prompts[index], 5)) << index;
    numCached += recorders[index]->usage.numCachedTokens;
  }
  EXPECT_EQ(numCached, 15u * 192);
  EXPECT_EQ(engine->stats().numTokensEvaluated, 192u + 16 * (1 + 4));
  EXPECT_EQ(engine->stats().numCachedTokens, numCached);
}

TEST(Engine, EndsWhatIsPastItsDeadline) {
  ToyOptions toy;
  toy.maxPositions = 1 << 16;
  EngineOptions options = withThreads(2);
  options.maxSequences = 1;
  auto engine = makeEngine(toy, options);
  auto endless = std::make_shared<Recorder>(), queued = std::make_shared<Recorder>();
  Request request = greedy(somePrompt(5, 1), kUntilContextEnds);
  request.deadline = Clock::now() + std::chrono::milliseconds(50);
  ASSERT_TRUE(engine->submit(request, endless).isOk());
  request.deadline = Clock::now();
  ASSERT_TRUE(engine->submit(request, queued).isOk());
  queued->wait();
  EXPECT_EQ(queued->reason, FinishReason::Expired);
  EXPECT_EQ(queued->code, StatusCode::Unavailable);
  EXPECT_TRUE(queued->received.empty());
  endless->wait();
  EXPECT_EQ(endless->reason, FinishReason::Expired);
  EXPECT_EQ(engine->load().numUnfinished, 0u);
  EXPECT_EQ(engine->load().numQueuedTokens, 0u);
}

TEST(Engine, BoundsTheTokensThatWait) {
  ToyOptions toy;
  toy.maxPositions = 1 << 16;
  EngineOptions options = withThreads(1);
  options.maxSequences = 1;
  options.maxQueuedTokens = 100;
  auto engine = makeEngine(toy, options);
  auto endless = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  auto id = engine->submit(greedy({1}, kUntilContextEnds), endless);
  ASSERT_TRUE(id.isOk());
  endless->waitForTokens(2);
  // The queue is empty: even a prompt beyond the bound may wait.
  auto waitingId = engine->submit(greedy(somePrompt(150, 1), 1), waiting);
  ASSERT_TRUE(waitingId.isOk());
  EXPECT_EQ(engine->load().numQueuedTokens, 150u);
  auto refused = engine->submit(greedy({1}, 1), std::make_shared<Recorder>());
  ASSERT_FALSE(refused.isOk());
  EXPECT_EQ(refused.status().code(), StatusCode::ResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("prompts of 150 tokens wait"));
  EXPECT_EQ(engine->stats().numRefused, 1u);
  EXPECT_GT(engine->load().tokensPerSecond, 0.0);
  engine->cancel(*waitingId);
  waiting->wait();
  EXPECT_EQ(engine->load().numQueuedTokens, 0u);
  engine->cancel(*id);
  endless->wait();
}

TEST(Engine, MeasuresHowLongThingsTake) {
  auto engine = makeEngine();
  for (int count = 0; count < 3; ++count)
    ASSERT_TRUE(generate(*engine, greedy(somePrompt(20, count), 8)).isOk());
  EngineStats stats = engine->stats();
  EXPECT_EQ(stats.queueTime.numObserved, 3u);
  EXPECT_EQ(stats.firstToken.numObserved, 3u);
  EXPECT_EQ(stats.interToken.numObserved, 3u * 7);
  EXPECT_EQ(stats.wholeTime.numObserved, 3u);
  EXPECT_GT(stats.wholeTime.sumSeconds, stats.firstToken.sumSeconds);
  EXPECT_GE(stats.busySeconds, stats.stepSeconds);
}

TEST(Engine, EndsWithTheContext) {
  ToyOptions toy;
  toy.maxPositions = 40;
  auto engine = makeEngine(toy);
  auto completion = generate(*engine, greedy(somePrompt(30, 1), kUntilContextEnds));
  ASSERT_TRUE(completion.isOk());
  EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(30, 1), 10));
  EXPECT_EQ(completion->reason, FinishReason::Length);
  auto full = generate(*engine, greedy(somePrompt(40, 1), 5));
  ASSERT_TRUE(full.isOk());
  EXPECT_TRUE(full->tokens.empty());
}

TEST(Engine, RefusesWhatCannotBe) {
  ToyOptions toy;
  toy.maxPositions = 40;
  auto engine = makeEngine(toy);
  auto expectRefused = [&](Request request, StatusCode code, const char *text) {
    auto recorder = std::make_shared<Recorder>();
    auto id = engine->submit(std::move(request), recorder);
    ASSERT_FALSE(id.isOk()) << text;
    EXPECT_EQ(id.status().code(), code) << text;
    EXPECT_THAT(std::string(id.status().message()), HasSubstr(text));
    EXPECT_EQ(recorder->numFinishes, 0);
  };
  expectRefused(greedy({}, 1), StatusCode::InvalidArgument, "no token");
  expectRefused(greedy({97}, 1), StatusCode::InvalidArgument, "token 97");
  expectRefused(greedy({-1}, 1), StatusCode::InvalidArgument, "token -1");
  expectRefused(greedy(somePrompt(41, 1), 1), StatusCode::OutOfRange, "41 tokens, the context holds 40");
  Request hot = greedy({1}, 1);
  hot.sampling.temperature = 1e9f;
  expectRefused(hot, StatusCode::InvalidArgument, "temperature");
  Request wide = greedy({1}, 1);
  wide.numTopLogprobs = 21;
  expectRefused(wide, StatusCode::InvalidArgument, "at most 20");
  Request stranger = greedy({1}, 1);
  stranger.client = kMaxClients;
  expectRefused(stranger, StatusCode::InvalidArgument, "client 4096");
  Request keeper = greedy({1}, 1);
  keeper.keepSeconds = kMaxKeepSeconds + 1;
  expectRefused(keeper, StatusCode::InvalidArgument, "at most 2592000");
}

TEST(Engine, RefusesMoreThanItsQueueHolds) {
  EngineOptions options = withThreads(1);
  options.maxSequences = 1;
  options.maxQueued = 2;
  auto engine = makeEngine({}, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int index = 0; index < 3; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy({1}, 200), recorders.back()).isOk());
  }
  // All three may end before the fourth comes; until one does, it is refused.
  auto fourth = engine->submit(greedy({1}, 1), std::make_shared<Recorder>());
  if (!fourth.isOk()) {
    EXPECT_EQ(fourth.status().code(), StatusCode::ResourceExhausted);
    EXPECT_THAT(std::string(fourth.status().message()), HasSubstr("the queue holds 2"));
  }
  for (auto &recorder : recorders)
    recorder->wait();
}

TEST(Engine, StopsAtAStopTokenWithoutHandingItOut) {
  auto engine = makeEngine();
  std::vector<int32_t> prompt = somePrompt(10, 1), free = toyGreedy(prompt, 10);
  Request request = greedy(prompt, 10);
  request.stopTokens = {free[4]};
  size_t firstStop = static_cast<size_t>(std::find(free.begin(), free.end(), free[4]) - free.begin());
  auto completion = generate(*engine, request);
  ASSERT_TRUE(completion.isOk());
  EXPECT_EQ(completion->reason, FinishReason::Stop);
  EXPECT_EQ(completion->tokens,
            std::vector<int32_t>(free.begin(), free.begin() + static_cast<std::ptrdiff_t>(firstStop)));
  // It is told apart, with what it was as a token like others.
  Request likely = greedy(prompt, 10);
  likely.wantLogprobs = true;
  auto free10 = generate(*engine, likely);
  likely.stopTokens = {free[4]};
  auto recorder = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->submit(likely, recorder).isOk());
  recorder->wait();
  ASSERT_EQ(recorder->stops.size(), 1u);
  EXPECT_EQ(recorder->stops[0], std::pair(free[4], free10->logprobs[firstStop]));
  request.ignoreStop = true;
  EXPECT_EQ(generate(*engine, request)->tokens, free);
}

TEST(Engine, GivesTheLogitsOfEveryEvaluatedPosition) {
  auto engine = makeEngine();
  std::vector<int32_t> tokens = somePrompt(50, 2);
  Request request = greedy(tokens, 5);
  request.wantLogits = true;
  auto completion = generate(*engine, request);
  ASSERT_TRUE(completion.isOk());
  ASSERT_EQ(completion->numLogitRows, 54u); // the last token is never fed
  tokens.insert(tokens.end(), completion->tokens.begin(), completion->tokens.end());
  for (size_t position = 0; position < 54; ++position) {
    std::vector<float> expected =
        toyLogits({tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(position) + 1});
    std::vector<float> row(completion->logits.begin() + static_cast<std::ptrdiff_t>(position * 97),
                           completion->logits.begin() + static_cast<std::ptrdiff_t>(position * 97 + 97));
    EXPECT_EQ(row, expected) << position;
  }
}

float toyLogprob(const std::vector<int32_t> &tokens, size_t position) {
  std::vector<float> logits =
      toyLogits({tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(position)});
  return static_cast<float>(logits[static_cast<size_t>(tokens[position])] - logSumExp(logits));
}

TEST(Engine, ScoresEveryTokenOfATextLongerThanTheContext) {
  ToyOptions toy;
  toy.maxPositions = 64;
  auto engine = makeEngine(toy);
  for (size_t length : {1, 2, 64}) {
    std::vector<int32_t> text = somePrompt(length, 4);
    auto scores = score(*engine, text);
    ASSERT_TRUE(scores.isOk()) << scores.status().message();
    ASSERT_EQ(scores->size(), length);
    for (size_t position = 1; position < length; ++position)
      EXPECT_NEAR((*scores)[position], toyLogprob(text, position), 1e-5) << position;
  }
  std::vector<int32_t> text = somePrompt(200, 4);
  auto scores = score(*engine, text);
  ASSERT_EQ(scores->size(), 200u);
  // The second window begins half a context before position 64.
  std::vector<int32_t> window(text.begin() + 32, text.begin() + 96);
  EXPECT_NEAR((*scores)[64], toyLogprob(window, 32), 1e-5);
}

TEST(Engine, LogprobsAreTheModelsOwnWhateverThePenalty) {
  auto engine = makeEngine();
  std::vector<int32_t> tokens = somePrompt(20, 6);
  Request request = greedy(tokens, 6);
  request.numTopLogprobs = 3;
  request.sampling.repetitionPenalty = 1.8f;
  request.sampling.temperature = 0.7f;
  auto completion = generate(*engine, request);
  ASSERT_TRUE(completion.isOk());
  ASSERT_EQ(completion->logprobs.size(), 6u);
  tokens.insert(tokens.end(), completion->tokens.begin(), completion->tokens.end());
  for (size_t index = 0; index < 6; ++index)
    EXPECT_NEAR(completion->logprobs[index], toyLogprob(tokens, 20 + index), 1e-5);
}

// Allows one token at a time: 3, 5, 7, ...
class Dictated final : public TokenMask {
public:
  Status fill(std::span<uint32_t> words) override {
    EXPECT_GE(words.size() * 32, static_cast<size_t>(next) + 1) << "a bit for every token";
    std::fill(words.begin(), words.end(), 0);
    words[static_cast<size_t>(next) / 32] |= uint32_t{1} << (next % 32);
    return {};
  }
  Status accept(int32_t token) override {
    EXPECT_EQ(token, next);
    next += 2;
    return next > 13 ? failedPrecondition("enough") : Status();
  }
  int32_t next = 3;
};

TEST(Engine, MasksDecideTokenByTokenAndEndOnlyTheirOwnSequence) {
  auto engine = makeEngine();
  Request request = greedy(somePrompt(20, 6), 4);
  request.rules.mask = std::make_shared<Dictated>();
  auto masked = generate(*engine, request);
  ASSERT_TRUE(masked.isOk());
  EXPECT_EQ(masked->tokens, (std::vector<int32_t>{3, 5, 7, 9}));
  request.rules.mask = std::make_shared<Dictated>();
  request.maxTokens = 30;
  auto failed = generate(*engine, request);
  EXPECT_EQ(failed.status().code(), StatusCode::FailedPrecondition);
  EXPECT_TRUE(generate(*engine, greedy(somePrompt(20, 6), 4)).isOk());
}

TEST(Engine, SampledTokensDoNotDependOnCompany) {
  Request request = greedy(somePrompt(20, 1), 30);
  request.sampling = {0.9f, 20, 0.95f, 0.01f, 1.1f, 77};
  auto alone = generate(*makeEngine(), request);
  ASSERT_TRUE(alone.isOk());
  EngineOptions options = withThreads(2);
  options.kvBytes = 20 * 64; // so small that it is also preempted
  auto engine = makeEngine({}, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int index = 0; index < 10; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(request, recorders.back()).isOk());
  }
  for (auto &recorder : recorders) {
    recorder->wait();
    EXPECT_EQ(recorder->received, alone->tokens);
  }
}

TEST(Engine, ProgramsWithoutACacheRecompute) {
  ToyOptions toy;
  toy.recompute = true;
  toy.maxLogitRows = 4;
  auto engine = makeEngine(toy);
  EXPECT_EQ(engine->contextTokens(), 32u); // a whole sequence must fit a step
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int32_t index = 0; index < 4; ++index) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy(somePrompt(10, index), 15), recorders.back()).isOk());
  }
  for (int32_t index = 0; index < 4; ++index) {
    recorders[index]->wait();
    EXPECT_EQ(recorders[index]->received, toyGreedy(somePrompt(10, index), 15));
  }
  Request request = greedy(somePrompt(11, 1), 3);
  request.wantLogits = true;
  auto completion = generate(*engine, request);
  ASSERT_TRUE(completion.isOk());
  EXPECT_EQ(completion->numLogitRows, 13u);
  EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(11, 1), 3));
  auto scores = score(*engine, somePrompt(20, 1));
  ASSERT_EQ(scores->size(), 20u);
  EXPECT_NEAR((*scores)[19], toyLogprob(somePrompt(20, 1), 19), 1e-5);
}

TEST(Engine, PicksTheVariantThatIsGrantedAndAskedFor) {
  ToyOptions toy;
  toy.hasOtherVariant = true;
  EXPECT_EQ(makeEngine(toy)->executable().isa, "other");
  EngineOptions options = withThreads(1);
  options.isa = "baseline";
  auto forced = makeEngine(toy, options);
  EXPECT_EQ(forced->executable().isa, "baseline");
  EXPECT_EQ(generate(*forced, greedy({1, 2}, 5))->tokens, toyGreedy({1, 2}, 5));
  EXPECT_NE(generate(*makeEngine(toy), greedy({1, 2}, 5))->tokens, toyGreedy({1, 2}, 5));
  toy.extraFeatures = {"warp-drive"};
  EXPECT_EQ(makeEngine(toy)->executable().isa, "baseline");
  options.isa = "other";
  auto refused = Engine::create(openToyProgram(toy), options);
  EXPECT_EQ(refused.status().code(), StatusCode::Unavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("missing warp-drive"));
}

TEST(Engine, RefusesOptionsBeyondTheProgram) {
  auto program = openToyProgram();
  auto codeOf = [&](const EngineOptions &options) {
    return Engine::create(program, options).status().code();
  };
  EngineOptions options;
  options.maxTokensPerStep = 33;
  EXPECT_EQ(codeOf(options), StatusCode::InvalidArgument);
  options = {};
  options.maxContextTokens = 257;
  EXPECT_EQ(codeOf(options), StatusCode::InvalidArgument);
  options = {};
  options.kvBytes = 63;
  EXPECT_EQ(codeOf(options), StatusCode::InvalidArgument);
  options = {};
  options.maxSequences = 0;
  EXPECT_EQ(codeOf(options), StatusCode::InvalidArgument);
}

TEST(Engine, EndingItTellsEveryListener) {
  auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  {
    EngineOptions options = withThreads(2);
    options.maxSequences = 1;
    ToyOptions toy;
    toy.maxPositions = 1 << 16;
    auto engine = makeEngine(toy, options);
    ASSERT_TRUE(engine->submit(greedy({1}, kUntilContextEnds), running).isOk());
    ASSERT_TRUE(engine->submit(greedy({2}, kUntilContextEnds), waiting).isOk());
    running->waitForTokens(1);
  }
  EXPECT_EQ(running->numFinishes, 1);
  EXPECT_EQ(waiting->numFinishes, 1);
  EXPECT_EQ(waiting->reason, FinishReason::Cancelled);
}

TEST(Bench, TimesStepsAndCountsShared) {
  EngineOptions options = withThreads(2);
  BenchOptions run;
  run.promptTokens = 40;
  run.generateTokens = 10;
  run.numSequences = 3;
  run.contextTokens = 20;
  run.repetitions = 3;
  auto result = bench(openToyProgram(), options, run);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  EXPECT_GT(result->prefill.median, 0);
  EXPECT_LE(result->decode.min, result->decode.median);
  EXPECT_LE(result->decode.median, result->decode.max);
  EXPECT_GE(result->numSharedSteps, 40u); // every decode step holds all three
  EXPECT_EQ(result->isa, "baseline");
  run.contextTokens = 1000;
  EXPECT_EQ(bench(openToyProgram(), options, run).status().code(), StatusCode::OutOfRange);
  run = {};
  run.repetitions = 0;
  EXPECT_EQ(bench(openToyProgram(), options, run).status().code(), StatusCode::InvalidArgument);
}

} // namespace
} // namespace girih::engine
