// SPDX-License-Identifier: Apache-2.0
// Finds added tokens in a text by narrowing a range of their sorted list, byte by byte.
#include "runtime/text/token_model.h"

#include "runtime/text/unicode/unicode.h"

#include <algorithm>
#include <array>

namespace girih {
namespace {

// Which bytes an added token may begin with: one look-up passes over nearly all text.
std::array<bool, 256> firstBytes(const Vocabulary &vocabulary) {
  std::array<bool, 256> first{};
  for (int32_t id : vocabulary.addedTokens())
    first[static_cast<uint8_t>(vocabulary.tokenBytes(id)[0])] = true;
  return first;
}

class Matcher {
public:
  Matcher(const Vocabulary &vocabulary, std::string_view text, bool parseSpecial,
          std::span<const size_t> barriers)
      : vocabulary(vocabulary), text(text), parseSpecial(parseSpecial), barriers(barriers) {}

  // The longest token that starts at `at` and is allowed there; -1: none.
  int32_t longestAt(size_t at) const {
    std::span<const int32_t> range = vocabulary.addedTokens();
    int32_t best = -1;
    for (size_t length = 0; !range.empty(); ++length) {
      // The token that ends here, if there is one, sorts before those that go on.
      if (vocabulary.tokenBytes(range.front()).size() == length) {
        if (length > 0 && isAllowed(range.front(), at, at + length))
          best = range.front();
        range = range.subspan(1);
      }
      if (at + length >= text.size())
        break;
      range = narrow(range, length, static_cast<uint8_t>(text[at + length]));
    }
    return best;
  }

private:
  std::span<const int32_t> narrow(std::span<const int32_t> range, size_t place, uint8_t byte) const {
    auto byteOf = [&](int32_t id) { return static_cast<uint8_t>(vocabulary.tokenBytes(id)[place]); };
    auto low =
        std::partition_point(range.begin(), range.end(), [&](int32_t id) { return byteOf(id) < byte; });
    auto high = std::partition_point(low, range.end(), [&](int32_t id) { return byteOf(id) == byte; });
    return {low, high};
  }

  bool isAllowed(int32_t id, size_t begin, size_t end) const {
    bool isGuarded = vocabulary.isGuarded(id);
    if (isGuarded && !parseSpecial)
      return false;
    auto barrier = std::upper_bound(barriers.begin(), barriers.end(), begin);
    // A message may not write control tokens; added words that are none stay what they are.
    if (isGuarded && barrier != barriers.end() && *barrier < end)
      return false;
    return !vocabulary.tokenHas(id, kTokenSingleWord) || (!isWordBefore(begin) && !isWordAt(end));
  }

  static bool isWordCharacter(char32_t c) {
    return c == '_' || (unicode::classOf(c) & (unicode::kLetter | unicode::kMark | unicode::kNumber));
  }
  bool isWordAt(size_t at) const {
    return at < text.size() && isWordCharacter(unicode::decodeAt(text, at).value);
  }
  bool isWordBefore(size_t at) const {
    if (at == 0)
      return false;
    do
      --at;
    while (at > 0 && (text[at] & 0xC0) == 0x80);
    return isWordCharacter(unicode::decodeAt(text, at).value);
  }

  const Vocabulary &vocabulary;
  std::string_view text;
  bool parseSpecial;
  std::span<const size_t> barriers;
};

bool isSpaceAt(std::string_view text, size_t at, size_t &length) {
  unicode::Character c = unicode::decodeAt(text, at);
  length = c.length;
  return unicode::classOf(c.value) & unicode::kSpace;
}

// Where white space before `end`, down to `begin`, starts.
size_t spaceBefore(std::string_view text, size_t begin, size_t end) {
  while (end > begin) {
    size_t at = end - 1, length;
    while (at > begin && (text[at] & 0xC0) == 0x80)
      --at;
    if (!isSpaceAt(text, at, length))
      break;
    end = at;
  }
  return end;
}

size_t spaceAfter(std::string_view text, size_t at) {
  for (size_t length; at < text.size() && isSpaceAt(text, at, length); at += length) {
  }
  return at;
}

} // namespace

std::vector<TextPart> cutAddedTokens(const Vocabulary &vocabulary, std::string_view text, bool parseSpecial,
                                     std::span<const size_t> barriers) {
  std::vector<TextPart> parts;
  std::array<bool, 256> first = firstBytes(vocabulary);
  Matcher matcher(vocabulary, text, parseSpecial, barriers);
  size_t gap = 0; // where the text since the last token begins
  for (size_t at = 0; at < text.size();) {
    int32_t id = first[static_cast<uint8_t>(text[at])] ? matcher.longestAt(at) : -1;
    if (id < 0) {
      ++at;
      continue;
    }
    size_t begin = vocabulary.tokenHas(id, kTokenStripLeft) ? spaceBefore(text, gap, at) : at;
    size_t end = at + vocabulary.tokenBytes(id).size();
    if (vocabulary.tokenHas(id, kTokenStripRight))
      end = spaceAfter(text, end);
    if (gap < begin)
      parts.push_back({text.substr(gap, begin - gap), -1});
    parts.push_back({text.substr(begin, end - begin), id});
    gap = at = end;
  }
  if (gap < text.size())
    parts.push_back({text.substr(gap), -1});
  return parts;
}

} // namespace girih
