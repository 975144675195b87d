// SPDX-License-Identifier: Apache-2.0
// StepPacer on a machine whose steps cost a fixed time and one for each token.
#include "runtime/engine/step_pacer.h"

#include <gtest/gtest.h>

namespace girih::engine {
namespace {

double secondsOf(uint32_t numTokens) { return 0.002 + 0.0002 * numTokens; }

TEST(StepPacer, FindsTheLargestStepWithinTheBound) {
  StepPacer pacer(4.0, 512);
  EXPECT_EQ(pacer.promptTokensBeside(4), 512u) << "nothing is known yet";
  pacer.observe(4, 0, secondsOf(4)); // 2.8 ms: a mixed step may take 11.2 ms
  uint32_t allowed = 512;
  for (int count = 0; count < 200; ++count) {
    pacer.observe(4, allowed, secondsOf(4 + allowed));
    allowed = pacer.promptTokensBeside(4);
  }
  EXPECT_LE(secondsOf(4 + allowed), 4.0 * secondsOf(4));
  EXPECT_GE(allowed, StepPacer::kLeastPromptTokens);
}

TEST(StepPacer, GivesRoomWhereStepsAreCheap) {
  StepPacer pacer(3.0, 512);
  pacer.observe(4, 0, 0.010);
  for (uint32_t size : {32u, 64u, 128u, 256u, 512u})
    pacer.observe(4, size - 4, 0.010 + 0.0001 * size);
  EXPECT_EQ(pacer.promptTokensBeside(4), 128u - 4) << "256 would take 35.6 ms, more than 30";
}

TEST(StepPacer, PromptsAlwaysMove) {
  StepPacer pacer(2.0, 512);
  pacer.observe(1, 0, 0.001);
  for (uint32_t size : {32u, 64u, 512u})
    pacer.observe(1, size - 1, 1.0);
  EXPECT_EQ(pacer.promptTokensBeside(1), StepPacer::kLeastPromptTokens);
}

TEST(StepPacer, BoundsNothingWithoutStreamsOrWhenToldNotTo) {
  StepPacer pacer(2.0, 512), free(0.0, 512);
  for (StepPacer *each : {&pacer, &free}) {
    each->observe(1, 0, 0.001);
    each->observe(0, 512, 1.0);
  }
  EXPECT_EQ(pacer.promptTokensBeside(0), 512u);
  EXPECT_EQ(free.promptTokensBeside(8), 512u);
}

} // namespace
} // namespace girih::engine
