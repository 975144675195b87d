// SPDX-License-Identifier: Apache-2.0
// ToolFields: functions only; whatever else calls itself a tool is refused.
#include "runtime/server/tool_fields.h"

#include <algorithm>
#include <cctype>

namespace girih::server {
namespace {

constexpr size_t kMaxNameBytes = 128;

std::string textOf(JsonValue object, std::string_view name) {
  auto value = object.find(name);
  return value && value->isString() ? std::string(*value->asString()) : std::string();
}

bool isPlainName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char letter) {
           return std::isalnum(letter) || letter == '_' || letter == '-' || letter == '.';
         });
}

const Tool *findTool(const ToolUse &toolUse, std::string_view name) {
  auto found = std::find_if(toolUse.tools.begin(), toolUse.tools.end(),
                            [&](const Tool &tool) { return tool.name == name; });
  return found == toolUse.tools.end() ? nullptr : &*found;
}

void readTool(RequestFields &fields, const std::string &place, JsonValue entry, ToolUse &toolUse) {
  std::string kind = textOf(entry, "type");
  if (kind != "function" && kind != "custom" && !(kind.empty() && entry.find("input_schema")))
    return fields.fail(place + ".type",
                       "must be \"function\"; other kinds of tools are not offered by this server",
                       "unsupported_parameter");
  JsonValue function = entry.find("function").value_or(entry);
  Tool tool{textOf(function, "name"), textOf(function, "description"),
            R"({"type":"object","properties":{},"additionalProperties":false})", false};
  if (!isPlainName(tool.name))
    return fields.fail(place + ".name",
                       "must be 1 to " + std::to_string(kMaxNameBytes) + " letters, digits, '_', '-' or '.'");
  if (findTool(toolUse, tool.name))
    return fields.fail(place + ".name", "is `" + tool.name + "`, as an earlier one is");
  auto parameters = function.find("parameters");
  if (!parameters)
    parameters = function.find("input_schema");
  if (parameters && !parameters->isNull() && !parameters->isObject())
    return fields.fail(place + ".parameters", "must be a JSON schema, an object", "invalid_type");
  if (parameters && parameters->isObject())
    tool.parametersJson = parameters->print();
  auto strict = function.find("strict");
  tool.isStrict = strict && strict->asBoolean().isOk() && *strict->asBoolean();
  toolUse.tools.push_back(std::move(tool));
}

// "auto", {"type": "any"}, {"type": "function", "function": {"name": ...}}, {"type": "tool", "name": ...}
void readChoice(RequestFields &fields, JsonValue choice, ToolUse &toolUse) {
  std::string kind = choice.isString() ? std::string(*choice.asString()) : textOf(choice, "type");
  if (auto single = choice.find("disable_parallel_tool_use"); single && single->asBoolean().isOk())
    toolUse.allowsMany = !*single->asBoolean();
  if (kind == "auto")
    return;
  if (kind == "none") {
    toolUse.choice = ToolUse::Choice::None;
    return;
  }
  bool isNamed = kind == "function" || kind == "tool";
  if (!isNamed && kind != "required" && kind != "any")
    return fields.fail("tool_choice", "must be auto, none, required, or name a function");
  if (toolUse.tools.empty())
    return fields.fail("tool_choice", "asks for a call, but there are no `tools`");
  toolUse.choice = ToolUse::Choice::Required;
  if (!isNamed)
    return;
  toolUse.named = textOf(choice.find("function").value_or(choice), "name");
  if (!findTool(toolUse, toolUse.named))
    return fields.fail("tool_choice",
                       "names `" + toolUse.named.substr(0, 100) + "`, which is none of the `tools`");
}

} // namespace

void takeTools(RequestFields &fields, ToolUse &toolUse) {
  if (auto tools = fields.take("tools")) {
    std::vector<JsonValue> entries = tools->elements();
    if (!tools->isArray() || entries.size() > kMaxTools)
      return fields.fail("tools", "must be an array of at most " + std::to_string(kMaxTools) + " functions",
                         "invalid_type");
    for (size_t index = 0; index < entries.size() && !fields.hasFailed(); ++index)
      readTool(fields, "tools[" + std::to_string(index) + "]", entries[index], toolUse);
  }
  fields.takeBoolean("parallel_tool_calls", toolUse.allowsMany);
  if (auto choice = fields.take("tool_choice"))
    readChoice(fields, *choice, toolUse);
}

} // namespace girih::server
