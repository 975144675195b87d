// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions: a raw prompt (text or token ids), answers as text_completion objects.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"

namespace girih::server {
namespace {

class CompletionFormat final : public AnswerFormat {
public:
  CompletionFormat(const Service &service, const HttpRequest &request, const GenerationParameters &parameters)
      : tokenizer(service.model().tokenizer), model(service.model().names.front()), id("cmpl-" + request.requestId),
        created(time(nullptr)), includeUsage(parameters.includeUsage), isStream(parameters.stream),
        wantLogprobs(parameters.wantLogprobs) {}

  std::string openingChunk() override { return {}; }
  std::string deltaChunk(std::string_view text, std::span<const SpokenToken> tokens) override {
    return answer(text, tokens, {}, nullptr);
  }
  std::string closingChunk(std::string_view finishReason) override { return answer("", {}, finishReason, nullptr); }
  std::string usageChunk(const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer();
    writer.key("choices").beginArray().endArray();
    writeUsage(writer, counts);
    return writer.endObject().take();
  }
  std::string wholeAnswer(std::string_view text, std::string_view finishReason, const TokenCounts &counts,
                          std::span<const SpokenToken> tokens) override {
    return answer(text, tokens, finishReason, &counts);
  }

private:
  JsonWriter beginAnswer() const {
    JsonWriter writer;
    writer.beginObject().member("id", id).member("object", "text_completion").member("created", created).member("model", model);
    return writer;
  }

  std::string answer(std::string_view text, std::span<const SpokenToken> tokens, std::string_view finishReason,
                     const TokenCounts *counts) {
    JsonWriter writer = beginAnswer();
    writer.key("choices").beginArray().beginObject().member("index", 0).member("text", text);
    writeLogprobs(writer, tokens);
    writer.key("finish_reason");
    if (finishReason.empty())
      writer.null();
    else
      writer.value(finishReason);
    writer.endObject().endArray();
    if (counts)
      writeUsage(writer, *counts);
    else if (isStream && includeUsage)
      writer.key("usage").null();
    return writer.endObject().take();
  }

  // Four parallel arrays, as this older endpoint has them.
  void writeLogprobs(JsonWriter &writer, std::span<const SpokenToken> tokens) {
    writer.key("logprobs");
    if (!wantLogprobs || tokens.empty()) {
      writer.null();
      return;
    }
    writer.beginObject().key("tokens").beginArray();
    for (const SpokenToken &token : tokens)
      writer.value(tokenText(token.token));
    writer.endArray().key("token_logprobs").beginArray();
    for (const SpokenToken &token : tokens)
      writer.value(token.logprob);
    writer.endArray().key("top_logprobs").beginArray();
    for (const SpokenToken &token : tokens) {
      writer.beginObject();
      for (const engine::TopToken &top : token.top)
        writer.member(tokenText(top.token), top.logprob);
      writer.endObject();
    }
    writer.endArray().key("text_offset").beginArray();
    for (const SpokenToken &token : tokens) {
      writer.value(textOffset);
      textOffset += tokenText(token.token).size();
    }
    writer.endArray().endObject();
  }

  std::string tokenText(int32_t token) const {
    return tokenizer ? tokenizer->idToToken(token) : "token_id:" + std::to_string(token);
  }

  const std::optional<Tokenizer> &tokenizer;
  const std::string model;
  const std::string id;
  const int64_t created;
  const bool includeUsage;
  const bool isStream;
  const bool wantLogprobs;
  size_t textOffset = 0;  // bytes of the tokens written so far
};

void startCompletion(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseCompletion(exchange->request().body, service.model().generation);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<CompletionRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return service.answerError(*exchange, *error);
  if (!request.hasTokens) {
    if (!service.model().tokenizer)
      return service.answerError(*exchange, invalidField("prompt", "this model's file has no tokenizer; send `prompt` as an array of token ids", "unsupported"));
    auto tokens = service.model().tokenizer->encode(request.promptText);
    if (!tokens.isOk())
      return service.answerError(*exchange, apiErrorOf(tokens.status()));
    request.promptTokens = std::move(tokens).value();
  }
  auto format = std::make_unique<CompletionFormat>(service, exchange->request(), request.generation);
  Generation::start(service, exchange, std::move(request.generation), std::move(request.promptTokens), std::move(format), "prompt");
}

}  // namespace

void answerCompletions(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startCompletion(service, exchange); });
}

}  // namespace girih::server
