// SPDX-License-Identifier: Apache-2.0
// ToolFormat: how a model writes the call of a tool, found by showing its chat template one.
#pragma once

#include "runtime/text/chat_template.h"

namespace girih {

// A call is `open`, {"name": ..., "<argumentsKey>": {...}}, `close`.
struct ToolFormat {
  // The template shows tools, calls and answers to the model itself; else the caller writes them into messages.
  bool isNative = false;
  std::string open = "<tool_call>\n"; // empty: a call is the whole answer
  std::string close = "\n</tool_call>";
  std::string argumentsKey = "arguments";
};

// `specialTexts`: Tokenizer::specialTexts(). A template that writes calls otherwise than as one JSON object between
// texts (special tokens are none: they are not seen in an answer's text) is treated as one that knows no tools.
ToolFormat findToolFormat(const ChatTemplate &chatTemplate, const std::vector<std::string> &specialTexts);

} // namespace girih
