// SPDX-License-Identifier: Apache-2.0
// POST /v1/messages and /v1/messages/count_tokens: Anthropic's shape of a chat, its events in their order.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"

namespace girih::server {
namespace {

// What the cache had is no input, as that API counts: the three add up to the prompt.
void writeMessageUsage(JsonWriter &writer, const TokenCounts &counts) {
  writer.key("usage").beginObject();
  writer.member("input_tokens", counts.numPromptTokens - counts.numCachedTokens);
  writer.member("cache_creation_input_tokens", 0).member("cache_read_input_tokens", counts.numCachedTokens);
  writer.member("output_tokens", counts.numOutputTokens).endObject();
}

std::string_view stopReason(const ChoiceEnding &ending) {
  return !ending.stopString.empty() ? "stop_sequence" : ending.reason == "stop" ? "end_turn" : "max_tokens";
}

void writeStopReason(JsonWriter &writer, const ChoiceEnding &ending) {
  writer.member("stop_reason", stopReason(ending)).key("stop_sequence");
  if (ending.stopString.empty())
    writer.null();
  else
    writer.value(ending.stopString);
}

class MessageFormat final : public AnswerFormat {
public:
  MessageFormat(const Service &service, const HttpRequest &request)
      : model(service.model().names.front()), id("msg_" + request.requestId), requestId(request.requestId) {}

  void open(Exchange &stream, uint32_t, const TokenCounts &counts) override {
    JsonWriter writer;
    writer.beginObject().member("type", "message_start").key("message");
    beginMessage(writer).key("content").beginArray().endArray();
    writer.key("stop_reason").null().key("stop_sequence").null();
    writeMessageUsage(writer, counts);
    send(stream, "message_start", writer.endObject().endObject());
  }
  // A block begins with its first text: an answer without any has no block.
  void say(Exchange &stream, uint32_t, std::string_view text, std::span<const SpokenToken>) override {
    if (text.empty())
      return;
    if (!isBlockOpen) {
      JsonWriter start;
      start.beginObject().member("type", "content_block_start").member("index", 0).key("content_block");
      start.beginObject().member("type", "text").member("text", "").endObject();
      send(stream, "content_block_start", start.endObject());
      isBlockOpen = true;
    }
    JsonWriter writer;
    writer.beginObject().member("type", "content_block_delta").member("index", 0).key("delta");
    writer.beginObject().member("type", "text_delta").member("text", text).endObject();
    send(stream, "content_block_delta", writer.endObject());
  }
  void close(Exchange &stream, uint32_t, const ChoiceEnding &choiceEnding) override {
    if (isBlockOpen)
      send(stream, "content_block_stop",
           JsonWriter().beginObject().member("type", "content_block_stop").member("index", 0).endObject());
    ending = choiceEnding;
  }
  void end(Exchange &stream, const TokenCounts &counts) override {
    JsonWriter writer;
    writer.beginObject().member("type", "message_delta").key("delta").beginObject();
    writeStopReason(writer, ending);
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
    beginMessage(writer).key("content").beginArray();
    if (!choice.text.empty())
      writer.beginObject().member("type", "text").member("text", choice.text).endObject();
    writer.endArray();
    writeStopReason(writer, choice.ending);
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
  static void send(Exchange &stream, std::string_view name, const JsonWriter &writer) {
    stream.sendEvent(writer.text(), name);
  }

  const std::string model, id, requestId;
  bool isBlockOpen = false;
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
  auto prompt = encodeChat(service, request.chat, "messages");
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
  generation.format = std::make_unique<MessageFormat>(service, exchange->request());
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
