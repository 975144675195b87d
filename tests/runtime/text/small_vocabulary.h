// SPDX-License-Identifier: Apache-2.0
// Small vocabularies of each kind, for tests that read as documentation.
#pragma once

#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode/unicode.h"

#include <string>

namespace girih {

// A byte in GPT-2's alphabet: itself if printable, else U+0100 and on.
inline std::string spelledByte(int byte) {
  auto isPlain = [](int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  int shifted = 0;
  for (int b = 0; b < byte; ++b)
    shifted += !isPlain(b);
  std::string out;
  unicode::append(out, static_cast<char32_t>(isPlain(byte) ? byte : 0x100 + shifted));
  return out;
}

constexpr int32_t kBegin = 256, kEnd = 257,
                  kTool = 258; // <|begin|> and <|end|> are control tokens, <tool> is not
constexpr int32_t kHe = 259, kLl = 260, kHell = 261, kHello = 262, kSpaceHello = 264;

// Ids 0 to 255 are the bytes.
inline GgufVocabulary smallByteLevel() {
  GgufVocabulary v;
  v.model = "gpt2";
  v.preTokenizer = "gpt-2";
  for (int byte = 0; byte < 256; ++byte)
    v.tokens.push_back(spelledByte(byte));
  const std::string space = spelledByte(' ');
  for (std::string token :
       {std::string("<|begin|>"), std::string("<|end|>"), std::string("<tool>"), std::string("he"),
        std::string("ll"), std::string("hell"), std::string("hello"), space + "h", space + "hello"})
    v.tokens.push_back(token);
  v.tokenTypes.assign(v.tokens.size(), 1);
  v.tokenTypes[kBegin] = v.tokenTypes[kEnd] = 3;
  v.tokenTypes[kTool] = 4;
  v.merges = {"l l", "h e", "he ll", "hell o", space + " hello"};
  v.bosToken = kBegin;
  v.eosToken = kEnd;
  return v;
}

inline GgufVocabulary smallSentencePiece() {
  GgufVocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>", "<s>", "</s>"};
  v.tokenTypes = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    v.tokens.push_back(name);
    v.tokenTypes.push_back(6);
  }
  v.scores.assign(v.tokens.size(), 0.0f);
  float score = -1;
  for (const char *token : {"▁a", "▁ab", "bc", "▁", "a", "b", "c"}) { // better scores first
    v.tokens.push_back(token);
    v.tokenTypes.push_back(1);
    v.scores.push_back(score--);
  }
  v.unknownToken = 0;
  v.bosToken = 1;
  v.eosToken = 2;
  return v;
}

inline GgufVocabulary smallWordPiece() {
  GgufVocabulary v;
  v.model = "bert";
  v.tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "aff", "able", "▁.", "▁caf", "e", "▁中"};
  v.tokenTypes = {3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  v.unknownToken = 1;
  v.classToken = 2;
  v.separatorToken = 3;
  return v;
}

} // namespace girih
