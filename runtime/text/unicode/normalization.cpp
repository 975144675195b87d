// SPDX-License-Identifier: Apache-2.0
// Canonical normalisation (Unicode annex 15) and lower case, over tables taken from what Hugging Face's parts
// do.
#include "runtime/text/unicode/unicode.h"

#include <algorithm>
#include <span>
#include <tuple>
#include <vector>

namespace girih::unicode {
namespace {

struct Mapping {
  uint32_t from;
  uint16_t offset, length; // in kMappedText
};
struct Composition {
  char32_t first, second, composite;
};
struct CombiningRange {
  char32_t first, last;
  uint8_t combiningClass;
};
#include "runtime/text/unicode/normalization.inc"

// Hangul syllables are arithmetic: base + (leading * 21 + vowel) * 28 + trailing.
constexpr char32_t kSyllableBase = 0xAC00, kLeadingBase = 0x1100, kVowelBase = 0x1161, kTrailingBase = 0x11A7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28, kSyllableCount = 11172;

// Bytes that are no UTF-8 travel through normalisation as values no character has.
constexpr char32_t kRawByte = 0x110000;

std::span<const char32_t> lookUp(std::span<const Mapping> table, char32_t c) {
  auto it = std::lower_bound(table.begin(), table.end(), c,
                             [](const Mapping &m, char32_t x) { return m.from < x; });
  if (it == table.end() || it->from != c)
    return {};
  return std::span(kMappedText).subspan(it->offset, it->length);
}

uint8_t combiningClass(char32_t c) {
  if (c < kCombiningRanges[0].first)
    return 0;
  auto it = std::upper_bound(std::begin(kCombiningRanges), std::end(kCombiningRanges), c,
                             [](char32_t x, const CombiningRange &r) { return x < r.first; });
  --it;
  return c <= it->last ? it->combiningClass : 0;
}

void appendDecomposed(std::u32string &out, char32_t c) {
  if (c - kSyllableBase < kSyllableCount) {
    char32_t index = c - kSyllableBase;
    out.push_back(kLeadingBase + index / (kVowelCount * kTrailingCount));
    out.push_back(kVowelBase + index / kTrailingCount % kVowelCount);
    if (index % kTrailingCount != 0)
      out.push_back(kTrailingBase + index % kTrailingCount);
    return;
  }
  std::span<const char32_t> mapped = lookUp(kDecompositions, c);
  if (mapped.empty())
    out.push_back(c);
  else
    out.append(mapped.begin(), mapped.end());
}

// Sorts by combining class, marks of one class staying in order: the key is class, place, character.
void sortMarks(std::u32string::iterator begin, std::u32string::iterator end) {
  if (end - begin < 2)
    return;
  std::vector<uint64_t> keys;
  for (auto it = begin; it != end; ++it)
    keys.push_back(uint64_t(combiningClass(*it)) << 56 | uint64_t(it - begin) << 21 | *it);
  std::sort(keys.begin(), keys.end());
  for (uint64_t key : keys)
    *begin++ = static_cast<char32_t>(key & 0x1FFFFF);
}

std::u32string decompose(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    if (c.wellFormed)
      appendDecomposed(out, c.value);
    else
      for (size_t i = 0; i < c.length; ++i)
        out.push_back(kRawByte + static_cast<unsigned char>(text[at + i]));
    at += c.length;
  }
  // Canonical order: each run of marks is sorted.
  for (auto run = out.begin(); run != out.end();) {
    auto isMark = [](char32_t x) { return combiningClass(x) != 0; };
    run = std::find_if(run, out.end(), isMark);
    auto end = std::find_if_not(run, out.end(), isMark);
    sortMarks(run, end);
    run = end;
  }
  return out;
}

// 0: the two do not compose.
char32_t composePair(char32_t a, char32_t b) {
  if (a - kLeadingBase < kLeadingCount && b - kVowelBase < kVowelCount)
    return kSyllableBase + ((a - kLeadingBase) * kVowelCount + (b - kVowelBase)) * kTrailingCount;
  if (a - kSyllableBase < kSyllableCount && (a - kSyllableBase) % kTrailingCount == 0 &&
      b - kTrailingBase - 1 < kTrailingCount - 1)
    return a + (b - kTrailingBase);
  auto it = std::lower_bound(std::begin(kCompositions), std::end(kCompositions), std::pair(a, b),
                             [](const Composition &c, std::pair<char32_t, char32_t> x) {
                               return std::tie(c.first, c.second) < std::tie(x.first, x.second);
                             });
  return it != std::end(kCompositions) && it->first == a && it->second == b ? it->composite : 0;
}

void compose(std::u32string &text) {
  size_t length = 0, starter = 0;
  bool haveStarter = false;
  int lastClass = -1; // of what stands between the starter and here; -1: nothing does
  for (char32_t c : text) {
    int cls = combiningClass(c);
    if (haveStarter && lastClass < cls) {
      if (char32_t composite = composePair(text[starter], c)) {
        text[starter] = composite;
        continue;
      }
    }
    if (cls == 0) {
      starter = length;
      haveStarter = true;
      lastClass = -1;
    } else {
      lastClass = cls;
    }
    text[length++] = c;
  }
  text.resize(length);
}

std::string encode(const std::u32string &text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t c : text) {
    if (c >= kRawByte)
      out.push_back(static_cast<char>(c - kRawByte));
    else
      append(out, c);
  }
  return out;
}

// Below U+00C0 nothing decomposes, and below U+0300 nothing composes with what stands before it.
bool isBelow(std::string_view text, char32_t limit) {
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    if (c.wellFormed && c.value >= limit)
      return false;
    at += c.length;
  }
  return true;
}

} // namespace

std::string toNfc(std::string_view text) {
  if (isBelow(text, 0x300))
    return std::string(text);
  std::u32string characters = decompose(text);
  compose(characters);
  return encode(characters);
}

std::string toNfd(std::string_view text) {
  if (isBelow(text, 0xC0))
    return std::string(text);
  return encode(decompose(text));
}

void appendLowerCase(std::string &text, char32_t c) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    return;
  }
  std::span<const char32_t> mapped = lookUp(kLowerCase, c);
  if (mapped.empty())
    append(text, c);
  for (char32_t m : mapped)
    append(text, m);
}

} // namespace girih::unicode
