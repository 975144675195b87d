// SPDX-License-Identifier: Apache-2.0
// The table of split steps and the loop that applies them.
#include "runtime/text/split_text.h"

#include "runtime/text/unicode/unicode.h"
#include "runtime/text/word_patterns.h"

#include <algorithm>
#include <iterator>

namespace girih {
namespace {

using namespace unicode;

struct CharacterRange {
  char32_t first, last;
};
#include "runtime/text/cased_letters.inc"

constexpr CharacterRange kIdeographs[] = {{0x800, 0x4E00}, {0x4E00, 0x9FA5}, {0xAC00, 0xD7FF}};
constexpr CharacterRange kWidePunctuation[] = {{0x21, 0x2F},     {0x3A, 0x7E},     {0x2018, 0x201F},
                                               {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};

// Ranges are sorted.
bool isWithin(std::span<const CharacterRange> ranges, char32_t c) {
  auto it = std::lower_bound(ranges.begin(), ranges.end(), c,
                             [](const CharacterRange &range, char32_t x) { return range.last < x; });
  return it != ranges.end() && it->first <= c;
}

bool isCased(char32_t c) { return isWithin(kCasedLetters, c); }
bool isIdeograph(char32_t c) { return isWithin(kIdeographs, c); }
bool isWidePunctuation(char32_t c) { return isWithin(kWidePunctuation, c); }
bool isLetter(char32_t c) { return classOf(c) & kLetter; }
bool isPunctuation(char32_t c) { return classOf(c) & kPunctuation; }
bool isSplitPunctuation(char32_t c) { return classOf(c) & kSplitPunctuation; }
bool isDigit(char32_t c) { return classOf(c) & kDigit; }
bool isSpace(char32_t c) { return classOf(c) & kSpace; }
bool isLineFeed(char32_t c) { return c == '\n'; }

using Predicate = bool (*)(char32_t);

template <Predicate is> size_t matchRun(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size()) {
    Character c = decodeAt(text, end);
    if (!is(c.value))
      break;
    end += c.length;
  }
  return end - at;
}

template <Predicate is> size_t matchSingle(std::string_view text, size_t at) {
  Character c = decodeAt(text, at);
  return is(c.value) ? c.length : 0;
}

// \s?[...]+
template <Predicate is> size_t matchAfterSpace(std::string_view text, size_t at) {
  Character c = decodeAt(text, at);
  size_t space = isSpace(c.value) ? c.length : 0;
  if (at + space < text.size())
    if (size_t run = matchRun<is>(text, at + space))
      return space + run;
  return matchRun<is>(text, at);
}

size_t matchDigitTriple(std::string_view text, size_t at) {
  auto isAscii = [&](size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  return at + 3 <= text.size() && isAscii(at) && isAscii(at + 1) && isAscii(at + 2) ? 3 : 0;
}

size_t matchNewline(std::string_view text, size_t at) { return text[at] == '\r' || text[at] == '\n'; }

// Reads from the end, so that a text with many long runs costs no more than one pass.
size_t matchTrailingSpace(std::string_view text, size_t at) {
  for (size_t last = text.size(); last > at;) {
    size_t start = last - 1;
    while (start > at && (text[start] & 0xC0) == 0x80)
      --start;
    if (!isSpace(decodeAt(text, start).value))
      return 0;
    last = start;
  }
  return text.size() - at;
}

// ByteLevel writes the byte BD as "½", and Digits behind it takes that for a number: so do Falcon's merges.
size_t matchByteDigits(std::string_view text, size_t at) {
  auto isNumeric = [](unsigned char b) {
    return (b >= '0' && b <= '9') || b == 0xB2 || b == 0xB3 || b == 0xB9 || (b >= 0xBC && b <= 0xBE);
  };
  size_t end = at;
  while (end < text.size() && isNumeric(static_cast<unsigned char>(text[end])))
    ++end;
  return end - at;
}

using Match = size_t (*)(std::string_view, size_t);

// Indexed by SplitStep.
constexpr Match kMatches[] = {
    nullptr,
    matchGpt2,
    [](std::string_view text, size_t at) { return matchLlama3(text, at, 3, false); },
    [](std::string_view text, size_t at) { return matchLlama3(text, at, 1, false); },
    matchSingle<isDigit>,
    matchRun<isDigit>,
    matchRun<isSplitPunctuation>,
    matchDigitTriple,
    matchNewline,
    matchAfterSpace<isLetter>,
    matchAfterSpace<isPunctuation>,
    matchRun<isIdeograph>,
    matchAfterSpace<isCased>,
    matchAfterSpace<isWidePunctuation>,
    matchTrailingSpace,
    [](std::string_view text, size_t at) { return matchCased(text, at, 3, true); },
    [](std::string_view text, size_t at) { return matchCased(text, at, 1, false); },
    [](std::string_view text, size_t at) { return matchLlama3(text, at, 1, true); },
    matchRun<isLineFeed>,
    matchByteDigits,
};

void splitPiece(SplitStep step, std::string_view text, std::vector<std::string_view> &out) {
  Match match = kMatches[size_t(step)];
  bool isBytewise = step == SplitStep::ByteDigitRuns;
  size_t gap = 0; // where the text that nothing matched begins
  for (size_t at = 0; at < text.size();) {
    size_t length = match(text, at);
    if (length == 0) {
      at += isBytewise ? 1 : decodeAt(text, at).length;
      continue;
    }
    if (gap < at)
      out.push_back(text.substr(gap, at - gap));
    out.push_back(text.substr(at, length));
    gap = at += length;
  }
  if (gap < text.size())
    out.push_back(text.substr(gap));
}

} // namespace

size_t matchStep(SplitStep step, std::string_view text, size_t at) {
  return kMatches[size_t(step)](text, at);
}

std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitStep> steps) {
  std::vector<std::string_view> pieces, cut;
  if (!text.empty())
    pieces.push_back(text);
  for (SplitStep step : steps) {
    if (step == SplitStep::None || size_t(step) >= std::size(kMatches))
      break;
    cut.clear();
    for (std::string_view piece : pieces)
      splitPiece(step, piece, cut);
    pieces.swap(cut);
  }
  return pieces;
}

} // namespace girih
