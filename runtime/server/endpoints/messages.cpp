// SPDX-License-Identifier: Apache-2.0
// POST /v1/messages and /v1/messages/count_tokens: Anthropic's shape of a chat, its events in their order.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"
#include "runtime/server/tool_call_reader.h"
#include "runtime/server/tool_use.h"

namespace girih::server {
namespace {

// What the cache had is no input, as that API counts: the three add up to the prompt.
void writeMessageUsage(JsonWriter &writer, const TokenCounts &counts) {
  writer.key("usage").beginObject();
  writer.member("input_tokens", counts.numPromptTokens - counts.numCachedTokens);
  writer.member("cache_creation_input_tokens", 0).member("cache_read_input_tokens", counts.numCachedTokens);
  writer.member("output_tokens", counts.numOutputTokens).endObject();
}

std::string_view stopReason(const ChoiceEnding &ending, bool hasCalled) {
  if (hasCalled && ending.reason == "stop" && ending.stopString.empty())
    return "tool_use";
  return !ending.stopString.empty() ? "stop_sequence" : ending.reason == "stop" ? "end_turn" : "max_tokens";
}

void writeStopReason(JsonWriter &writer, const ChoiceEnding &ending, bool hasCalled) {
  writer.member("stop_reason", stopReason(ending, hasCalled)).key("stop_sequence");
  if (ending.stopString.empty())
    writer.null();
  else
    writer.value(ending.stopString);
}

class MessageFormat final : public AnswerFormat {
public:
  MessageFormat(const Service &service, const HttpRequest &request,
                const std::optional<ToolFormat> &toolFormat)
      : model(service.model().names.front()), id("msg_" + request.requestId), requestId(request.requestId),
        toolFormat(toolFormat), readers(toolFormat) {}

  void open(Exchange &stream, uint32_t, const TokenCounts &counts) override {
    JsonWriter writer;
    writer.beginObject().member("type", "message_start").key("message");
    beginMessage(writer).key("content").beginArray().endArray();
    writer.key("stop_reason").null().key("stop_sequence").null();
    writeMessageUsage(writer, counts);
    send(stream, "message_start", writer.endObject().endObject());
  }
  void say(Exchange &stream, uint32_t choice, std::string_view text, std::span<const SpokenToken>) override {
    sayPieces(stream, readers.push(choice, text));
  }
  void close(Exchange &stream, uint32_t choice, const ChoiceEnding &choiceEnding) override {
    sayPieces(stream, readers.finish(choice));
    closeBlock(stream);
    ending = choiceEnding;
  }
  void end(Exchange &stream, const TokenCounts &counts) override {
    JsonWriter writer;
    writer.beginObject().member("type", "message_delta").key("delta").beginObject();
    writeStopReason(writer, ending, hasCalled);
    writer.endObject();
    writeMessageUsage(writer, counts);
    send(stream, "message_delta", writer.endObject());
    send(stream, "message_stop", JsonWriter().beginObject().member("type", "message_stop").endObject());
  }
  void fail(Exchange &stream, const ApiError &error) override {
    stream.sendEvent(anthropicErrorBody(error, requestId), "error");
  }
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override {
    const FinishedChoice &choice = choices.front();
    JsonWriter writer;
    ReadAnswer answer = readAnswer(toolFormat, choice.text);
    beginMessage(writer).key("content").beginArray();
    if (!answer.text.empty())
      writer.beginObject().member("type", "text").member("text", answer.text).endObject();
    for (const ToolCall &call : answer.calls) {
      writer.beginObject()
          .member("type", "tool_use")
          .member("id", makeId("toolu_"))
          .member("name", call.name);
      // An answer that was cut may end within the arguments.
      writer.key("input").raw(JsonDocument::parse(call.arguments).isOk() ? call.arguments : "{}").endObject();
    }
    writer.endArray();
    writeStopReason(writer, choice.ending, !answer.calls.empty());
    writeMessageUsage(writer, counts);
    return writer.endObject().take();
  }

private:
  JsonWriter &beginMessage(JsonWriter &writer) const {
    return writer.beginObject()
        .member("id", id)
        .member("type", "message")
        .member("role", "assistant")
        .member("model", model);
  }
  // A block begins with its first piece: an answer without any has no block.
  void sayPieces(Exchange &stream, const std::vector<AnswerPiece> &pieces) {
    for (const AnswerPiece &piece : pieces)
      switch (piece.kind) {
      case AnswerPiece::Kind::Text:
        if (openBlockType != "text")
          openBlock(stream, "text", {});
        sendDelta(stream, "text_delta", "text", piece.text);
        break;
      case AnswerPiece::Kind::CallBegin:
        openBlock(stream, "tool_use", piece.text);
        hasCalled = true;
        break;
      case AnswerPiece::Kind::Arguments:
        sendDelta(stream, "input_json_delta", "partial_json", piece.text);
        break;
      case AnswerPiece::Kind::CallEnd:
        closeBlock(stream);
        break;
      }
  }
  void openBlock(Exchange &stream, std::string_view type, const std::string &name) {
    closeBlock(stream);
    JsonWriter writer;
    writer.beginObject()
        .member("type", "content_block_start")
        .member("index", numBlocks)
        .key("content_block");
    writer.beginObject().member("type", type);
    if (type == "text")
      writer.member("text", "");
    else
      writer.member("id", makeId("toolu_")).member("name", name).key("input").beginObject().endObject();
    send(stream, "content_block_start", writer.endObject().endObject());
    openBlockType = type;
  }
  void closeBlock(Exchange &stream) {
    if (openBlockType.empty())
      return;
    JsonWriter writer;
    writer.beginObject().member("type", "content_block_stop").member("index", numBlocks++).endObject();
    send(stream, "content_block_stop", writer);
    openBlockType = {};
  }
  void sendDelta(Exchange &stream, std::string_view type, std::string_view name,
                 const std::string &text) const {
    JsonWriter writer;
    writer.beginObject().member("type", "content_block_delta").member("index", numBlocks).key("delta");
    writer.beginObject().member("type", type).member(name, text).endObject();
    send(stream, "content_block_delta", writer.endObject());
  }
  static void send(Exchange &stream, std::string_view name, const JsonWriter &writer) {
    stream.sendEvent(writer.text(), name);
  }

