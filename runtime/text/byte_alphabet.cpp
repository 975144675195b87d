// SPDX-License-Identifier: Apache-2.0
// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on, in order.
#include "runtime/text/byte_alphabet.h"

#include "runtime/text/unicode/unicode.h"

#include <array>
#include <cstdint>

namespace girih {
namespace {

constexpr char32_t kFirstShifted = 0x100;

bool standsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

std::array<uint8_t, 68> shiftedBytes() {
  std::array<uint8_t, 68> bytes{};
  size_t count = 0;
  for (uint32_t byte = 0; byte < 256; ++byte)
    if (!standsForItself(byte))
      bytes[count++] = static_cast<uint8_t>(byte);
  return bytes;
}

} // namespace

std::optional<std::string> bytesFromAlphabet(std::string_view token) {
  static const std::array<uint8_t, 68> kShifted = shiftedBytes();
  std::string out;
  for (size_t at = 0; at < token.size();) {
    unicode::Character c = unicode::decodeAt(token, at);
    if (c.value < kFirstShifted && standsForItself(c.value))
      out.push_back(static_cast<char>(c.value));
    else if (c.value >= kFirstShifted && c.value < kFirstShifted + kShifted.size())
      out.push_back(static_cast<char>(kShifted[c.value - kFirstShifted]));
    else
      return std::nullopt;
    at += c.length;
  }
  return out;
}

} // namespace girih
