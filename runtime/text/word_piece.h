// SPDX-License-Identifier: Apache-2.0
// WordPiece: BERT's normaliser, its word borders, and the greedy match of the longest piece.
#pragma once

#include "runtime/text/vocabulary.h"

#include <string>
#include <string_view>
#include <vector>

namespace girih {

// The four parts of Hugging Face's BertNormalizer that the vocabulary's flags ask for, in its order.
std::string normalizeForWordPiece(const Vocabulary &vocabulary, std::string_view text);

// Appends the ids of a normalised text: words end at white space and around each punctuation character.
void encodeByWordPiece(const Vocabulary &vocabulary, std::string_view text, std::vector<int32_t> &ids);

} // namespace girih
