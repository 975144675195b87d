// SPDX-License-Identifier: Apache-2.0
// ToolFormat: renders a made-up call and looks at what stands around it.
#include "runtime/text/tool_format.h"

#include "runtime/base/json_reader.h"

#include <algorithm>
#include <optional>

namespace girih {
namespace {

constexpr std::string_view kTools =
    R"([{"type":"function","function":{"name":"probe_tool","description":"d","parameters":{"type":"object",)"
    R"("properties":{"probe_key":{"type":"string"}},"required":["probe_key"]}}}])";
constexpr std::string_view kQuestion = R"([{"role":"user","content":"q"}])";
// Nine letters and digits: one family of templates insists on them.
constexpr std::string_view kCall =
    R"([{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"id":"call12345",)"
    R"("type":"function","function":{"name":"probe_tool","arguments":{"probe_key":"v"}}}]}])";

std::optional<std::string> render(const ChatTemplate &chatTemplate, std::string_view messages,
                                  bool asksForAnswer) {
  auto prompt = chatTemplate.render({messages, kTools, {}, asksForAnswer});
  return prompt.isOk() ? std::optional(std::move(prompt->text)) : std::nullopt;
}

// Where the object that begins at `text` ends; npos: nowhere. Requires: no string in it has brackets or quotes.
size_t endOfObject(std::string_view text) {
  int depth = 0;
  for (size_t place = 0; place < text.size(); ++place) {
    depth += (text[place] == '{') - (text[place] == '}');
    if (depth == 0)
      return place + 1;
  }
  return std::string_view::npos;
}

// The key of the arguments, when the text is a call of the made-up tool.
std::optional<std::string> argumentsKeyOf(std::string_view object) {
  auto document = JsonDocument::parse(object);
  if (!document.isOk())
    return std::nullopt;
  std::vector<JsonMember> members = document->root().members();
  bool isCall =
      members.size() == 2 && members[0].key == "name" && members[1].value.find("probe_key").has_value();
  return isCall ? std::optional(std::string(members[1].key)) : std::nullopt;
}

bool hasSpecial(std::string_view text, const std::vector<std::string> &specialTexts) {
  return std::any_of(specialTexts.begin(), specialTexts.end(), [&](const std::string &special) {
    return !special.empty() && text.find(special) != text.npos;
  });
}

void trimEnd(std::string &text) { text.erase(text.find_last_not_of(" \n\t") + 1); }

} // namespace

ToolFormat findToolFormat(const ChatTemplate &chatTemplate, const std::vector<std::string> &specialTexts) {
  ToolFormat ours;
  auto question = render(chatTemplate, kQuestion, true), call = render(chatTemplate, kCall, false);
  if (!question || !call || question->find("probe_tool") == std::string::npos ||
      !call->starts_with(*question))
    return ours;
  std::string_view answer = std::string_view(*call).substr(question->size());
  size_t begin = answer.find('{');
  size_t size = begin == answer.npos ? begin : endOfObject(answer.substr(begin));
  if (size == answer.npos)
    return ours;
  auto argumentsKey = argumentsKeyOf(answer.substr(begin, size));
  ToolFormat native{true, std::string(answer.substr(0, begin)), std::string(answer.substr(begin + size)), ""};
  // What a model thought before it called is no part of the call.
  if (size_t thought = native.open.rfind("</think>"); thought != std::string::npos)
    native.open.erase(0, native.open.find_first_not_of(" \n", thought + 8));
  for (const std::string &special : specialTexts)
    if (!special.empty())
      native.close.erase(std::min(native.close.find(special), native.close.size()));
  trimEnd(native.close);
  if (!argumentsKey || hasSpecial(native.open, specialTexts))
    return ours;
  native.argumentsKey = *argumentsKey;
  return native;
}

} // namespace girih
