// SPDX-License-Identifier: Apache-2.0
// ChatFields: roles and contents checked, everything else of a message handed to the template as it is.
#include "runtime/server/chat_fields.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <array>

namespace girih::server {
namespace {

// Null when the content is text (or nothing); else what is wrong with it.
const char *faultOfContent(std::optional<JsonValue> content) {
  if (!content || content->isNull() || content->isString())
    return nullptr;
  if (!content->isArray())
    return "has a content that is neither a string nor an array of text parts";
  for (JsonValue part : content->elements()) {
    auto kind = part.find("type"), text = part.find("text");
    if (!kind || !kind->isString() || *kind->asString() != "text")
      return "has a content part that is not of type \"text\"; this model reads text only";
    if (!text || !text->isString())
      return "has a text part without a string `text`";
  }
  return nullptr;
}

// The API has arguments as a string of JSON; templates want what it says. False when a call has no name.
bool writeToolCalls(JsonWriter &writer, JsonValue calls) {
  writer.beginArray();
  for (JsonValue call : calls.elements()) {
    JsonValue function = call.find("function").value_or(JsonValue());
    auto id = call.find("id"), name = function.find("name"), arguments = function.find("arguments");
    if (!name || !name->isString())
      return false;
    writer.beginObject();
    if (id && id->isString())
      writer.member("id", *id->asString());
    writer.member("type", "function").key("function").beginObject().member("name", *name->asString()).key("arguments");
    auto parsed = arguments && arguments->isString() ? JsonDocument::parse(*arguments->asString(), kMaxJsonDepth)
                                                     : Expected<JsonDocument>(invalidArgument("no text"));
    writer.raw(parsed.isOk() ? parsed->root().print() : arguments ? arguments->print() : "{}");
    writer.endObject().endObject();
  }
  writer.endArray();
  return true;
}

} // namespace

void takeMessages(RequestFields &fields, ChatInput &chat) {
  auto messages = fields.take("messages");
  if (!messages || !messages->isArray() || messages->elements().empty())
    return fields.fail("messages", "must be an array with at least one message",
                       messages ? "invalid_type" : "missing_required_parameter");
  std::vector<JsonValue> entries = messages->elements();
  if (entries.size() > kMaxMessages)
    return fields.fail("messages", "has " + std::to_string(entries.size()) + " entries; at most " +
                                       std::to_string(kMaxMessages) + " are accepted");
  JsonWriter writer;
  writer.beginArray();
  for (size_t messageIndex = 0; messageIndex < entries.size(); ++messageIndex) {
    std::string place = "messages[" + std::to_string(messageIndex) + "]";
    auto role = entries[messageIndex].find("role");
    constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                        "assistant", "tool",      "function"};
    if (!role || !role->isString() ||
        std::find(kRoles.begin(), kRoles.end(), *role->asString()) == kRoles.end())
      return fields.fail(place + ".role",
                         "must be one of system, developer, user, assistant, tool, function");
    if (const char *fault = faultOfContent(entries[messageIndex].find("content")))
      return fields.fail(place, fault);
    writer.beginObject();
    for (const JsonMember &member : entries[messageIndex].members()) {
      writer.key(member.key);
      // Templates know only the older of the two names.
      if (member.key == "role" && *role->asString() == "developer")
        writer.value("system");
      else if (member.key == "tool_calls" && member.value.isArray() && !writeToolCalls(writer, member.value))
        return fields.fail(place + ".tool_calls", "must be calls with a `function` of a string `name` and `arguments`");
      else if (member.key == "tool_calls" && member.value.isArray())
        chat.hasToolTurns = true;
      else
        writer.raw(member.value.print());
    }
    writer.endObject();
    chat.hasToolTurns |= *role->asString() == "tool";
  }
  chat.messagesJson = writer.endArray().take();
}

void takeTemplateOptions(RequestFields &fields, ChatInput &chat) {
  fields.takeBoolean("add_generation_prompt", chat.addGenerationPrompt);
  if (auto extra = fields.take("chat_template_kwargs")) {
    if (!extra->isObject())
      return fields.fail("chat_template_kwargs", "must be an object", "invalid_type");
    chat.extraJson = extra->print();
  }
}

} // namespace girih::server
