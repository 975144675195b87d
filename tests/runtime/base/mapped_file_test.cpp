// SPDX-License-Identifier: Apache-2.0
// MappedFile: bytes in place, and a clear answer for what is no file.
#include "runtime/base/mapped_file.h"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
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

TEST(MappedFile, GivesPagesBackAndReadsThemAgain) {
  std::string text(1 << 20, 'x');
  TemporaryFile file(text);
  auto mapped = MappedFile::open(file.path);
  ASSERT_TRUE(mapped.isOk());
  std::span<const uint8_t> bytes = mapped->bytes();
  auto isResident = [&] {
    // Of this process, unlike mincore, which tells what the kernel caches.
    uint64_t entry = 0;
    int map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    auto page = reinterpret_cast<uintptr_t>(bytes.data() + 512 * 1024) / 4096;
    EXPECT_EQ(::pread(map, &entry, sizeof entry, static_cast<off_t>(page * sizeof entry)), ssize_t{sizeof entry});
    ::close(map);
    return (entry >> 63) != 0;
  };
  MappedFile::willRead(bytes.subspan(1000, 900'000));
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 'x'), 1 << 20);
  EXPECT_TRUE(isResident());
  MappedFile::hasRead(bytes.subspan(1000, 900'000));
  EXPECT_FALSE(isResident());
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 'x'), 1 << 20);
  MappedFile::hasRead(bytes.first(1));
  MappedFile::hasRead({});
}

TEST(MappedFile, RefusesFoldersAndAbsentFiles) {
  EXPECT_EQ(MappedFile::open("/").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(MappedFile::open("/no/such/file").status().code(), StatusCode::NotFound);
}

} // namespace
} // namespace girih
