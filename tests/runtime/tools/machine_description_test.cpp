// SPDX-License-Identifier: Apache-2.0
// The machine description: JSON in the form of dialects/machine, with plausible figures of this very machine.
#include "runtime/tools/machine_description.h"

#include "runtime/base/json_reader.h"

#include <gtest/gtest.h>

namespace girih::tools {
namespace {

TEST(MachineDescription, HasEveryFieldThatTheCompilerReads) {
  auto document = JsonDocument::parse(machineJson(describeMachine()));
  ASSERT_TRUE(document.isOk());
  JsonValue machine = document->root();
  for (const char *name : {"cores", "clock_mhz", "barrier_ns"}) {
    auto number = machine.find(name)->asInteger();
    ASSERT_TRUE(number.isOk()) << name;
    EXPECT_GE(*number, 1) << name;
  }
  EXPECT_EQ(*machine.find("kind")->asString(), "cpu");
  auto levels = machine.find("levels")->elements(), units = machine.find("units")->elements();
  ASSERT_FALSE(levels.empty() || units.empty());
  int64_t nearerBytes = 0;
  for (JsonValue level : levels) {
    for (const char *name : {"size_bytes", "bytes_per_cycle", "latency_cycles", "shared_by"})
      EXPECT_GE(*level.find(name)->asInteger(), 1) << name;
    EXPECT_FALSE(level.find("source")->asString()->empty());
    EXPECT_GT(*level.find("size_bytes")->asInteger(), nearerBytes);
    nearerBytes = *level.find("size_bytes")->asInteger();
  }
  for (JsonValue unit : units)
    for (const char *name : {"lanes", "per_cycle", "latency_cycles", "registers"})
      EXPECT_GE(*unit.find(name)->asInteger(), 1) << name;
}

TEST(MachineDescription, SaysSoWhereSysfsIsMissing) {
  MachineDescription machine = describeMachine("/no/such/root");
  ASSERT_EQ(machine.levels.size(), 1u);  // memory alone
  EXPECT_GE(machine.clockMhz, 1);
  EXPECT_TRUE(JsonDocument::parse(machineJson(machine)).isOk());
}

}  // namespace
}  // namespace girih::tools
