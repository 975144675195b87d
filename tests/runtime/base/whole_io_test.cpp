// SPDX-License-Identifier: Apache-2.0
// All bytes through a descriptor that moves few at once, and what ends before them.
#include "runtime/base/whole_io.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <numeric>
#include <thread>
#include <vector>

namespace girih {
namespace {

std::vector<uint8_t> pattern(size_t numBytes) {
  std::vector<uint8_t> bytes(numBytes);
  std::iota(bytes.begin(), bytes.end(), uint8_t{3});
  return bytes;
}

// A pipe holds 64 KiB: each side waits for the other many times.
TEST(WholeIo, MovesMoreThanAPipeHolds) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::vector<uint8_t> sent = pattern(1 << 20), received(sent.size());
  std::thread writer([&] { EXPECT_TRUE(writeWhole(ends[1], sent)); });
  EXPECT_TRUE(readWhole(ends[0], received));
  writer.join();
  EXPECT_EQ(received, sent);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(WholeIo, TellsAnEndFromAFailure) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_TRUE(writeWhole(ends[1], std::string_view("abc")));
  ::close(ends[1]);
  std::vector<uint8_t> received(4);
  EXPECT_FALSE(readWhole(ends[0], received)) << "three of four";
  EXPECT_EQ(errno, 0);
  EXPECT_TRUE(readWhole(ends[0], {})) << "none are always there";
  ::close(ends[0]);
  EXPECT_FALSE(readWhole(ends[0], received));
  EXPECT_EQ(errno, EBADF);
}

TEST(WholeIo, WritesNothingWhereNobodyReads) {
  ::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  EXPECT_FALSE(writeWhole(ends[1], pattern(10)));
  EXPECT_EQ(errno, EPIPE);
  ::close(ends[1]);
}

} // namespace
} // namespace girih
