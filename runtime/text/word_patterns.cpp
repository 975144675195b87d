// SPDX-License-Identifier: Apache-2.0
// Backtracking is worked out by hand: each function says where an expression would have stepped back.
#include "runtime/text/word_patterns.h"

#include "runtime/text/unicode/unicode.h"

namespace girih {
namespace {

using namespace unicode;

// The classes of the character at a position, and where the next one starts; past the end there are none.
struct Peek {
  char32_t value = 0;
  uint16_t classes = 0;
  size_t next = 0;
  bool isEnd = true;
  bool is(uint16_t mask) const { return classes & mask; }
  // [^\s\p{L}\p{N}] and the like.
  bool isNone(uint16_t mask) const { return !isEnd && !(classes & mask); }
};

Peek peek(std::string_view text, size_t at) {
  if (at >= text.size())
    return {0, 0, at, true};
  Character c = decodeAt(text, at);
  return {c.value, classOf(c.value), at + c.length, false};
}

// Where the run of characters with any of `mask` that starts at `at` ends.
size_t runEnd(std::string_view text, size_t at, uint16_t mask, size_t most = SIZE_MAX) {
  for (Peek c = peek(text, at); most > 0 && c.is(mask); --most, c = peek(text, at))
    at = c.next;
  return at;
}

size_t otherEnd(std::string_view text, size_t at, uint16_t mask) {
  for (Peek c = peek(text, at); c.isNone(mask); c = peek(text, at))
    at = c.next;
  return at;
}

bool isNewline(char32_t c) { return c == '\r' || c == '\n'; }

// 's 't 'm 'd 're 've 'll after the apostrophe at `at`. In any case, Unicode's folding adds the long s to the
// letters.
size_t contractionEnd(std::string_view text, size_t at, bool anyCase) {
  if (at >= text.size() || text[at] != '\'')
    return 0;
  auto letterAt = [&](size_t i) -> char {
    if (i >= text.size())
      return 0;
    return anyCase && text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
  };
  char a = letterAt(at + 1), b = letterAt(at + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd')
    return at + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
    return at + 3;
  if (anyCase && text.substr(at + 1, 2) == "\xC5\xBF") // U+017F
    return at + 3;
  return 0;
}

// \s+(?!\S)|\s+ where a space character stands at `at`: the run gives its last character to what follows, if
// it can.
size_t spacesLength(std::string_view text, size_t at) {
  size_t end = at, last = at;
  for (Peek c = peek(text, at); c.is(kSpace); c = peek(text, end)) {
    last = end;
    end = c.next;
  }
  return (end == text.size() || last == at ? end : last) - at;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last newline of the run, where there is one.
size_t linesOrSpacesLength(std::string_view text, size_t at) {
  size_t end = at, afterNewline = at;
  for (Peek c = peek(text, at); c.is(kSpace); c = peek(text, end)) {
    end = c.next;
    if (isNewline(c.value))
      afterNewline = end;
  }
  return afterNewline > at ? afterNewline - at : spacesLength(text, at);
}

//  ?[^...]+[\r\n]* and its like; 0 where the class does not match.
size_t symbolsEnd(std::string_view text, size_t at, uint16_t excluded, bool slashEnds) {
  size_t start = at + (text[at] == ' ');
  size_t end = otherEnd(text, start, excluded);
  if (end == start)
    return 0;
  while (end < text.size() && (isNewline(text[end]) || (slashEnds && text[end] == '/')))
    ++end;
  return end;
}

// U*W+ : the run of U gives back characters until the last one given back is also in W.
size_t lowerWordEnd(std::string_view text, size_t at) {
  size_t upperEnd = at, lastShared = SIZE_MAX;
  for (Peek c = peek(text, at); c.is(kUpperOrCaseless); c = peek(text, upperEnd)) {
    if (c.is(kLowerOrCaseless))
      lastShared = upperEnd;
    upperEnd = c.next;
  }
  size_t end = runEnd(text, upperEnd, kLowerOrCaseless);
  if (end > upperEnd)
    return end;
  return lastShared == SIZE_MAX ? 0 : runEnd(text, lastShared, kLowerOrCaseless);
}

// U+W*
size_t upperWordEnd(std::string_view text, size_t at) {
  size_t upperEnd = runEnd(text, at, kUpperOrCaseless);
  return upperEnd == at ? 0 : runEnd(text, upperEnd, kLowerOrCaseless);
}

} // namespace

size_t matchGpt2(std::string_view text, size_t at) {
  if (size_t end = contractionEnd(text, at, false))
    return end - at;
  Peek c = peek(text, at);
  size_t start = c.value == ' ' ? c.next : at;
  Peek first = start == at ? c : peek(text, start);
  if (first.is(kLetter))
    return runEnd(text, first.next, kLetter) - at;
  if (first.is(kNumber))
    return runEnd(text, first.next, kNumber) - at;
  if (first.isNone(kSpace))
    return otherEnd(text, first.next, kSpace | kLetter | kNumber) - at;
  return spacesLength(text, at);
}

size_t matchLlama3(std::string_view text, size_t at, int maxDigits, bool withMarks) {
  if (size_t end = contractionEnd(text, at, true))
    return end - at;
  uint16_t letters = withMarks ? kLetter | kMark : kLetter;
  Peek c = peek(text, at);
  if (c.is(kLetter))
    return runEnd(text, c.next, letters) - at;
  if (c.isNone(kNumber) && !isNewline(c.value)) {
    if (size_t end = runEnd(text, c.next, letters); end > c.next)
      return end - at;
    if (c.is(letters)) // a lone mark: the optional first character steps back
      return c.next - at;
  }
  if (c.is(kNumber))
    return runEnd(text, at, kNumber, static_cast<size_t>(maxDigits)) - at;
  if (size_t end = symbolsEnd(text, at, kSpace | letters | kNumber, false))
    return end - at;
  return linesOrSpacesLength(text, at);
}

size_t matchCased(std::string_view text, size_t at, int maxDigits, bool contractions) {
  Peek c = peek(text, at);
  // The optional first character is taken if a word follows it, else the word starts here.
  bool mayPrefix = c.isNone(kLetter | kNumber) && !isNewline(c.value);
  for (auto wordEnd : {lowerWordEnd, upperWordEnd}) {
    size_t end = mayPrefix ? wordEnd(text, c.next) : 0;
    if (end == 0)
      end = wordEnd(text, at);
    if (end == 0)
      continue;
    size_t tail = contractions ? contractionEnd(text, end, true) : 0;
    return (tail ? tail : end) - at;
  }
  if (c.is(kNumber))
    return runEnd(text, at, kNumber, static_cast<size_t>(maxDigits)) - at;
  if (size_t end = symbolsEnd(text, at, kSpace | kLetter | kNumber, true))
    return end - at;
  return linesOrSpacesLength(text, at);
}

} // namespace girih
