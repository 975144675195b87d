// SPDX-License-Identifier: Apache-2.0
// ResponseFormat: one builder of items for both ways to answer; events are what is said while it builds.
#include "runtime/server/response_format.h"

#include "runtime/base/json.h"
#include "runtime/server/tool_use.h"

namespace girih::server {
namespace {

void send(Exchange *stream, std::string_view type, JsonWriter &writer) {
  if (stream)
    stream->sendEvent(writer.endObject().text(), type);
}

void writeTextPart(JsonWriter &writer, const std::string &text) {
  writer.beginObject().member("type", "output_text").member("text", text);
  writer.key("annotations").beginArray().endArray().key("logprobs").beginArray().endArray().endObject();
}

void textOrNull(JsonWriter &writer, std::string_view name, const std::string &text) {
  writer.key(name);
  if (text.empty())
    writer.null();
  else
    writer.value(text);
}

} // namespace

ResponseFormat::ResponseFormat(Service &service, ResponseDraft draft,
                               const std::optional<ToolFormat> &toolFormat)
    : service(service), draft(std::move(draft)), model(service.model().names.front()), created(time(nullptr)),
      toolFormat(toolFormat), readers(toolFormat) {}

JsonWriter ResponseFormat::beginEvent(std::string_view type) {
  JsonWriter writer;
  writer.beginObject().member("type", type).member("sequence_number", numEvents++);
  return writer;
}

// Of the last item.
JsonWriter ResponseFormat::beginItemEvent(std::string_view type) {
  JsonWriter writer = beginEvent(type);
  writer.member("item_id", items.back().id).member("output_index", items.size() - 1);
  if (!items.back().isCall)
    writer.member("content_index", 0);
  return writer;
}

void ResponseFormat::open(Exchange &stream, uint32_t, const TokenCounts &) {
  for (std::string_view type : {"response.created", "response.in_progress"}) {
    JsonWriter writer = beginEvent(type);
    writer.key("response");
    writeResponse(writer, "in_progress", nullptr, nullptr);
    send(&stream, type, writer);
  }
}

void ResponseFormat::say(Exchange &stream, uint32_t choice, std::string_view text,
                         std::span<const SpokenToken>) {
  answerText += text;
  take(&stream, readers.push(choice, text));
}

void ResponseFormat::take(Exchange *stream, const std::vector<AnswerPiece> &pieces) {
  for (const AnswerPiece &piece : pieces)
    switch (piece.kind) {
    case AnswerPiece::Kind::Text:
      if (items.empty() || items.back().isDone || items.back().isCall)
        beginItem(stream, /*isCall=*/false, {});
      addText(stream, piece.text);
      break;
    case AnswerPiece::Kind::CallBegin:
      beginItem(stream, /*isCall=*/true, piece.text);
      break;
    case AnswerPiece::Kind::Arguments:
      addText(stream, piece.text);
      break;
    case AnswerPiece::Kind::CallEnd:
      endItem(stream);
      break;
    }
}

void ResponseFormat::beginItem(Exchange *stream, bool isCall, const std::string &name) {
  endItem(stream);
  items.push_back({makeId(isCall ? "fc_" : "msg_"), isCall ? makeId("call_") : "", name, "", isCall, false});
  JsonWriter added = beginEvent("response.output_item.added");
  added.member("output_index", items.size() - 1).key("item");
  writeItem(added, items.back());
  send(stream, "response.output_item.added", added);
  if (isCall)
    return;
  JsonWriter part = beginItemEvent("response.content_part.added");
  part.key("part");
  writeTextPart(part, "");
  send(stream, "response.content_part.added", part);
}

void ResponseFormat::addText(Exchange *stream, const std::string &text) {
  OutputItem &item = items.back();
  item.text += text;
  std::string_view type =
      item.isCall ? "response.function_call_arguments.delta" : "response.output_text.delta";
  JsonWriter writer = beginItemEvent(type);
  writer.member("delta", text);
  if (!item.isCall)
    writer.key("logprobs").beginArray().endArray();
  send(stream, type, writer);
}

void ResponseFormat::endItem(Exchange *stream) {
  if (items.empty() || items.back().isDone)
    return;
  OutputItem &item = items.back();
  item.isDone = true;
  std::string_view type = item.isCall ? "response.function_call_arguments.done" : "response.output_text.done";
  JsonWriter done = beginItemEvent(type);
  if (item.isCall)
    done.member("name", item.name).member("arguments", item.text);
  else
    done.member("text", item.text).key("logprobs").beginArray().endArray();
  send(stream, type, done);
  if (!item.isCall) {
    JsonWriter part = beginItemEvent("response.content_part.done");
    part.key("part");
    writeTextPart(part, item.text);
    send(stream, "response.content_part.done", part);
  }
  JsonWriter whole = beginEvent("response.output_item.done");
  whole.member("output_index", items.size() - 1).key("item");
  writeItem(whole, item);
  send(stream, "response.output_item.done", whole);
}

// What is kept for the next turn: the tokens as they were, where they are all of the text.
void ResponseFormat::finishAnswer(Exchange *stream, const ChoiceEnding &ending, std::string_view text) {
  take(stream, readers.finish(0));
  endItem(stream);
  wasCut = ending.reason == "length";
  StoredResponse &stored = draft.stored;
  stored.text += text;
  stored.tokens.insert(stored.tokens.end(), ending.tokens.begin(), ending.tokens.end());
}

void ResponseFormat::close(Exchange &stream, uint32_t, const ChoiceEnding &ending) {
  finishAnswer(&stream, ending, answerText);
}

void ResponseFormat::end(Exchange &stream, const TokenCounts &counts) {
  std::string body = store(counts);
  std::string_view type = wasCut ? "response.incomplete" : "response.completed";
  JsonWriter writer = beginEvent(type);
  writer.key("response").raw(body);
  send(&stream, type, writer);
}

void ResponseFormat::fail(Exchange &stream, const ApiError &error) {
  JsonWriter writer = beginEvent("response.failed");
  writer.key("response");
  writeResponse(writer, "failed", nullptr, &error);
  send(&stream, "response.failed", writer);
}

std::string ResponseFormat::wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) {
  const FinishedChoice &choice = choices.front();
  take(nullptr, readers.push(0, choice.text));
  finishAnswer(nullptr, choice.ending, choice.text);
  return store(counts);
}

