// SPDX-License-Identifier: Apache-2.0
// SHA-256: the identity of programs, pinned downloads and KV keys (crc32c.h is for accidents).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace girih {

using Sha256Digest = std::array<uint8_t, 32>;

// Feed with update, end with finish. Not thread-safe; one use.
class Sha256 {
public:
  void update(std::span<const uint8_t> bytes);
  void update(std::string_view text);
  Sha256Digest finish();

private:
  std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};  // FIPS 180-4, 5.3.3
  std::array<uint8_t, 64> pending;
  uint64_t totalBytes = 0;
};

Sha256Digest sha256(std::span<const uint8_t> bytes);
// Lower-case hexadecimal digits.
std::string hexDigits(std::span<const uint8_t> bytes);

}  // namespace girih
