// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding of one piece of text, byte-level or SentencePiece, in the order of Hugging Face's BPE
// model.
#pragma once

#include "runtime/text/vocabulary.h"

#include <string_view>
#include <vector>

namespace girih {

// Appends the ids of `word`. `useWhole` false ignores kTokenWhole, which is how that flag is found out.
void encodeByPairs(const Vocabulary &vocabulary, std::string_view word, bool useWhole,
                   std::vector<int32_t> &ids);

} // namespace girih
