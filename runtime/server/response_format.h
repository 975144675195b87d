// SPDX-License-Identifier: Apache-2.0
// ResponseFormat: an answer as OpenAI's response object, with its events of items, parts and lifecycle.
#pragma once

#include "runtime/server/generation.h"
#include "runtime/server/tool_call_reader.h"

namespace girih::server {

// What the response says of itself, and what is kept of it at its end.
struct ResponseDraft {
  ResponsesRequest request;
  StoredResponse stored; // without its output; `text` and `tokens` are the prompt's
};

class ResponseFormat final : public AnswerFormat {
public:
  // Requires: the service outlives the format.
  ResponseFormat(Service &service, ResponseDraft draft, const std::optional<ToolFormat> &toolFormat);

  void open(Exchange &stream, uint32_t numChoices, const TokenCounts &counts) override;
  void say(Exchange &stream, uint32_t choice, std::string_view text,
           std::span<const SpokenToken> tokens) override;
  void close(Exchange &stream, uint32_t choice, const ChoiceEnding &ending) override;
  void end(Exchange &stream, const TokenCounts &counts) override;
  void fail(Exchange &stream, const ApiError &error) override;
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override;

private:
  // A message or the call of a function.
  struct OutputItem {
    std::string id, callId, name, text; // text: of the message, or the arguments
    bool isCall = false, isDone = false;
  };

  // `stream` null: the events are not wanted.
  void take(Exchange *stream, const std::vector<AnswerPiece> &pieces);
  void beginItem(Exchange *stream, bool isCall, const std::string &name);
  void addText(Exchange *stream, const std::string &text);
  void endItem(Exchange *stream);
  void finishAnswer(Exchange *stream, const ChoiceEnding &ending, std::string_view answerText);
  // The beginning of an event: its type and number.
  JsonWriter beginEvent(std::string_view type);
  JsonWriter beginItemEvent(std::string_view type);
  void writeItem(JsonWriter &writer, const OutputItem &item) const;
  void writeResponse(JsonWriter &writer, std::string_view status, const TokenCounts *counts,
                     const ApiError *error) const;
  void writeFacts(JsonWriter &writer) const;
  std::string store(const TokenCounts &counts);

  Service &service;
  ResponseDraft draft;
  const std::string model;
  const int64_t created;
  const std::optional<ToolFormat> toolFormat;
  ChoiceReaders readers;
  std::vector<OutputItem> items;
  std::string answerText; // with calls as the model wrote them
  uint64_t numEvents = 0;
  bool wasCut = false; // by its length
};

} // namespace girih::server
