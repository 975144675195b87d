// SPDX-License-Identifier: Apache-2.0
// Merges of a byte pair encoding: written ones resolved to ids, or recovered from a vocabulary that lists
// none.
#pragma once

#include "runtime/text/vocabulary_builder.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace girih {

using TokenIndex = std::unordered_map<std::string_view, int32_t>;

// Written merges as pairs of token spellings, best first; `index` holds the same spellings. A merge whose
// result is a special token is left out, so that no text can grow into one.
Expected<std::vector<VocabularyDescription::Merge>>
resolveMerges(const std::vector<std::pair<std::string_view, std::string_view>> &written,
              const TokenIndex &index, const std::vector<TokenDescription> &tokens);

// SentencePiece: every way to cut a token into two tokens is a merge; the higher the token's score, the
// earlier. Of equal scores the order is that of Hugging Face's converter. `spellings` are the texts merged,
// by id; empty: not one.
std::vector<VocabularyDescription::Merge> deriveMerges(const std::vector<std::string> &spellings,
                                                       const std::vector<float> &scores);

} // namespace girih
