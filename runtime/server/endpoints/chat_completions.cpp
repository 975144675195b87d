// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions: messages through the chat template, answers as chat.completion objects or chunks.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"

namespace girih::server {
namespace {

void writeTopToken(JsonWriter &writer, const Tokenizer &tokenizer, int32_t token, float logprob) {
  std::string bytes = tokenizer.idToToken(token);
  writer.member("token", bytes).member("logprob", logprob).key("bytes").beginArray();
  for (char byte : bytes)
    writer.value(static_cast<unsigned>(static_cast<unsigned char>(byte)));
  writer.endArray();
}

class ChatFormat final : public AnswerFormat {
public:
  ChatFormat(const Service &service, const HttpRequest &request, const GenerationParameters &parameters)
      : tokenizer(*service.model().tokenizer), model(service.model().names.front()),
        id("chatcmpl-" + request.requestId), created(time(nullptr)), includeUsage(parameters.includeUsage),
        wantLogprobs(parameters.wantLogprobs) {}

  void open(Exchange &stream, uint32_t numChoices, const TokenCounts &) override {
    for (uint32_t choice = 0; choice < numChoices; ++choice)
      stream.sendEvent(chunk(choice, [](JsonWriter &writer) { writer.member("role", "assistant").member("content", ""); }, {}, {}));
  }
  void say(Exchange &stream, uint32_t choice, std::string_view text, std::span<const SpokenToken> tokens) override {
    stream.sendEvent(chunk(choice, [&](JsonWriter &writer) { writer.member("content", text); }, tokens, {}));
  }
  void close(Exchange &stream, uint32_t choice, const ChoiceEnding &ending) override {
    stream.sendEvent(chunk(choice, [](JsonWriter &) {}, {}, ending.reason));
  }
  void end(Exchange &stream, const TokenCounts &counts) override {
    if (includeUsage) {
      JsonWriter writer = beginAnswer("chat.completion.chunk");
      writer.key("choices").beginArray().endArray();
      writeUsage(writer, counts);
      stream.sendEvent(writer.endObject().take());
    }
    stream.sendEvent("[DONE]");
  }
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer("chat.completion");
    writer.key("choices").beginArray();
    for (uint32_t index = 0; index < choices.size(); ++index) {
      writer.beginObject().member("index", index).key("message").beginObject().member("role", "assistant");
      writer.member("content", choices[index].text).key("refusal").null().endObject();
      writeLogprobs(writer, choices[index].tokens);
      writer.member("finish_reason", choices[index].ending.reason).endObject();
    }
    writer.endArray();
    writeUsage(writer, counts);
    return writer.endObject().take();
  }

private:
  JsonWriter beginAnswer(std::string_view object) const {
    JsonWriter writer;
    writer.beginObject().member("id", id).member("object", object).member("created", created).member("model", model);
    return writer;
  }

  // Clients read `usage` as null in every chunk but the last when they asked for it.
  template <typename WriteDelta>
  std::string chunk(uint32_t choice, WriteDelta writeDelta, std::span<const SpokenToken> tokens, std::string_view finishReason) const {
    JsonWriter writer = beginAnswer("chat.completion.chunk");
    writer.key("choices").beginArray().beginObject().member("index", choice).key("delta").beginObject();
    writeDelta(writer);
    writer.endObject();
    writeLogprobs(writer, tokens);
    writer.key("finish_reason");
    if (finishReason.empty())
      writer.null();
    else
      writer.value(finishReason);
    writer.endObject().endArray();
    if (includeUsage)
      writer.key("usage").null();
    return writer.endObject().take();
  }

  void writeLogprobs(JsonWriter &writer, std::span<const SpokenToken> tokens) const {
    writer.key("logprobs");
    if (!wantLogprobs || tokens.empty()) {
      writer.null();
      return;
    }
    writer.beginObject().key("content").beginArray();
    for (const SpokenToken &token : tokens) {
      writer.beginObject();
      writeTopToken(writer, tokenizer, token.token, token.logprob);
      writer.key("top_logprobs").beginArray();
      for (const engine::TopToken &top : token.top) {
        writer.beginObject();
        writeTopToken(writer, tokenizer, top.token, top.logprob);
        writer.endObject();
      }
      writer.endArray().endObject();
    }
    writer.endArray().key("refusal").null().endObject();
  }

  const Tokenizer &tokenizer;
  const std::string model;
  const std::string id;
  const int64_t created;
  const bool includeUsage;
  const bool wantLogprobs;
};

void startChat(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseChatCompletion(exchange->request().body, service.model().generation);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<ChatCompletionRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return service.answerError(*exchange, *error);
  auto prompt = encodeChat(service, request.chat, "messages");
  if (auto *error = std::get_if<ApiError>(&prompt))
    return service.answerError(*exchange, *error);
  GenerationRequest generation;
  generation.prompts.push_back(std::move(std::get<ChatTokens>(prompt).tokens));
  generation.format = std::make_unique<ChatFormat>(service, exchange->request(), request.generation);
  generation.parameters = std::move(request.generation);
  generation.promptField = "messages";
  startGeneration(service, exchange, std::move(generation));
}

}  // namespace

void answerChatCompletions(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startChat(service, exchange); });
}

}  // namespace girih::server
