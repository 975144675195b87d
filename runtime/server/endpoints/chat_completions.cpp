// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions: messages through the chat template, answers as chat.completion objects or chunks.
#include "runtime/base/json.h"
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

  std::string openingChunk(uint32_t choice) override {
    return chunk(choice, [](JsonWriter &writer) { writer.member("role", "assistant").member("content", ""); }, {}, {});
  }
  std::string deltaChunk(uint32_t choice, std::string_view text, std::span<const SpokenToken> tokens) override {
    return chunk(choice, [&](JsonWriter &writer) { writer.member("content", text); }, tokens, {});
  }
  std::string closingChunk(uint32_t choice, std::string_view finishReason) override {
    return chunk(choice, [](JsonWriter &) {}, {}, finishReason);
  }
  std::string usageChunk(const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer("chat.completion.chunk");
    writer.key("choices").beginArray().endArray();
    writeUsage(writer, counts);
    return writer.endObject().take();
  }
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer("chat.completion");
    writer.key("choices").beginArray();
    for (uint32_t index = 0; index < choices.size(); ++index) {
      writer.beginObject().member("index", index).key("message").beginObject().member("role", "assistant");
      writer.member("content", choices[index].text).key("refusal").null().endObject();
      writeLogprobs(writer, choices[index].tokens);
      writer.member("finish_reason", choices[index].finishReason).endObject();
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
  if (!service.model().tokenizer || !service.model().chatTemplate)
    return service.answerError(*exchange, invalidField("messages", "this model's file has no chat template; use /v1/completions, or compile from a checkpoint that has one", "unsupported"));

  ChatRequest chat;
  chat.messagesJson = request.messagesJson;
  chat.extraJson = request.extraJson;
  chat.addGenerationPrompt = request.addGenerationPrompt;
  auto prompt = service.model().chatTemplate->render(chat);
  if (!prompt.isOk()) {
    ApiError error = apiErrorOf(prompt.status());
    error.param = "messages";
    return service.answerError(*exchange, error);
  }
  // The template writes what surrounds the text itself.
  EncodeOptions encoding;
  encoding.addSpecial = false;
  encoding.barriers = prompt->barriers;
  auto tokens = service.model().tokenizer->encode(prompt->text, encoding);
  if (!tokens.isOk())
    return service.answerError(*exchange, apiErrorOf(tokens.status()));
  GenerationRequest generation;
  generation.prompts.push_back(std::move(tokens).value());
  generation.format = std::make_unique<ChatFormat>(service, exchange->request(), request.generation);
  generation.parameters = std::move(request.generation);
  generation.promptField = "messages";
  Generation::start(service, exchange, std::move(generation));
}

}  // namespace

void answerChatCompletions(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startChat(service, exchange); });
}

}  // namespace girih::server
