// SPDX-License-Identifier: Apache-2.0
// NpyWriter: the bytes of NumPy's format, and nothing left behind when it fails.
#include "runtime/tools/npy_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <unistd.h>

namespace girih::tools {
namespace {

std::string readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class NpyWriterTest : public ::testing::Test {
protected:
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string folder = ::testing::TempDir() + "npy_writer_test_" + std::to_string(getpid());
  std::string path = folder + "/logits.npy";
};

TEST_F(NpyWriterTest, WritesRowsWithTheirFinalCount) {
  auto writer = NpyWriter::create(path, 3);
  ASSERT_TRUE(writer.isOk());
  const float rows[] = {1, 2, 3, 4, 5, 6};
  writer->append(rows);
  writer->append(std::span(rows).first(3));
  EXPECT_FALSE(std::filesystem::exists(path));  // only a finished file has the name
  ASSERT_TRUE(writer->finish().isOk());
  std::string bytes = readFile(path);
  ASSERT_EQ(bytes.size(), 128 + 9 * sizeof(float));
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_THAT(bytes, ::testing::HasSubstr("'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }"));
  float last;
  std::memcpy(&last, bytes.data() + bytes.size() - sizeof(float), sizeof(float));
  EXPECT_EQ(last, 3);
}

TEST_F(NpyWriterTest, LeavesNothingWhenItIsNotFinished) {
  {
    auto writer = NpyWriter::create(path, 3);
    ASSERT_TRUE(writer.isOk());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(NpyWriterTest, SaysWhyItCannotWrite) {
  auto nowhere = NpyWriter::create(folder + "/no/such/folder/x.npy", 3);
  ASSERT_FALSE(nowhere.isOk());
  EXPECT_THAT(std::string(nowhere.status().message()), ::testing::HasSubstr("No such file"));
}

TEST_F(NpyWriterTest, ReportsAFullDisk) {
  // The device that is always full, under the name that the writer chooses.
  std::filesystem::create_symlink("/dev/full", path + ".partial");
  auto writer = NpyWriter::create(path, 1024);
  ASSERT_TRUE(writer.isOk());
  writer->append(std::vector<float>(1 << 20));
  Status status = writer->finish();
  EXPECT_EQ(status.code(), StatusCode::ResourceExhausted);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("free some space"));
}

}  // namespace
}  // namespace girih::tools
