// SPDX-License-Identifier: Apache-2.0
// The hal over the CPU, and over a backend that leaves out everything optional.
#include "runtime/hal/backend_library.h"
#include "runtime/hal/device.h"
#include "runtime/hal/registry.h"

#include <algorithm>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::hal {
namespace {

using ::testing::HasSubstr;

// The CPU's table cut before its optional functions, as an older or smaller backend hands it out.
const girih_backend *cutQuery(const girih_host *) {
  static girih_run_table table = [] {
    girih_run_table cut = *(*findBackend("cpu"))->run;
    cut.struct_size = offsetof(girih_run_table, import_host);
    return cut;
  }();
  static girih_backend backend = [] {
    girih_backend copy = **findBackend("cpu");
    copy.run = &table;
    return copy;
  }();
  return &backend;
}
const girih_backend &withoutOptionals() { return **adoptBackend(cutQuery, "cut"); }

TEST(Registry, ListsTheBackendsThereAre) {
  EXPECT_TRUE(findBackend("cpu").isOk());
  auto absent = findBackend("abacus");
  EXPECT_EQ(absent.status().code(), StatusCode::NotFound);
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("there are: cpu"));
}

TEST(Device, SaysWhatItGrants) {
  auto facts = describeDevice(**findBackend("cpu"), 0);
  ASSERT_TRUE(facts.isOk());
  EXPECT_TRUE(facts->hasHostMemory);
  EXPECT_GE(facts->defaultThreads, 1);
  EXPECT_THAT(facts->features, ::testing::Not(::testing::Contains("")));
  EXPECT_EQ(describeDevice(**findBackend("cpu"), 1).status().code(), StatusCode::Unavailable);
}

TEST(Device, RefusesSillyNumbersOfThreads) {
  EXPECT_EQ(Device::open(**findBackend("cpu"), 0, {-1}).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(Device::open(**findBackend("cpu"), 0, {1 << 20}).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ((*Device::open(**findBackend("cpu"), 0, {2}))->numThreads(), 2);
}

class Buffers : public ::testing::TestWithParam<bool> {
protected:
  std::shared_ptr<Device> device =
      std::move(Device::open(GetParam() ? **findBackend("cpu") : withoutOptionals(), 0, {1})).value();
};
INSTANTIATE_TEST_SUITE_P(WithAndWithoutOptionals, Buffers, ::testing::Bool());

TEST_P(Buffers, AreZeroedAndKeepWhatIsWritten) {
  auto buffer = Buffer::allocate(device, 100);
  ASSERT_TRUE(buffer.isOk());
  EXPECT_EQ(buffer->mapped() != nullptr, GetParam());
  std::vector<uint8_t> bytes(100, 1), written = {7, 8, 9};
  ASSERT_TRUE(buffer->read(0, bytes).isOk());
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; }));
  ASSERT_TRUE(buffer->write(97, written).isOk());
  ASSERT_TRUE(buffer->read(0, bytes).isOk());
  EXPECT_EQ(bytes[99], 9);
  EXPECT_EQ(buffer->write(98, written).code(), StatusCode::OutOfRange);
  EXPECT_EQ(buffer->read(~uint64_t{0}, bytes).code(), StatusCode::OutOfRange);
}

TEST_P(Buffers, ImportedBytesRead) {
  alignas(64) uint8_t bytes[64] = {1, 2, 3};
  auto buffer = Buffer::import(device, bytes);
  ASSERT_TRUE(buffer.isOk());
  std::vector<uint8_t> read(3);
  ASSERT_TRUE(buffer->read(0, read).isOk());
  EXPECT_EQ(read[2], 3);
}

TEST_P(Buffers, HugeOnesAreRefusedNotMapped) {
  auto kept = Buffer::allocate(device, 4096);
  Status status = Buffer::allocate(device, uint64_t{1} << 62).status();
  EXPECT_EQ(status.code(), StatusCode::ResourceExhausted);
  EXPECT_THAT(std::string(status.message()), ::testing::AllOf(HasSubstr("4611686018427387904 bytes"),
                                                              HasSubstr("4096 of its ")));
}

TEST_P(Buffers, ExecutablesOfAnotherFormatAreRefused) {
  EXPECT_EQ(Executable::load(device, "ptx", {}, {}).status().code(), StatusCode::Unimplemented);
  std::vector<uint8_t> junk(100, 3);
  EXPECT_EQ(Executable::load(device, "elf-x86-64", junk, {"f"}).status().code(), StatusCode::DataLoss);
}

} // namespace
} // namespace girih::hal
