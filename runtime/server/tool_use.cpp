// SPDX-License-Identifier: Apache-2.0
// ToolUse: for templates without tools, calls and their answers become text of the messages.
#include "runtime/server/tool_use.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <random>

namespace girih::server {
namespace {

void writeFunction(JsonWriter &writer, const Tool &tool) {
  writer.beginObject().member("name", tool.name);
  if (!tool.description.empty())
    writer.member("description", tool.description);
  writer.key("parameters").raw(tool.parametersJson).endObject();
}

// As OpenAI's chat has them, which templates were written for.
std::string toolsJson(const std::vector<Tool> &tools) {
  JsonWriter writer;
  writer.beginArray();
  for (const Tool &tool : tools) {
    writer.beginObject().member("type", "function").key("function");
    writeFunction(writer, tool);
    writer.endObject();
  }
  return writer.endArray().take();
}

std::string describe(const ToolFormat &format, const std::vector<Tool> &tools) {
  std::string text = "You can call functions. To call one, answer with nothing but\n" + format.open +
                     R"({"name": <name>, ")" + format.argumentsKey + R"(": <object>})" + format.close +
                     "\nand wait for what it gives. The functions, with JSON schemas of their " +
                     format.argumentsKey + ":";
  for (const Tool &tool : tools) {
    JsonWriter writer;
    writeFunction(writer, tool);
    text += "\n" + writer.take();
  }
  return text;
}

std::string textOf(JsonValue object, std::string_view name) {
  auto value = object.find(name);
  return value && value->isString() ? std::string(*value->asString()) : std::string();
}

// A string, or the texts of parts, a line each.
std::string contentOf(JsonValue message) {
  auto content = message.find("content");
  if (!content || !content->isArray())
    return textOf(message, "content");
  std::string all;
  for (JsonValue part : content->elements())
    all += (all.empty() ? "" : "\n") + textOf(part, "text");
  return all;
}

std::string textOfCalls(const ToolFormat &format, JsonValue calls) {
  std::string all;
  for (JsonValue call : calls.elements()) {
    JsonValue function = call.find("function").value_or(JsonValue());
    JsonWriter name;
    name.value(textOf(function, "name"));
    all += (all.empty() ? "" : "\n") + format.open + R"({"name": )" + name.take() + ", \"" +
           format.argumentsKey + "\": " + function.find("arguments").value_or(JsonValue()).print() + "}" +
           format.close;
  }
  return all;
}

void writeMessage(JsonWriter &writer, std::string_view role, const std::string &content) {
  writer.beginObject().member("role", role).member("content", content).endObject();
}

std::string withToolsAsText(const ToolFormat &format, const ChatInput &chat, const std::string &description) {
  auto document = JsonDocument::parse(chat.messagesJson);
  if (!document.isOk())
    return chat.messagesJson; // the template says what is wrong with it
  std::vector<JsonValue> messages = document->root().elements();
  JsonWriter writer;
  writer.beginArray();
  bool hasSystem = !messages.empty() && textOf(messages.front(), "role") == "system";
  if (!description.empty())
    writeMessage(writer, "system", (hasSystem ? contentOf(messages.front()) + "\n\n" : "") + description);
  for (size_t index = hasSystem && !description.empty(); index < messages.size(); ++index) {
    JsonValue message = messages[index];
    std::string role = textOf(message, "role"), content = contentOf(message);
    if (role == "tool")
      writeMessage(writer, "user", "<tool_response>\n" + content + "\n</tool_response>");
    else if (auto calls = message.find("tool_calls"); calls && calls->isArray() && !calls->elements().empty())
      writeMessage(writer, role, content + (content.empty() ? "" : "\n") + textOfCalls(format, *calls));
    else
      writer.raw(message.print());
  }
  return writer.endArray().take();
}

// What the grammar of an answer with calls is made of.
std::string describeCalls(const ToolFormat &format, const ToolUse &toolUse, const std::string &answerSchema) {
  bool mustCall = toolUse.choice == ToolUse::Choice::Required;
  JsonWriter writer;
  writer.beginObject().member("open", format.open).member("close", format.close);
  writer.member("arguments", format.argumentsKey).key("tools").beginArray();
  for (const Tool &tool : toolUse.tools)
    if (toolUse.named.empty() || toolUse.named == tool.name)
      writer.beginObject().member("name", tool.name).key("parameters").raw(tool.parametersJson).endObject();
  writer.endArray().member("many", toolUse.allowsMany && toolUse.named.empty());
  writer.member("text", !mustCall && answerSchema.empty());
  if (!answerSchema.empty())
    writer.key("answer").raw(answerSchema);
  return writer.endObject().take();
}

} // namespace

std::optional<ApiError> applyTools(const ToolFormat &format, ChatCompletionRequest &request) {
  const ToolUse &toolUse = request.toolUse;
  bool mayCall = toolUse.mayCall();
  if (format.isNative && mayCall)
    request.chat.toolsJson = toolsJson(toolUse.tools);
  if (!format.isNative && (mayCall || request.chat.hasToolTurns))
    request.chat.messagesJson =
        withToolsAsText(format, request.chat, mayCall ? describe(format, toolUse.tools) : std::string());
  if (!mayCall)
    return std::nullopt;
  std::optional<AnswerShape> &shape = request.generation.shape;
  bool mustCall = toolUse.choice == ToolUse::Choice::Required;
  if (shape && !mustCall && shape->kind != GrammarKind::JsonSchema)
    return invalidField(shape->field,
                        "`" + shape->field + "` with `tools` must be a JSON schema, or `tool_choice` none",
                        "unsupported_parameter");
  // A call that has no mark of its own cannot be told from text that it stands in.
  bool isStrict = !format.open.empty() && std::any_of(toolUse.tools.begin(), toolUse.tools.end(),
                                                      [](const Tool &tool) { return tool.isStrict; });
  if (!mustCall && !shape && !isStrict)
    return std::nullopt;
  std::string schema = shape && !mustCall ? shape->source : std::string();
  if (!schema.empty() && !JsonDocument::parse(schema, kMaxJsonDepth).isOk())
    return invalidField(shape->field, "`" + shape->field + "` has a schema that is not JSON");
  shape = AnswerShape{GrammarKind::ToolCalls, describeCalls(format, toolUse, schema), "tools"};
  return std::nullopt;
}

std::string makeId(std::string_view prefix) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  thread_local std::random_device device;
  std::string id(prefix);
  for (int index = 0; index < 24; ++index)
    id += kLetters[device() % kLetters.size()];
  return id;
}

} // namespace girih::server
