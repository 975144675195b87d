// SPDX-License-Identifier: Apache-2.0
// ChatTemplate: a checkpoint's Jinja chat template, rendered as Hugging Face does, without letting messages
// forge tokens.
#pragma once

#include "runtime/base/expected.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace girih {

// A rendered conversation. Encode `text` with `barriers` in EncodeOptions: a special token typed in a message
// then stays text, and the ids are otherwise those of the whole text, across the borders between template and
// messages.
struct ChatPrompt {
  std::string text;
  std::vector<size_t> barriers; // ascending byte positions that no special token may span
};

struct ChatRequest {
  std::string_view messagesJson;   // array of messages as in the OpenAI API
  std::string_view toolsJson = {}; // array of tools; empty: none
  std::string_view extraJson = {}; // object of further template variables (`enable_thinking`); empty: none
  bool addGenerationPrompt = true;
};

// Immutable and thread-safe; copies share the compiled template.
class ChatTemplate {
public:
  // `specialTexts`: Tokenizer::specialTexts(), the texts that messages may not turn into tokens.
  static Expected<ChatTemplate> parse(std::string_view jinja, std::string_view bosText,
                                      std::string_view eosText,
                                      const std::vector<std::string> &specialTexts = {});
  // InvalidArgument: the JSON is malformed, or the template refused the messages (`raise_exception`).
  Expected<ChatPrompt> render(const ChatRequest &request) const;

private:
  struct Compiled;
  explicit ChatTemplate(std::shared_ptr<const Compiled> compiled) : compiled(std::move(compiled)) {}
  std::shared_ptr<const Compiled> compiled;
};

} // namespace girih
