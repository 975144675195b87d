// SPDX-License-Identifier: Apache-2.0
// The description of this machine: what CPUID grants is described by it, what it does not by what is assumed.
#include "backends/cpu/codegen/describe.h"

#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/device/core_figures.h"

#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

namespace girih::cpu {
namespace {

class Describe : public ::testing::TestWithParam<const char *> {
protected:
  Describe() {
    context.loadDialect<machine::MachineDialect>();
    description = describeMachine(&context, GetParam());
  }

  mlir::MLIRContext context;
  machine::DescriptionAttr description;
};

TEST_P(Describe, IsTheSameEachTime) { EXPECT_EQ(describeMachine(&context, GetParam()), description); }

TEST_P(Describe, MultipliesInNoMoreSlotsThanThereAre) {
  machine::UnitAttr any = description.unitFor("i32"), multiplying = description.unitFor("f32"),
                    dots = description.unitFor("i8");
  EXPECT_LE(multiplying.getPerCycle(), any.getPerCycle());
  EXPECT_LE(dots.getPerCycle(), multiplying.getPerCycle());
}

TEST_P(Describe, LevelsGrowAndSlowDown) {
  auto levels = description.getLevels();
  for (size_t at = 1; at < levels.size(); ++at) {
    EXPECT_GT(levels[at].getSizeBytes(), levels[at - 1].getSizeBytes());
    EXPECT_LE(levels[at].getBytesPerCycle(), levels[at - 1].getBytesPerCycle());
    EXPECT_GT(levels[at].getLatencyCycles(), levels[at - 1].getLatencyCycles());
  }
}

TEST_P(Describe, EveryFigureSaysWhereItComesFrom) {
  for (machine::LevelAttr level : description.getLevels())
    EXPECT_FALSE(level.getSource().empty());
  for (machine::UnitAttr unit : description.getUnits())
    EXPECT_FALSE(unit.getSource().empty());
}

TEST_P(Describe, ReadsNothingOfAnotherMachineHere) {
  if (isGrantedHere(*findIsa(GetParam())))
    GTEST_SKIP() << "this machine runs it";
  for (machine::LevelAttr level : description.getLevels())
    EXPECT_TRUE(level.getSource().contains("assumed")) << level.getSource().str();
}

INSTANTIATE_TEST_SUITE_P(Variants, Describe,
                         ::testing::Values("avx2", "avx512", "amx", "neon", "dotprod", "i8mm"));

} // namespace
} // namespace girih::cpu
