// SPDX-License-Identifier: Apache-2.0
// CRC-32C: by the processor's instruction where there is one, by a table elsewhere.
#include "runtime/base/crc32c.h"

#include <array>
#include <cstring>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace girih {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78; // Castagnoli, bits reversed

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = makeTable();

uint32_t byTable(std::span<const uint8_t> bytes, uint32_t crc) {
  for (uint8_t byte : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ byte) & 0xff];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t byInstruction(std::span<const uint8_t> bytes, uint32_t crc) {
  const uint8_t *data = bytes.data();
  size_t numBytes = bytes.size();
  uint64_t wide = crc;
  for (; numBytes >= 8; data += 8, numBytes -= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  crc = static_cast<uint32_t>(wide);
  for (; numBytes > 0; ++data, --numBytes)
    crc = _mm_crc32_u8(crc, *data);
  return crc;
}
#endif

} // namespace

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc) {
  crc = ~crc;
#if defined(__x86_64__)
  static const bool hasInstruction = __builtin_cpu_supports("sse4.2");
  if (hasInstruction)
    return ~byInstruction(bytes, crc);
#endif
  return ~byTable(bytes, crc);
}

} // namespace girih
