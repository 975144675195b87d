// SPDX-License-Identifier: Apache-2.0
// WordPiece after Hugging Face's BertNormalizer, BertPreTokenizer and WordPiece model.
#include "runtime/text/word_piece.h"

#include "runtime/text/unicode/unicode.h"

namespace girih {
namespace {

using namespace unicode;

// A longer word is unknown as a whole.
constexpr size_t kMaxWordCharacters = 100;

bool isChineseCharacter(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

template <typename Append> std::string mapCharacters(std::string_view text, Append append) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    append(out, c.value);
    at += c.length;
  }
  return out;
}

void appendClean(std::string &out, char32_t c) {
  uint16_t classes = classOf(c);
  if (classes & kBertSpace)
    out.push_back(' ');
  else if (!(classes & kBertRemoved))
    append(out, c);
}

void appendApart(std::string &out, char32_t c) {
  bool apart = isChineseCharacter(c);
  if (apart)
    out.push_back(' ');
  append(out, c);
  if (apart)
    out.push_back(' ');
}

void appendUnaccented(std::string &out, char32_t c) {
  if (!(classOf(c) & kBertAccent))
    append(out, c);
}

// The longest piece that `word` starts with; what is left follows as continuations. False: the word has no
// pieces.
bool appendPieces(const Vocabulary &vocabulary, std::string_view word, std::vector<int32_t> &ids) {
  for (size_t start = 0; start < word.size();) {
    size_t end = word.size();
    int32_t id = -1;
    for (; end > start; --end) {
      if (end < word.size() && (word[end] & 0xC0) == 0x80)
        continue; // not between two characters
      id = vocabulary.findWord(word.substr(start, end - start), start > 0);
      if (id >= 0)
        break;
    }
    if (id < 0)
      return false;
    ids.push_back(id);
    start = end;
  }
  return true;
}

void encodeWord(const Vocabulary &vocabulary, std::string_view word, std::vector<int32_t> &ids) {
  size_t characters = 0;
  for (char c : word)
    characters += (c & 0xC0) != 0x80;
  size_t begin = ids.size();
  if (characters <= kMaxWordCharacters && appendPieces(vocabulary, word, ids))
    return;
  ids.resize(begin);
  if (vocabulary.header().unknownToken >= 0)
    ids.push_back(vocabulary.header().unknownToken);
}

} // namespace

std::string normalizeForWordPiece(const Vocabulary &vocabulary, std::string_view text) {
  std::string out(text);
  if (vocabulary.has(kCleanText))
    out = mapCharacters(out, appendClean);
  if (vocabulary.has(kSplitIdeographs))
    out = mapCharacters(out, appendApart);
  if (vocabulary.has(kStripAccents))
    out = mapCharacters(toNfd(out), appendUnaccented);
  if (vocabulary.has(kLowerCase))
    out = mapCharacters(out, appendLowerCase);
  return out;
}

void encodeByWordPiece(const Vocabulary &vocabulary, std::string_view text, std::vector<int32_t> &ids) {
  size_t word = 0; // where the word being read begins
  auto finishWord = [&](size_t end) {
    if (word < end)
      encodeWord(vocabulary, text.substr(word, end - word), ids);
  };
  for (size_t at = 0; at < text.size();) {
    Character c = decodeAt(text, at);
    size_t next = at + c.length;
    uint16_t classes = classOf(c.value);
    if (classes & (kSpace | kSplitPunctuation)) {
      finishWord(at);
      if (classes & kSplitPunctuation)
        encodeWord(vocabulary, text.substr(at, c.length), ids);
      word = next;
    }
    at = next;
  }
  finishWord(text.size());
}

} // namespace girih
