// SPDX-License-Identifier: Apache-2.0
// Reads a tokenizer.json into a description, if the own engine knows every part of its pipeline.
#pragma once

#include "runtime/text/vocabulary_builder.h"

#include <optional>
#include <string>

namespace simdjson::dom {
class element;
}

namespace girih {

// What the reading of one file gathers.
struct TokenizerJsonReading {
  VocabularyDescription description;
  // Why the own engine cannot run the pipeline; empty: it can.
  std::string unknownPart;
};

// The steps before the model: normalizer and pre_tokenizer. Fill the description's flags and steps.
void readNormalizer(const simdjson::dom::element &normalizer, TokenizerJsonReading &reading);
void readPreTokenizer(const simdjson::dom::element &preTokenizer, TokenizerJsonReading &reading);
// What follows: decoder, and the tokens that post_processor puts around a text.
void readDecoder(const simdjson::dom::element &decoder, TokenizerJsonReading &reading);
void readPostProcessor(const simdjson::dom::element &postProcessor, TokenizerJsonReading &reading);

} // namespace girih
