// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a JSON schema, a Lark grammar or a regular expression (by the first byte), and texts that it allows.
#include "runtime/text/grammar.h"

#include <cstdlib>

namespace {

using namespace girih;

constexpr int32_t kEnd = 256;

Tokenizer byteTokenizer() {
  GgufVocabulary words;
  words.model = "llama";
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    words.tokens.push_back(name);
  }
  words.tokens.push_back("</s>");
  words.tokenTypes.assign(256, 6);
  words.tokenTypes.push_back(3);
  words.scores.assign(257, 0.0f);
  words.eosToken = kEnd;
  return Tokenizer::fromGguf(words).value();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  static const Tokenizer tokenizer = byteTokenizer();
  static const GrammarVocabulary vocabulary = GrammarVocabulary::create(tokenizer, kEnd).value();
  if (numBytes == 0)
    return 0;
  std::string_view source(reinterpret_cast<const char *>(bytes + 1), numBytes - 1);
  auto grammar = Grammar::create(vocabulary, static_cast<GrammarKind>(bytes[0] % 3), source);
  if (!grammar.isOk())
    return 0;
  std::vector<uint32_t> mask(static_cast<size_t>(tokenizer.vocabSize() + 31) / 32);
  uint32_t state = 1;
  for (int step = 0; step < 24; ++step) {
    if (!grammar->fillMask(mask).isOk())
      return 0;
    int32_t token = static_cast<int32_t>((state = state * 1664525 + 1013904223) >> 8) % (kEnd + 1);
    for (int tries = 0; !(mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1); ++tries) {
      if (tries > kEnd)
        std::abort(); // nothing may come next, not even the end
      token = (token + 1) % (kEnd + 1);
    }
    if (token == kEnd || !grammar->accept(token).isOk())
      return 0;
  }
  return 0;
}
