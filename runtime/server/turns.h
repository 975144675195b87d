// SPDX-License-Identifier: Apache-2.0
// TurnList: the messages that chat templates know, put together from content blocks and items.
#pragma once

#include "runtime/base/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

// A template's message. What follows itself in one role is one message: most templates want turns.
struct Turn {
  std::string role;
  std::vector<std::string> texts;
  std::string thinking;
  JsonWriter calls; // elements of `tool_calls`
  size_t numCalls = 0;
  std::string toolCallId; // of a tool's answer

  // `argumentsJson`: what the call was given, as JSON.
  void addCall(std::string_view id, std::string_view name, std::string_view argumentsJson);
};

class TurnList {
public:
  // The turn that a block of this role belongs to.
  Turn &of(std::string_view role);
  Turn &begin(std::string_view role);
  // The text of a last assistant turn, which the answer goes on from; the turn is then gone.
  std::string takeAnswerBegin();
  bool haveTools() const;
  bool isEmpty() const { return turns.empty(); }
  // An array of messages. The turns are used up.
  std::string print();

private:
  static void write(JsonWriter &writer, Turn &turn);
  std::vector<Turn> turns;
};

} // namespace girih::server
