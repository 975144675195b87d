// SPDX-License-Identifier: Apache-2.0
// UTF-8 by the table of well-formed sequences (Unicode standard, table 3-7), and the classes of a character.
#include "runtime/text/unicode/unicode.h"

#include <algorithm>

namespace girih::unicode {
namespace {

struct ClassRange {
  uint32_t first; // up to the next range
  uint16_t classes;
};
#include "runtime/text/unicode/classes.inc"

struct LeadByte {
  uint8_t length; // 0: no character starts so
  uint8_t secondLow, secondHigh;
};

// Only the second byte's range depends on the first: it excludes overlong forms, surrogates and values past
// U+10FFFF.
LeadByte leadByte(unsigned char first) {
  if (first >= 0xC2 && first <= 0xDF)
    return {2, 0x80, 0xBF};
  if (first == 0xE0)
    return {3, 0xA0, 0xBF};
  if (first == 0xED)
    return {3, 0x80, 0x9F};
  if (first >= 0xE1 && first <= 0xEF)
    return {3, 0x80, 0xBF};
  if (first == 0xF0)
    return {4, 0x90, 0xBF};
  if (first >= 0xF1 && first <= 0xF3)
    return {4, 0x80, 0xBF};
  if (first == 0xF4)
    return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// How many bytes from `at` belong to the sequence that the first of them starts, up to where it breaks off.
size_t sequenceLength(std::string_view text, size_t at, LeadByte lead) {
  size_t count = 1;
  while (count < lead.length && at + count < text.size()) {
    unsigned char byte = static_cast<unsigned char>(text[at + count]);
    unsigned char low = count == 1 ? lead.secondLow : 0x80, high = count == 1 ? lead.secondHigh : 0xBF;
    if (byte < low || byte > high)
      break;
    ++count;
  }
  return count;
}

} // namespace

Character decodeMultibyte(std::string_view text, size_t at) {
  unsigned char first = static_cast<unsigned char>(text[at]);
  LeadByte lead = leadByte(first);
  if (lead.length == 0)
    return {kReplacementCharacter, 1, false};
  size_t count = sequenceLength(text, at, lead);
  if (count < lead.length)
    return {kReplacementCharacter, static_cast<uint8_t>(count), false};
  char32_t value = first & (0xFFu >> (lead.length + 1));
  for (size_t i = 1; i < count; ++i)
    value = value << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  return {value, lead.length, true};
}

void append(std::string &text, char32_t c) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
    return;
  }
  int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
  text.push_back(static_cast<char>(kLead[tail] | c >> (6 * tail)));
  while (tail-- > 0)
    text.push_back(static_cast<char>(0x80 | (c >> (6 * tail) & 0x3F)));
}

bool isWellFormed(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    if (!c.wellFormed)
      return false;
    at += c.length;
  }
  return true;
}

std::string replaceMalformed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    if (c.wellFormed)
      out.append(text.substr(at, c.length));
    else
      append(out, kReplacementCharacter);
    at += c.length;
  }
  return out;
}

size_t incompleteTail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    size_t at = text.size() - back;
    LeadByte lead = leadByte(static_cast<unsigned char>(text[at]));
    if (lead.length > back && sequenceLength(text, at, lead) == back)
      return back;
  }
  return 0;
}

uint16_t classOfWide(char32_t c) {
  size_t block = std::min<size_t>(c >> 8, std::size(kClassBlocks) - 2);
  const ClassRange *low = kClassRanges + kClassBlocks[block];
  const ClassRange *high = kClassRanges + kClassBlocks[block + 1] + 1;
  // The last range that starts at or before the character.
  return (std::upper_bound(low + 1, high, c, [](char32_t x, const ClassRange &r) { return x < r.first; }) - 1)
      ->classes;
}

} // namespace girih::unicode
