// SPDX-License-Identifier: Apache-2.0
// Vendors' libraries, good and bad: each fault is named, none takes the process down, and versions meet as stated.
#include "runtime/hal/backend_library.h"

#include "runtime/hal/device.h"
#include "runtime/hal/probe_backend.h"

#include <chrono>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::hal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string library(const std::string &name) { return std::string(FAULTY_BACKENDS) + "/backend_" + name + ".so"; }

struct Fault {
  const char *name;
  StatusCode code;
  const char *call; // that the message names
  const char *seen;
};

class Probe : public ::testing::TestWithParam<Fault> {};

TEST_P(Probe, NamesTheFault) {
  const Fault &fault = GetParam();
  Status status = probeBackend(library(fault.name), 2);
  EXPECT_EQ(status.code(), fault.code) << status.message();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(std::string("backend_") + fault.name), HasSubstr(fault.call), HasSubstr(fault.seen)));
}

const Fault kFaults[] = {
    {"no_export", StatusCode::FailedPrecondition, "girih_backend_query", "exports no"},
    {"other_major", StatusCode::Unimplemented, "girih_backend_query", "speaks version 7.3 of the backend ABI, this is 0."},
    {"crash_query", StatusCode::Unavailable, "girih_backend_query", "crashes in"},
    {"crash_info", StatusCode::Unavailable, "device_info", "Segmentation fault"},
    {"crash_describe", StatusCode::Unavailable, "describe", "Segmentation fault"},
    {"exit_in_count", StatusCode::Unavailable, "device_count", "exit status 3"},
    {"hang_open", StatusCode::Unavailable, "open", "has not returned after 2 s"},
    {"short_size", StatusCode::DataLoss, "run table", "16 bytes"},
    {"long_size", StatusCode::DataLoss, "run table", "set struct_size to sizeof"},
    {"huge_size", StatusCode::DataLoss, "run table", "1099511627776 bytes"},
    {"short_backend", StatusCode::DataLoss, "girih_backend", "24 bytes"},
    {"null_function", StatusCode::Unimplemented, "`copy`", "required"},
    {"null_compile", StatusCode::Unimplemented, "`supports`", "required"},
    {"no_name", StatusCode::DataLoss, "girih_backend_query", "no name"},
    {"no_tables", StatusCode::Unimplemented, "girih_backend_query", "neither a run table nor a compile table"},
    {"odd_alignment", StatusCode::DataLoss, "device_info", "48 bytes"},
    {"error_count", StatusCode::Unavailable, "device_count", "moon"},
    {"error_without_words", StatusCode::Internal, "device_count", "code 77 and no message"},
    {"error_info", StatusCode::Unavailable, "device_info", "moon"},
    {"error_open", StatusCode::Unavailable, "open", "moon"},
    {"error_alloc", StatusCode::Unavailable, "alloc", "moon"},
    {"error_write", StatusCode::Unavailable, "write", "moon"},
    {"error_read", StatusCode::Unavailable, "read", "moon"},
    {"loses_bytes", StatusCode::DataLoss, "write, read", "come back as others"},
    {"error_describe", StatusCode::Unavailable, "describe", "moon"},
    {"no_json", StatusCode::DataLoss, "describe", "no JSON object"},
};
INSTANTIATE_TEST_SUITE_P(Faults, Probe, ::testing::ValuesIn(kFaults),
                         [](const auto &fault) { return fault.param.name; });

TEST(ProbeBackend, RefusesWhatIsNoLibrary) {
  EXPECT_EQ(probeBackend("/no/such/library.so").code(), StatusCode::NotFound);
  Status text = probeBackend(__FILE__);
  EXPECT_EQ(text.code(), StatusCode::NotFound);
  EXPECT_THAT(std::string(text.message()), HasSubstr("backend_library_test.cpp"));
  EXPECT_EQ(probeBackend("libm.so.6").code(), StatusCode::FailedPrecondition);
}

TEST(ProbeBackend, PassesSoundOnes) {
  for (const char *name : {"small", "frozen_0_1", "frozen_0_2", "frozen_0_3", "frozen_0_4", "frozen_0_5", "later_minor", "without_compile"})
    EXPECT_TRUE(probeBackend(library(name)).isOk()) << name << ": " << probeBackend(library(name)).message();
}

// An older backend is shorter than the host, a later one longer: both run.
TEST(LoadBackend, MinorVersionsMeet) {
  for (const char *name : {"small", "frozen_0_1", "frozen_0_2", "frozen_0_3", "frozen_0_4", "frozen_0_5", "later_minor"}) {
    auto backend = loadBackend(library(name));
    ASSERT_TRUE(backend.isOk()) << backend.status().message();
    EXPECT_EQ((*backend)->struct_size, sizeof(girih_backend));
    EXPECT_EQ((*backend)->run->struct_size, sizeof(girih_run_table));
    EXPECT_EQ((*backend)->levels, 0u);
    auto device = Device::open(**backend, 0);
    ASSERT_TRUE(device.isOk()) << device.status().message();
    const uint8_t image[] = {3, 0x3f};
    auto executable = Executable::load(*device, "fills", image, {"three", "half"});
    ASSERT_TRUE(executable.isOk()) << executable.status().message();
    auto logits = Buffer::allocate(*device, 16);
    ASSERT_TRUE(logits.isOk());
    girih_buffer_view bindings[GIRIH_STEP_NUM_BINDINGS] = {};
    bindings[GIRIH_STEP_BINDING_LOGITS] = logits->view();
    girih_submission submission = {sizeof submission, nullptr, 1, nullptr, 0, bindings, 4, nullptr};
    ASSERT_TRUE(executable->run(submission).isOk());
    uint8_t bytes[16] = {};
    ASSERT_TRUE(logits->read(0, bytes).isOk());
    EXPECT_EQ(bytes[15], 0x3f) << name;
  }
}

