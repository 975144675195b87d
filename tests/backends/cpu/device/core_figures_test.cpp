// SPDX-License-Identifier: Apache-2.0
// What one core does in a cycle follows from its datapath's width; nothing is measured.
#include "backends/cpu/device/core_figures.h"

#include <gtest/gtest.h>

namespace girih::cpu {
namespace {

// Four pipes, two of which multiply, half as wide as the widest registers.
CoreFigures withDatapath(int64_t bits) {
  CoreFigures core = coreFigures(Core::Here);
  core.narrowPerCycle = core.widePerCycle = 4;
  core.multipliesPerCycle = 2;
  core.datapathBits = bits;
  return core;
}

TEST(CoreFigures, WiderRegistersPassInParts) {
  CoreFigures half = withDatapath(256), whole = withDatapath(512);
  EXPECT_EQ(half.vectorsPerCycle(256), 4);
  EXPECT_EQ(half.vectorsPerCycle(512), 2);
  EXPECT_EQ(half.multipliesOf(256), 2);
  EXPECT_EQ(half.multipliesOf(512), 1);
  EXPECT_EQ(whole.vectorsPerCycle(512), 4);
  EXPECT_EQ(whole.multipliesOf(512), 2);
}

TEST(CoreFigures, AreTheSameEachTime) {
  CoreFigures first = coreFigures(), second = coreFigures();
  EXPECT_EQ(first.clockMhz, second.clockMhz);
  EXPECT_EQ(first.datapathBits, second.datapathBits);
  EXPECT_STREQ(first.memory.source, second.memory.source);
}

TEST(CoreFigures, SayWhereTheyComeFrom) {
  for (Core core : {Core::Here, Core::X86Server, Core::Arm64}) {
    CoreFigures figures = coreFigures(core);
    for (const char *source : {figures.clockSource, figures.datapathSource, figures.second.source,
                               figures.third.source, figures.memory.source})
      EXPECT_STRNE(source, "");
    EXPECT_GE(figures.second.bytesPerCycle, figures.third.bytesPerCycle);
    EXPECT_GE(figures.third.bytesPerCycle, figures.memory.bytesPerCycle);
  }
}

} // namespace
} // namespace girih::cpu
