// SPDX-License-Identifier: Apache-2.0
// ChatTemplate over the Rust library, which renders and marks.
#include "runtime/text/chat_template.h"

#include "runtime/text/ffi_call.h"

#include <cstdint>

namespace girih {

struct ChatTemplate::Compiled {
  explicit Compiled(GirihTemplate *handle) : handle(handle) {}
  Compiled(const Compiled &) = delete;
  ~Compiled() { girih_template_destroy(handle); }
  GirihTemplate *handle;
};

Expected<ChatTemplate> ChatTemplate::parse(std::string_view jinja, std::string_view bosText,
                                           std::string_view eosText,
                                           const std::vector<std::string> &specialTexts) {
  std::vector<GirihTextSlice> specials;
  for (const std::string &text : specialTexts)
    specials.push_back(ffiSlice(text));
  GirihTemplate *handle = nullptr;
  FfiBuffer error;
  if (girih_template_create(ffiSlice(jinja), ffiSlice(bosText), ffiSlice(eosText), specials.data(),
                            specials.size(), &handle, error.out()))
    return invalidArgument("the chat template does not parse: " + error.text());
  return ChatTemplate(std::make_shared<const Compiled>(handle));
}

Expected<ChatPrompt> ChatTemplate::render(const ChatRequest &request) const {
  FfiBuffer text, barriers, error;
  if (girih_template_render(compiled->handle, ffiSlice(request.messagesJson), ffiSlice(request.toolsJson),
                            ffiSlice(request.extraJson), request.addGenerationPrompt, text.out(),
                            barriers.out(), error.out()))
    return invalidArgument("applying the chat template: " + error.text());
  ChatPrompt prompt;
  prompt.text = text.text();
  for (uint64_t position : barriers.elements<uint64_t>())
    prompt.barriers.push_back(static_cast<size_t>(position));
  return prompt;
}

} // namespace girih