TEST(LoadBackend, NotesReachTheUser) {
  for (const auto &[name, expected] : {std::pair<const char *, const char *>{"small", "small has no units"}, {"frozen_0_3", ""}}) {
    std::string told;
    DeviceOptions options;
    options.onNote = [&](const std::string &note) { told += note; };
    ASSERT_TRUE(Device::open(*loadBackend(library(name)).value(), 0, options).isOk());
    EXPECT_EQ(told, expected) << name;
  }
}

TEST(LoadBackend, AnswersTheSameTwice) {
  EXPECT_EQ(loadBackend(library("small")).value(), loadBackend(library("small")).value());
}

Status runOn(const std::string &name, const DeviceOptions &options) {
  GIRIH_ASSIGN(const girih_backend *backend, loadBackend(library(name)));
  GIRIH_ASSIGN(auto device, Device::open(*backend, 0, options));
  const uint8_t image[] = {3};
  GIRIH_ASSIGN(auto executable, Executable::load(device, "fills", image, {"girih_step_t8"}));
  GIRIH_ASSIGN(auto logits, Buffer::allocate(device, 16));
  girih_buffer_view bindings[GIRIH_STEP_NUM_BINDINGS] = {};
  bindings[GIRIH_STEP_BINDING_LOGITS] = logits.view();
  girih_submission submission = {sizeof submission, nullptr, 0, nullptr, 0, bindings, 4, nullptr};
  return executable.run(submission);
}

TEST(Faults, ThatNoProbeFindsAreErrorsToo) {
  for (const char *name : {"error_load", "error_submit", "error_wait"}) {
    Status status = runOn(name, {});
    EXPECT_EQ(status.code(), StatusCode::Unavailable) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("moon")) << name;
  }
  EXPECT_TRUE(runOn("small", {}).isOk());
}

TEST(WatchdogDeathTest, NamesTheEntryThatHangs) {
  DeviceOptions options;
  options.watchdogSeconds = 0.2;
  options.onHang = [](const std::string &entry, double) {
    std::fprintf(stderr, "hangs in %s\n", entry.c_str());
    std::_Exit(5);
  };
  EXPECT_EXIT((void)runOn("hang_submit", options), ::testing::ExitedWithCode(5), "hangs in girih_step_t8");
}

TEST(Watchdog, LeavesQuickOnesAlone) {
  std::atomic<int> numReports = 0;
  {
    Watchdog dog(0.05, [&](const std::string &, double) { ++numReports; });
    for (int index = 0; index < 20; ++index) {
      dog.begin("quick");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      dog.end();
    }
  }
  EXPECT_EQ(numReports, 0);
}

TEST(Watchdog, ReportsASubmissionOnce) {
  std::atomic<int> numReports = 0;
  std::promise<void> first;
  Watchdog dog(0.02, [&](const std::string &entry, double seconds) {
    EXPECT_EQ(entry, "slow");
    EXPECT_GE(seconds, 0.02);
    if (++numReports == 1)
      first.set_value();
  });
  dog.begin("slow");
  first.get_future().wait();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  dog.end();
  EXPECT_EQ(numReports, 1);
}

TEST(OutOfMemory, HasBothNumbers) {
  auto backend = loadBackend(library("small"));
  auto device = Device::open(**backend, 0);
  auto first = Buffer::allocate(*device, 1000);
  ASSERT_TRUE(first.isOk());
  auto second = Buffer::allocate(*device, 2 << 20);
  EXPECT_EQ(second.status().code(), StatusCode::ResourceExhausted);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("device \"small\" has no room for 2097152 bytes: 1000 of its 1048576 bytes are in use"));
}

// The fallbacks for what is null: `small` has none of the optional functions.
TEST(Fallbacks, OfTheRunTable) {
  auto backend = loadBackend(library("small"));
  auto device = Device::open(**backend, 0);
  EXPECT_EQ((*device)->numThreads(), 3); // num_threads: device_info's default_threads
  alignas(64) uint8_t bytes[64] = {1, 2, 3};
  auto imported = Buffer::import(*device, bytes); // import_host: alloc and write
  ASSERT_TRUE(imported.isOk());
  EXPECT_EQ(imported->mapped(), nullptr); // map: read
  bytes[1] = 9;
  uint8_t read[3] = {};
  ASSERT_TRUE(imported->read(0, read).isOk());
  EXPECT_EQ(read[1], 2);
}

} // namespace
} // namespace girih::hal