// Before the client reads it: its next request may follow at once.
std::string ResponseFormat::store(const TokenCounts &counts) {
  JsonWriter writer;
  writeResponse(writer, wasCut ? "incomplete" : "completed", &counts, nullptr);
  std::string body = writer.take();
  if (!draft.request.isStored)
    return body;
  for (const OutputItem &item : items) {
    JsonWriter json;
    writeItem(json, item);
    draft.stored.conversation.push_back(std::make_shared<ResponseItem>(ResponseItem{item.id, json.take()}));
  }
  draft.stored.body = body;
  draft.stored.createdSeconds = created;
  service.responses().put(std::move(draft.stored));
  return body;
}

void ResponseFormat::writeItem(JsonWriter &writer, const OutputItem &item) const {
  std::string_view status = item.isDone ? "completed" : "in_progress";
  writer.beginObject().member("id", item.id).member("type", item.isCall ? "function_call" : "message");
  writer.member("status", status);
  if (item.isCall) {
    writer.member("call_id", item.callId).member("name", item.name).member("arguments", item.text);
  } else {
    writer.member("role", "assistant").key("content").beginArray();
    if (item.isDone)
      writeTextPart(writer, item.text);
    writer.endArray();
  }
  writer.endObject();
}

void ResponseFormat::writeFacts(JsonWriter &writer) const {
  const ResponsesRequest &request = draft.request;
  textOrNull(writer, "instructions", request.instructions);
  writer.key("max_output_tokens");
  if (request.generation.maxTokens)
    writer.value(*request.generation.maxTokens);
  else
    writer.null();
  writer.member("parallel_tool_calls", request.toolUse.allowsMany);
  textOrNull(writer, "previous_response_id", request.previousId);
  writer.member("store", request.isStored).member("temperature", request.generation.sampling.temperature);
  writer.member("top_p", request.generation.sampling.topP).member("truncation", "disabled");
  writer.key("tools").raw(request.toolsJson).key("tool_choice").raw(request.toolChoiceJson);
  writer.key("text").raw(request.textJson).key("metadata").raw(request.metadataJson);
}

void ResponseFormat::writeResponse(JsonWriter &writer, std::string_view status, const TokenCounts *counts,
                                   const ApiError *error) const {
  writer.beginObject()
      .member("id", draft.stored.id)
      .member("object", "response")
      .member("created_at", created);
  writer.member("status", status).member("model", model).key("error");
  if (error)
    writer.beginObject().member("code", "server_error").member("message", error->message).endObject();
  else
    writer.null();
  writer.key("incomplete_details");
  if (status == "incomplete")
    writer.beginObject().member("reason", "max_output_tokens").endObject();
  else
    writer.null();
  writer.key("output").beginArray();
  for (const OutputItem &item : items)
    writeItem(writer, item);
  writer.endArray();
  writeFacts(writer);
  writer.key("usage");
  if (counts) {
    writer.beginObject().member("input_tokens", counts->numPromptTokens);
    writer.key("input_tokens_details").beginObject().member("cached_tokens", counts->numCachedTokens);
    writer.member("cache_write_tokens", 0).endObject().member("output_tokens", counts->numOutputTokens);
    writer.key("output_tokens_details").beginObject().member("reasoning_tokens", 0).endObject();
    writer.member("total_tokens", counts->numPromptTokens + counts->numOutputTokens).endObject();
  } else {
    writer.null();
  }
  writer.endObject();
}

} // namespace girih::server
