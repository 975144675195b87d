// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as a tokenizer's stored form; whatever loads must encode and decode any text.
#include "runtime/text/tokenizer.h"

#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  std::vector<std::byte> form(numBytes); // aligned, as a mapped section is
  if (numBytes != 0)
    std::memcpy(form.data(), bytes, numBytes);
  auto tokenizer = girih::Tokenizer::load(form);
  if (!tokenizer.isOk() || tokenizer->kind() == "tokenizers")
    return 0;
  // The end of the input is the text, besides one that reaches every step.
  std::string tail(reinterpret_cast<const char *>(bytes) + numBytes - std::min<size_t>(numBytes, 64),
                   std::min<size_t>(numBytes, 64));
  size_t barriers[] = {3};
  for (std::string text :
       {std::string("<|end|> Hello hello's 12\n\n x \xE2\x96\x81\xC3\xA9\xFF lllll<tool>"), tail}) {
    for (auto malformed : {girih::MalformedText::Keep, girih::MalformedText::Replace}) {
      auto ids = tokenizer->encode(text, {.malformed = malformed});
      if (ids.isOk()) {
        (void)tokenizer->decode(*ids, true);
        girih::StreamingDecoder decoder(*tokenizer, false);
        for (int32_t id : *ids)
          (void)decoder.push(id);
        (void)decoder.finish();
      }
    }
  }
  (void)tokenizer->encode("<|end|> plain", {.parseSpecial = false});
  (void)tokenizer->encode("<|end|> ascii", {.barriers = barriers});
  for (int32_t id = -1; id <= std::min(tokenizer->vocabSize(), 300); ++id)
    (void)tokenizer->tokenToId(tokenizer->idToToken(id));
  return 0;
}
