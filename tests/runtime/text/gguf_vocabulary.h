// SPDX-License-Identifier: Apache-2.0
// What a GGUF file says about text, for tests of the tokenizer.
#pragma once

#include "runtime/text/tokenizer.h"

#include <string>

namespace girih {

struct GgufText {
  GgufVocabulary vocabulary;
  std::string chatTemplate; // empty where the file has none
};
Expected<GgufText> readGgufText(const std::string &path);

} // namespace girih
