// SPDX-License-Identifier: Apache-2.0
// Lays a described vocabulary out as the bytes that Vocabulary::view reads.
#pragma once

#include "runtime/text/vocabulary.h"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace girih {

struct TokenDescription {
  std::string bytes;  // what the token stands for
  uint16_t flags = 0; // TokenFlag
  bool isWord = true; // the encoder may find it by its bytes
};

// Everything that the two importers say about a tokenizer.
struct VocabularyDescription {
  TokenizerKind kind = TokenizerKind::ByteLevelBpe;
  uint32_t flags = 0; // VocabularyFlag
  std::vector<SplitStep> splitSteps;
  std::vector<TokenDescription> tokens;
  struct Merge {
    int32_t left, right, result;
  };
  std::vector<Merge> merges; // best first
  std::vector<int32_t> byteTokens = std::vector<int32_t>(256, -1);
  int32_t bosToken = -1, eosToken = -1, unknownToken = -1;
  std::vector<int32_t> prefix, suffix;
  std::string crateJson;
};

// InvalidArgument where the description does not fit the form. Finds kTokenWhole and kWordsStartWithSpace
// itself.
Expected<std::vector<std::byte>> buildVocabulary(const VocabularyDescription &description);

} // namespace girih
