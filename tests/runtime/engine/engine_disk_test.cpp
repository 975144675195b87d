// SPDX-License-Identifier: Apache-2.0
// The engine's tier on disk: a restart finds what was computed, and whatever happens to the files costs time alone.
#include "tests/runtime/engine/engine_rig.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::engine {
namespace {

using girih::testing::toyGreedy;
using girih::testing::ToyOptions;
using ::testing::HasSubstr;

// An engine whose KV outlives it.
class EngineOnDisk : public ::testing::Test {
protected:
  std::unique_ptr<Engine> open() {
    ToyOptions toy;
    toy.maxPositions = 1024;
    EngineOptions options = withThreads(2);
    options.cacheFolder = folder.file("kv");
    options.kvBytes = 64 * 1024; // 1024 blocks: an eighth may wait to be written
    return makeEngine(toy, options);
  }
  // The prompt's answer, and how much of it came from a cache.
  static std::pair<std::vector<int32_t>, uint32_t> ask(Engine &engine) {
    auto completion = generate(engine, greedy(somePrompt(600, 3), 10));
    EXPECT_TRUE(completion.isOk());
    return {completion->tokens, completion->usage.numCachedTokens};
  }
  std::vector<std::string> files() const {
    std::vector<std::string> found;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(folder.path))
      if (entry.is_regular_file())
        found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
  girih::testing::TemporaryFolder folder;
  const std::vector<int32_t> expected = toyGreedy(somePrompt(600, 3), 10);
};

TEST_F(EngineOnDisk, ARestartFindsThePrompt) {
  EXPECT_EQ(ask(*open()), std::pair(expected, 0u));
  EXPECT_EQ(files().size(), 38u) << "609 positions were fed: the full blocks, answer included";
  auto engine = open();
  EXPECT_EQ(ask(*engine), std::pair(expected, 592u));
  EXPECT_EQ(engine->stats().disk.numTokensLoaded, 592u);
  EXPECT_EQ(engine->stats().disk.numFiles, 38u);
  EXPECT_EQ(ask(*engine), std::pair(expected, 592u));
  EXPECT_EQ(engine->stats().disk.numTokensLoaded, 592u) << "the second time from memory";
}

// Forgetting reaches the pool and the files, up to where other texts go on.
TEST_F(EngineOnDisk, WhatIsForgottenIsNowhere) {
  auto engine = open();
  ask(*engine);
  Request longer = greedy(somePrompt(600, 3), 10);
  longer.promptTokens.insert(longer.promptTokens.end(), expected.begin(), expected.end());
  longer.promptTokens.resize(640, 5);
  auto forget = [&](const Request &request, uint32_t numKept) {
    std::promise<void> done;
    engine->forget(request, numKept, [&] { done.set_value(); });
    done.get_future().wait();
  };
  auto numCached = [&](Request request) {
    request.keepOnDisk = false;
    return generate(*engine, std::move(request))->usage.numCachedTokens;
  };
  ASSERT_TRUE(generate(*engine, longer).isOk());
  Request first = greedy(somePrompt(600, 3), 10);
  first.promptTokens.insert(first.promptTokens.end(), expected.begin(), expected.end());
  forget(longer, 610);
  EXPECT_EQ(files().size(), 38u) << "what the first text had of it";
  EXPECT_EQ(engine->stats().disk.numErased, 2u);
  EXPECT_EQ(numCached(longer), 608u);
  forget(longer, 610);
  forget(first, 0);
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(numCached(first), 0u);
  EXPECT_EQ(engine->stats().numKvBlocksUsed, 0u);
}

TEST_F(EngineOnDisk, WhatIsNotToBeKeptThereIsNotWritten) {
  auto engine = open();
  Request fleeting = greedy(somePrompt(600, 3), 10), brief = greedy(somePrompt(40, 4), 1);
  fleeting.keepOnDisk = false;
  ASSERT_TRUE(generate(*engine, fleeting).isOk());
  EXPECT_TRUE(files().empty());
  brief.keepSeconds = 60; // however short: it was asked for
  ASSERT_TRUE(generate(*engine, brief).isOk());
  engine.reset();
  EXPECT_EQ(files().size(), 2u);
}

// The beginning that belongs to all is computed once; what follows it is everybody's own.
TEST_F(EngineOnDisk, SharesWhatIsNobodysOwn) {
  auto engine = open();
  auto cachedFor = [&](std::string salt, uint32_t numShared) {
    Request request = greedy(somePrompt(100, 3), 10);
    request.cacheSalt = std::move(salt);
    request.sharedSalt = "all";
    request.numSharedTokens = numShared;
    auto completion = generate(*engine, std::move(request));
    EXPECT_EQ(completion->tokens, toyGreedy(somePrompt(100, 3), 10));
    return completion->usage.numCachedTokens;
  };
  EXPECT_EQ(cachedFor("one", 70), 0u);
  EXPECT_EQ(cachedFor("two", 70), 64u);
  EXPECT_EQ(cachedFor("two", 70), 96u);
  EXPECT_EQ(cachedFor("one", 0), 0u) << "who does not name it has it alone";
  EXPECT_GT(engine->stats().retainedByteSeconds.size(), 0u);
}

TEST_F(EngineOnDisk, ABurstAfterARestartLoadsOnce) {
  ask(*open());
  auto engine = open();
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int count = 0; count < 16; ++count) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(engine->submit(greedy(somePrompt(600, 3), 10), recorders.back()).isOk());
  }
  for (auto &recorder : recorders) {
    recorder->wait();
    EXPECT_EQ(recorder->received, expected);
  }
  EXPECT_EQ(engine->stats().disk.numTokensLoaded, 592u);
}

TEST_F(EngineOnDisk, DamagedFilesCostTimeAndNothingElse) {
  ask(*open());
  std::vector<std::string> paths = files();
  for (size_t index = 0; index < paths.size(); ++index) {
    std::fstream file(paths[index], std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(index * 31 % 190));
    file.put(static_cast<char>(file.peek() ^ 0x10));
  }
  auto engine = open();
  auto [tokens, numCached] = ask(*engine);
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(numCached, 0u);
  EXPECT_EQ(engine->stats().disk.numDamaged, 1u) << "the first one of the chain is enough to know";
  EXPECT_EQ(ask(*engine).first, expected);
}

TEST_F(EngineOnDisk, OneDamagedFileInTheMiddleKeepsWhatIsBeforeIt) {
  ask(*open());
  ASSERT_EQ(files().size(), 38u);
  // The chain's order is not in the names: whichever it is, the rest is computed.
  std::filesystem::resize_file(files()[20], 10);
  auto engine = open();
  EXPECT_EQ(ask(*engine).first, expected);
  EXPECT_EQ(ask(*engine), std::pair(expected, 592u)) << "written and found again";
}

TEST_F(EngineOnDisk, AFolderThatCannotBeUsedIsTold) {
  std::ofstream(folder.file("kv")) << "a file";
  auto engine = open();
  EXPECT_EQ(engine->diskStatus().code(), StatusCode::Unavailable);
  EXPECT_THAT(std::string(engine->diskStatus().message()), HasSubstr("cannot make the folder"));
  EXPECT_EQ(ask(*engine), std::pair(expected, 0u));
}

TEST_F(EngineOnDisk, AFolderThatVanishesCostsNothing) {
  auto engine = open();
  EXPECT_TRUE(engine->diskStatus().isOk());
  std::filesystem::remove_all(folder.file("kv"));
  EXPECT_EQ(ask(*engine).first, expected);
  engine->clearCache();
  EXPECT_EQ(ask(*engine).first, expected);
}

} // namespace
} // namespace girih::engine
