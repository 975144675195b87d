// SPDX-License-Identifier: Apache-2.0
// The kernel bench over the toy model, whose step meets twice, and the judgement of predictions.
#include "runtime/engine/kernel_bench.h"

#include "tests/runtime/program/toy_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::engine {
namespace {

using girih::testing::openToyProgram;
using girih::testing::ToyOptions;
using ::testing::HasSubstr;

// A dispatch of both entries of the toy.
void addDispatch(ToyOptions &toy, const std::string &name, uint32_t repetitions = 1, uint32_t loop = 0) {
  for (const char *entry : {"girih_step_toy", "girih_step_toy_small"}) {
    program::DispatchReport report;
    report.name = name;
    report.isa = "baseline";
    report.entry = entry;
    report.predictedSeconds = 1e-6;
    report.repetitions = repetitions;
    report.loop = loop;
    toy.dispatches.push_back(report);
  }
}

EngineOptions twoThreads() {
  EngineOptions options;
  options.numThreads = 2;
  return options;
}

TEST(KernelBench, TimesEachDispatchOfEachEntry) {
  ToyOptions toy;
  addDispatch(toy, "store");
  addDispatch(toy, "fold");
  auto result = benchKernels(openToyProgram(toy), twoThreads(), {.contextTokens = 20, .repetitions = 3});
  ASSERT_TRUE(result.isOk()) << result.status().message();
  EXPECT_EQ(result->numThreads, 2);
  ASSERT_EQ(result->steps.size(), 2u);
  EXPECT_EQ(result->steps[0].numTokens, 32u);
  EXPECT_EQ(result->steps[0].numSequences, 1u);
  EXPECT_EQ(result->steps[1].numTokens, 4u);
  EXPECT_EQ(result->steps[1].numSequences, 4u);
  for (const StepProfile &step : result->steps) {
    ASSERT_EQ(step.kernels.size(), 2u);
    EXPECT_EQ(step.kernels[1].report.name, "fold");
    for (const KernelTime &kernel : step.kernels) {
      EXPECT_GT(kernel.min, 0.0);
      EXPECT_LE(kernel.min, kernel.median);
      EXPECT_LE(kernel.median, kernel.max);
      EXPECT_LE(kernel.min, step.seconds);
    }
  }
}

TEST(KernelBench, ALoopOfLayersRunsItsRowsTogether) {
  ToyOptions toy;
  addDispatch(toy, "layer", /*repetitions=*/2, /*loop=*/1);
  auto result = benchKernels(openToyProgram(toy), twoThreads(), {.repetitions = 1});
  ASSERT_TRUE(result.isOk()) << result.status().message();
  EXPECT_EQ(result->steps[0].kernels.size(), 1u);
}

TEST(KernelBench, RefusesAReportThatIsNotOfThisCode) {
  ToyOptions toy;
  auto result = benchKernels(openToyProgram(toy), twoThreads(), {});
  EXPECT_EQ(result.status().code(), StatusCode::FailedPrecondition);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("names no dispatch"));
  for (const char *name : {"one", "two", "three"})
    addDispatch(toy, name);
  result = benchKernels(openToyProgram(toy), twoThreads(), {});
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("ran 2 dispatches, the file states 3"));
  addDispatch(toy, "many", ~0u, 1);
  result = benchKernels(openToyProgram(toy), twoThreads(), {});
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("states more than 65536"));
  result = benchKernels(openToyProgram(toy), twoThreads(), {.contextTokens = 256});
  EXPECT_EQ(result.status().code(), StatusCode::OutOfRange);
  ToyOptions whole;
  addDispatch(whole, "store");
  addDispatch(whole, "fold");
  auto cut = benchKernels(openToyProgram(whole), twoThreads(), {.contextTokens = 246, .repetitions = 1});
  ASSERT_TRUE(cut.isOk()) << cut.status().message();
  EXPECT_EQ(cut->steps[0].numTokens, 10u);  // all that is left of 256 positions
  EXPECT_EQ(benchKernels(openToyProgram(whole), twoThreads(), {.contextTokens = 253, .repetitions = 1})->steps.size(), 1u);
  ToyOptions stateless;
  stateless.recompute = true;
  EXPECT_EQ(benchKernels(openToyProgram(stateless), twoThreads(), {}).status().code(),
            StatusCode::Unimplemented);
}

StepProfile profileOf(const std::vector<std::pair<double, double>> &predictedAndMeasured) {
  StepProfile step;
  for (auto [predicted, measured] : predictedAndMeasured) {
    KernelTime kernel;
    kernel.report.predictedSeconds = predicted;
    kernel.median = measured;
    step.kernels.push_back(kernel);
  }
  return step;
}

TEST(KernelBench, JudgesPredictionsByMedianErrorAndOrder) {
  PredictionQuality good = judgePredictions(profileOf({{4.0, 5.0}, {3.0, 4.0}, {2.0, 2.0}, {0.1, 1.0}}));
  EXPECT_DOUBLE_EQ(good.medianError, 0.225); // of 0.2, 0.25, 0 and 0.9
  EXPECT_TRUE(good.isOrderRight);
  EXPECT_FALSE(judgePredictions(profileOf({{4.0, 5.0}, {3.0, 6.0}, {2.0, 2.0}})).isOrderRight);
  StepProfile layers = profileOf({{4.0, 4.0}, {1.0, 1.0}, {0.5, 0.5}});
  layers.kernels[1].report.repetitions = 30;
  EXPECT_TRUE(judgePredictions(layers).isOrderRight);
  layers.kernels[1].report.predictedSeconds = 0.1; // 30 of it are less than the first
  EXPECT_FALSE(judgePredictions(layers).isOrderRight);
  EXPECT_EQ(judgePredictions({}).medianError, 0.0);
}

} // namespace
} // namespace girih::engine
