// SPDX-License-Identifier: Apache-2.0
// TurnList: messages as OpenAI's chat has them, with the arguments of calls as objects.
#include "runtime/server/turns.h"

#include <algorithm>

namespace girih::server {

void Turn::addCall(std::string_view id, std::string_view name, std::string_view argumentsJson) {
  calls.beginObject().member("id", id).member("type", "function").key("function").beginObject();
  calls.member("name", name).key("arguments").raw(argumentsJson).endObject().endObject();
  ++numCalls;
}

Turn &TurnList::of(std::string_view role) {
  return turns.empty() || turns.back().role != role ? begin(role) : turns.back();
}

Turn &TurnList::begin(std::string_view role) {
  Turn &turn = turns.emplace_back();
  turn.role = role;
  turn.calls.beginArray();
  return turn;
}

std::string TurnList::takeAnswerBegin() {
  if (turns.empty() || turns.back().role != "assistant" || turns.back().numCalls > 0)
    return {};
  std::string begin;
  for (const std::string &text : turns.back().texts)
    begin += text;
  turns.pop_back();
  return begin;
}

bool TurnList::haveTools() const {
  return std::any_of(turns.begin(), turns.end(),
                     [](const Turn &turn) { return turn.role == "tool" || turn.numCalls > 0; });
}

std::string TurnList::print() {
  JsonWriter writer;
  writer.beginArray();
  for (Turn &turn : turns)
    write(writer, turn);
  return writer.endArray().take();
}

void TurnList::write(JsonWriter &writer, Turn &turn) {
  writer.beginObject().member("role", turn.role).key("content");
  if (turn.texts.size() > 1) {
    writer.beginArray();
    for (const std::string &text : turn.texts)
      writer.beginObject().member("type", "text").member("text", text).endObject();
    writer.endArray();
  } else {
    writer.value(turn.texts.empty() ? "" : turn.texts.front());
  }
  if (!turn.thinking.empty())
    writer.member("reasoning_content", turn.thinking);
  if (!turn.toolCallId.empty())
    writer.member("tool_call_id", turn.toolCallId);
  if (turn.numCalls > 0)
    writer.key("tool_calls").raw(turn.calls.endArray().take());
  writer.endObject();
}

} // namespace girih::server
