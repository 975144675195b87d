// SPDX-License-Identifier: Apache-2.0
// MappedFile: bytes in place, and a clear answer for what is no file.
#include "runtime/base/mapped_file.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

namespace girih {
namespace {

struct TemporaryFile {
  std::string path = ::testing::TempDir() + "mapped_file_" + std::to_string(::getpid());
  explicit TemporaryFile(const std::string &text) { std::ofstream(path) << text; }
  ~TemporaryFile() { ::unlink(path.c_str()); }
};

TEST(MappedFile, ShowsTheBytesAndMoves) {
  TemporaryFile file("five tiles");
  auto mapped = MappedFile::open(file.path);
  ASSERT_TRUE(mapped.isOk()) << mapped.status().message();
  MappedFile moved = std::move(*mapped);
  EXPECT_EQ(std::string(moved.bytes().begin(), moved.bytes().end()), "five tiles");
}

TEST(MappedFile, AnEmptyFileHasNoBytes) {
  TemporaryFile file("");
  auto mapped = MappedFile::open(file.path);
  ASSERT_TRUE(mapped.isOk()) << mapped.status().message();
  EXPECT_TRUE(mapped->bytes().empty());
}

TEST(MappedFile, RefusesFoldersAndAbsentFiles) {
  EXPECT_EQ(MappedFile::open("/").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(MappedFile::open("/no/such/file").status().code(), StatusCode::NotFound);
}

} // namespace
} // namespace girih