  const std::string model, id, requestId;
  const std::optional<ToolFormat> toolFormat; // none: everything is text
  ChoiceReaders readers;
  std::string_view openBlockType; // empty: none is open
  uint32_t numBlocks = 0;         // that were closed
  bool hasCalled = false;
  ChoiceEnding ending;
};

// The request and its prompt's tokens; nothing when it was answered with what is wrong.
struct PreparedMessages {
  ChatCompletionRequest request;
  std::vector<int32_t> tokens;
};
std::optional<PreparedMessages> prepareMessages(Service &service, Exchange &exchange, bool mustGenerate) {
  auto parsed = parseMessages(exchange.request().body, service.model().generation, mustGenerate);
  auto refuse = [&](const ApiError &error) {
    service.answerError(exchange, error);
    return std::nullopt;
  };
  if (auto *error = std::get_if<ApiError>(&parsed))
    return refuse(*error);
  auto &request = std::get<ChatCompletionRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return refuse(*error);
  auto prompt = encodeChat(service, request, "messages");
  if (auto *error = std::get_if<ApiError>(&prompt))
    return refuse(*error);
  return PreparedMessages{std::move(request), std::move(std::get<ChatTokens>(prompt).tokens)};
}

void startMessages(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto prepared = prepareMessages(service, *exchange, /*mustGenerate=*/true);
  if (!prepared)
    return;
  GenerationRequest generation;
  generation.prompts.push_back(std::move(prepared->tokens));
  std::optional<ToolFormat> toolFormat;
  if (prepared->request.toolUse.mayCall())
    toolFormat = service.model().toolFormat;
  generation.format = std::make_unique<MessageFormat>(service, exchange->request(), toolFormat);
  generation.parameters = std::move(prepared->request.generation);
  generation.promptField = "messages";
  startGeneration(service, exchange, std::move(generation));
}

void countTokens(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto prepared = prepareMessages(service, *exchange, /*mustGenerate=*/false);
  if (!prepared)
    return;
  HttpResponse response;
  response.headers = ignoredHeaders(prepared->request.generation.ignoredNames);
  response.body =
      JsonWriter().beginObject().member("input_tokens", prepared->tokens.size()).endObject().take();
  service.answer(*exchange, std::move(response));
}

} // namespace

void answerMessages(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startMessages(service, exchange); });
}

void answerCountTokens(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { countTokens(service, exchange); });
}

} // namespace girih::server
