// SPDX-License-Identifier: Apache-2.0
// What a checkpoint says about text: its tokenizer, chat template and special tokens, as the program file carries them.
#pragma once

#include "runtime/text/tokenizer.h"
#include "runtime/weights/weight_store.h"

#include <optional>
#include <string>

namespace girih::compiler {

struct TextAssets {
  std::optional<Tokenizer> tokenizer;  // absent: only token ids can be fed
  std::string chatTemplate;            // Jinja; empty: none
  std::string bosText, eosText;
  std::string note;  // why there is no tokenizer
};

// A checkpoint without a tokenizer is fine, one with a tokenizer that does not load is reported in `note`.
// Fails: DataLoss, InvalidArgument (metadata of another type than the format says).
Expected<TextAssets> readTextAssets(const weights::WeightStore &store);

}  // namespace girih::compiler
