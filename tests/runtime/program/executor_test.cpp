// SPDX-License-Identifier: Apache-2.0
// The executor over the toy model: entries by size, and no batch beyond the program's bounds reaches its
// code.
#include "runtime/program/executor.h"

#include "tests/runtime/program/toy_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::program {
namespace {

using girih::testing::openToyProgram;
using girih::testing::toyLogits;
using ::testing::ElementsAreArray;

std::unique_ptr<Executor> makeExecutor(uint32_t numKvBlocks = 4, const girih::testing::ToyOptions &toy = {}) {
  ExecutorOptions options;
  options.device.numThreads = 2;
  options.numKvBlocks = numKvBlocks;
  auto executor = Executor::create(openToyProgram(toy), options);
  GIRIH_CHECK(executor.isOk());
  return std::move(executor).value();
}

TEST(Executor, RunsSequencesSideBySide) {
  auto executor = makeExecutor();
  StepBatch batch(32, 8, 16, 2);
  std::vector<int32_t> first = {1, 2, 3}, second(20, 5), firstBlocks = {3}, secondBlocks = {0, 2};
  batch.addSequence(first, 0, firstBlocks, 1);
  batch.addSequence(std::span<const int32_t>(second).first(12), 0, secondBlocks, 0);
  ASSERT_TRUE(executor->run(batch).isOk());
  EXPECT_THAT(executor->logits(0), ElementsAreArray(toyLogits(first)));
  // The second goes on in a step of its own, from what the first step put into its blocks.
  batch.clear();
  batch.addSequence(std::span<const int32_t>(second).subspan(12), 12, secondBlocks, 2);
  ASSERT_TRUE(executor->run(batch).isOk());
  EXPECT_EQ(batch.numLogitRows(), 2u);
  EXPECT_THAT(executor->logits(1), ElementsAreArray(toyLogits(second)));
  second.pop_back();
  EXPECT_THAT(executor->logits(0), ElementsAreArray(toyLogits(second)));
}

TEST(Executor, GivesHiddenStatesWhereAStepAsksForThem) {
  girih::testing::ToyOptions toy;
  toy.givesHidden = true;
  toy.vocabSize = 20; // rows of hidden states are longer than rows of logits
  auto executor = makeExecutor(4, toy);
  StepBatch batch(32, 8, 16, 2);
  std::vector<int32_t> tokens = {1, 2, 3}, blocks = {3};
  batch.clear(RowKind::Hidden);
  batch.addSequence(std::span<const int32_t>(tokens).first(2), 0, blocks, 2);
  ASSERT_TRUE(executor->run(batch).isOk());
  EXPECT_THAT(executor->hidden(0, 1), ElementsAreArray(girih::testing::toyHidden({1}, toy)));
  EXPECT_THAT(executor->hidden(1, 1), ElementsAreArray(girih::testing::toyHidden({1, 2}, toy)));
  // The cache is one for both kinds of steps.
  batch.clear();
  batch.addSequence(std::span<const int32_t>(tokens).subspan(2), 2, blocks, 1);
  ASSERT_TRUE(executor->run(batch).isOk());
  EXPECT_THAT(executor->logits(0), ElementsAreArray(toyLogits(tokens, toy)));
}

TEST(Executor, RefusesHiddenStatesThatAProgramDoesNotGive) {
  auto executor = makeExecutor();
  StepBatch batch(32, 8, 16, 2);
  std::vector<int32_t> tokens = {1}, blocks = {0};
  batch.clear(RowKind::Hidden);
  batch.addSequence(tokens, 0, blocks, 1);
  EXPECT_EQ(executor->run(batch).code(), StatusCode::Internal);
}

TEST(Executor, RefusesBatchesBeyondTheProgram) {
  auto executor = makeExecutor();
  std::vector<int32_t> blocks = {0}, foreignBlocks = {4}, tokens = {1}, foreignToken = {97}, negative = {-1};
  StepBatch batch(64, 64, 64, 1);
  EXPECT_EQ(executor->run(batch).code(), StatusCode::Internal) << "empty";
  auto codeOf = [&](const std::vector<int32_t> &some, uint32_t position, const std::vector<int32_t> &in) {
    batch.clear();
    batch.addSequence(some, position, in, 1);
    return executor->run(batch).code();
  };
  EXPECT_EQ(codeOf(tokens, 0, blocks), StatusCode::Ok);
  EXPECT_EQ(codeOf(foreignToken, 0, blocks), StatusCode::Internal);
  EXPECT_EQ(codeOf(negative, 0, blocks), StatusCode::Internal);
  EXPECT_EQ(codeOf(tokens, 0, foreignBlocks), StatusCode::Internal);
  batch.clear();
  for (int sequence = 0; sequence < 33; ++sequence)
    batch.addSequence(tokens, 0, blocks, 0);
  EXPECT_EQ(executor->run(batch).code(), StatusCode::Internal) << "33 tokens, the program takes 32";
  batch.clear();
  for (int sequence = 0; sequence < 17; ++sequence)
    batch.addSequence(tokens, 0, blocks, 1);
  EXPECT_EQ(executor->run(batch).code(), StatusCode::Internal) << "17 rows, the program gives 16";
}

TEST(Executor, SaysWhatIsWrongWithTheCode) {
  girih::testing::ToyOptions toy;
  toy.imagePath = std::string(TOY_IMAGE_FOLDER) + "/undefined_symbol.so";
  auto executor = Executor::create(openToyProgram(toy), {});
  ASSERT_FALSE(executor.isOk());
  EXPECT_EQ(executor.status().code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(executor.status().message()), ::testing::HasSubstr("loading the code of"));
}

TEST(StepBatchDeathTest, OverfillingIsABug) {
  StepBatch batch(2, 2, 1, 1);
  std::vector<int32_t> three = {1, 2, 3}, one = {1}, blocks = {0};
  EXPECT_DEATH(batch.addSequence(three, 0, blocks, 0), "internal error");
  EXPECT_DEATH(batch.addSequence(one, 16, blocks, 0), "internal error") << "position 16 is in a second block";
}

} // namespace
} // namespace girih::program
