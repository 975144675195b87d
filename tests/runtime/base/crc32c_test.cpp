// SPDX-License-Identifier: Apache-2.0
// CRC-32C against the vectors of RFC 3720, appendix B.4.
#include "runtime/base/crc32c.h"

#include <gtest/gtest.h>
#include <numeric>
#include <vector>

namespace girih {
namespace {

TEST(Crc32c, MatchesRfc3720) {
  std::vector<uint8_t> bytes(32, 0x00);
  EXPECT_EQ(crc32c(bytes), 0x8a9136aau);
  bytes.assign(32, 0xff);
  EXPECT_EQ(crc32c(bytes), 0x62a8ab43u);
  std::iota(bytes.begin(), bytes.end(), 0);
  EXPECT_EQ(crc32c(bytes), 0x46dd794eu);
}

TEST(Crc32c, ContinuesAtAnyCut) {
  std::vector<uint8_t> bytes(77);
  std::iota(bytes.begin(), bytes.end(), 3);
  uint32_t whole = crc32c(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    std::span<const uint8_t> all(bytes);
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole) << cut;
  }
}

} // namespace
} // namespace girih
