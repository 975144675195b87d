// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions: a raw prompt (text or token ids), answers as text_completion objects.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"

namespace girih::server {
namespace {

class CompletionFormat final : public AnswerFormat {
public:
  CompletionFormat(const Service &service, const HttpRequest &request, const GenerationParameters &parameters, size_t numChoices)
      : tokenizer(service.model().tokenizer), model(service.model().names.front()), id("cmpl-" + request.requestId),
        created(time(nullptr)), includeUsage(parameters.includeUsage),
        wantLogprobs(parameters.wantLogprobs), textOffsets(numChoices) {}

  void open(Exchange &, uint32_t, const TokenCounts &) override {}
  void say(Exchange &stream, uint32_t choice, std::string_view text, std::span<const SpokenToken> tokens) override {
    stream.sendEvent(chunk(choice, {text, {}, tokens}));
  }
  void close(Exchange &stream, uint32_t choice, const ChoiceEnding &ending) override {
    stream.sendEvent(chunk(choice, {{}, ending, {}}));
  }
  void end(Exchange &stream, const TokenCounts &counts) override {
    if (includeUsage) {
      JsonWriter writer = beginAnswer();
      writer.key("choices").beginArray().endArray();
      writeUsage(writer, counts);
      stream.sendEvent(writer.endObject().take());
    }
    stream.sendEvent("[DONE]");
  }
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer();
    writer.key("choices").beginArray();
    for (uint32_t index = 0; index < choices.size(); ++index)
      writeChoice(writer, index, choices[index]);
    writer.endArray();
    writeUsage(writer, counts);
    return writer.endObject().take();
  }

private:
  JsonWriter beginAnswer() const {
    JsonWriter writer;
    writer.beginObject().member("id", id).member("object", "text_completion").member("created", created).member("model", model);
    return writer;
  }

  std::string chunk(uint32_t index, const FinishedChoice &choice) {
    JsonWriter writer = beginAnswer();
    writer.key("choices").beginArray();
    writeChoice(writer, index, choice);
    writer.endArray();
    if (includeUsage)
      writer.key("usage").null();
    return writer.endObject().take();
  }

  void writeChoice(JsonWriter &writer, uint32_t index, const FinishedChoice &choice) {
    writer.beginObject().member("index", index).member("text", choice.text);
    writeLogprobs(writer, index, choice.tokens);
    writer.key("finish_reason");
    if (choice.ending.reason.empty())
      writer.null();
    else
      writer.value(choice.ending.reason);
    writer.endObject();
  }

  // Four parallel arrays, as this older endpoint has them.
  void writeLogprobs(JsonWriter &writer, uint32_t choice, std::span<const SpokenToken> tokens) {
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
      token.hasLogprob ? writer.value(token.logprob) : writer.null();
    writer.endArray().key("top_logprobs").beginArray();
    for (const SpokenToken &token : tokens) {
      if (!token.hasLogprob) {
        writer.null();
        continue;
      }
      writer.beginObject();
      for (const engine::TopToken &top : token.top)
        writer.member(tokenText(top.token), top.logprob);
      writer.endObject();
    }
    writer.endArray().key("text_offset").beginArray();
    size_t &textOffset = textOffsets[choice];
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
  const bool wantLogprobs;
  std::vector<size_t> textOffsets;  // of each choice: bytes of the tokens written so far
};

void startCompletion(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseCompletion(exchange->request().body, service.model().generation);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<CompletionRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return service.answerError(*exchange, *error);
  GenerationRequest generation;
  auto encoded = encodePrompts(service, std::move(request.prompts), "prompt");
  if (auto *error = std::get_if<ApiError>(&encoded))
    return service.answerError(*exchange, *error);
  generation.prompts = std::get<std::vector<std::vector<int32_t>>>(std::move(encoded));
  size_t numChoices = generation.prompts.size() * request.generation.numChoices;
  generation.format = std::make_unique<CompletionFormat>(service, exchange->request(), request.generation, numChoices);
  generation.parameters = std::move(request.generation);
  generation.promptField = "prompt";
  startGeneration(service, exchange, std::move(generation));
}

}  // namespace

void answerCompletions(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startCompletion(service, exchange); });
}

}  // namespace girih::server
