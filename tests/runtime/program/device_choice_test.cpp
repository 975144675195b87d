// SPDX-License-Identifier: Apache-2.0
// Devices of their own go before the host's processors, and what cannot be had is explained.
#include "runtime/program/device_choice.h"

#include <cstdio>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::program {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Backends of nothing but facts.
template <int Count> girih_code count(uint64_t *count, girih_message *message) {
  if (Count < 0) {
    std::snprintf(message->text, message->capacity_bytes, "no loader is installed");
    return GIRIH_UNAVAILABLE;
  }
  *count = Count;
  return GIRIH_OK;
}
template <uint64_t Flags> girih_code facts(uint64_t, girih_device_info *info, girih_message *) {
  info->name = "made up";
  info->features = "common";
  info->flags = Flags;
  info->alignment_bytes = 64;
  return GIRIH_OK;
}
template <int Count, uint64_t Flags> const girih_backend *madeUp(const char *name) {
  static const girih_run_table table = [] {
    girih_run_table run = {};
    run.device_count = count<Count>;
    run.device_info = facts<Flags>;
    return run;
  }();
  static girih_backend backend = {};
  backend.name = name;
  backend.run = &table;
  return &backend;
}
const girih_backend *host() { return madeUp<1, GIRIH_DEVICE_HOST_PROCESSORS | GIRIH_DEVICE_HOST_MEMORY>("host"); }
const girih_backend *cards() { return madeUp<2, 0>("cards"); }
const girih_backend *emulated() { return madeUp<1, GIRIH_DEVICE_HOST_PROCESSORS>("emulated"); }
const girih_backend *missing() { return madeUp<-1, 0>("missing"); }

Tables tablesFor(const std::vector<std::string> &backends) {
  Tables tables;
  for (const std::string &backend : backends) {
    Executable executable;
    executable.backend = backend;
    executable.isa = backend + "_code";
    executable.requiredFeatures = {"common"};
    tables.executables.push_back(executable);
  }
  return tables;
}

std::vector<std::string> chosen(const Expected<DeviceChoice> &choice) {
  if (!choice.isOk())
    return {std::string(choice.status().message())};
  std::vector<std::string> names;
  for (const DeviceName &device : choice->devices)
    names.push_back(describe(device));
  return names;
}

TEST(ChooseDevices, PrefersProcessorsOfItsOwn) {
  Tables all = tablesFor({"host", "emulated", "cards"});
  EXPECT_THAT(chosen(chooseDevices(all, {host(), emulated(), cards()}, "")),
              ElementsAre("cards:0", "cards:1", "host:0", "emulated:0"));
  EXPECT_THAT(chosen(chooseDevices(all, {emulated(), host()}, "")), ElementsAre("emulated:0", "host:0"));
}

TEST(ChooseDevices, TakesWhatTheFileHasCodeFor) {
  EXPECT_THAT(chosen(chooseDevices(tablesFor({"host"}), {cards(), host()}, "")), ElementsAre("host:0"));
  EXPECT_THAT(chosen(chooseDevices(tablesFor({"host", "cards"}), {cards(), host()}, "host_code")), ElementsAre("host:0"));
}

TEST(ChooseDevices, SaysWhatIsNotHere) {
  auto choice = chooseDevices(tablesFor({"host", "missing"}), {missing(), host()}, "");
  ASSERT_TRUE(choice.isOk());
  EXPECT_THAT(choice->absent, ElementsAre("no loader is installed"));
  // A backend without code in the file is not even asked.
  EXPECT_THAT(chooseDevices(tablesFor({"host"}), {missing(), host()}, "")->absent, ElementsAre());
  // Whatever was found before.
  Tables demanding = tablesFor({"host", "cards"});
  demanding.executables[1].requiredFeatures = {"teleportation"};
  EXPECT_THAT(chooseDevices(demanding, {host(), cards()}, "")->absent, ElementsAre(HasSubstr("missing teleportation")));
}

TEST(ChooseDevices, ExplainsWhyThereIsNone) {
  auto none = chooseDevices(tablesFor({"missing"}), {missing(), host()}, "");
  EXPECT_EQ(none.status().code(), StatusCode::Unavailable);
  EXPECT_THAT(std::string(none.status().message()),
              AllOf(HasSubstr("missing:missing_code"), HasSubstr("no loader is installed"), HasSubstr("host: the file has no code")));
  Tables demanding = tablesFor({"host"});
  demanding.executables[0].requiredFeatures = {"teleportation"};
  EXPECT_THAT(std::string(chooseDevices(demanding, {host()}, "").status().message()), HasSubstr("missing teleportation"));
  auto misnamed = chooseDevices(tablesFor({"host"}), {host()}, "hots_code");
  EXPECT_EQ(misnamed.status().code(), StatusCode::InvalidArgument);
}

} // namespace
} // namespace girih::program
