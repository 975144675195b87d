// SPDX-License-Identifier: Apache-2.0
// POST /tokenize, /detokenize, /apply-template and GET /tokenizer_info: text and tokens without an answer, in the
// shapes that vLLM gave them and lm-eval asks for.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

std::optional<ApiError> findMissing(const Service &service, const std::string &model) {
  if (auto error = service.checkModelName(model))
    return error;
  if (!service.model().tokenizer)
    return invalidField("", "this model's file has no tokenizer; compile from a checkpoint that has one",
                        "unsupported");
  return std::nullopt;
}

// A text's tokens, or those of messages.
ApiResult<std::vector<int32_t>> tokensOf(const Service &service, TokenizeRequest &request) {
  if (!request.prompt) {
    auto chat = encodeChat(service, request.conversation, "messages");
    if (auto *error = std::get_if<ApiError>(&chat))
      return *error;
    return std::move(std::get<ChatTokens>(chat).tokens);
  }
  EncodeOptions options;
  options.addSpecial = request.addSpecial;
  auto tokens = service.model().tokenizer->encode(*request.prompt, options);
  if (!tokens.isOk())
    return apiErrorOf(tokens.status());
  return std::move(tokens).value();
}

void answerJson(Service &service, Exchange &exchange, const std::vector<std::string> &ignoredNames,
                JsonWriter &writer) {
  HttpResponse response;
  response.headers = ignoredHeaders(ignoredNames);
  response.body = writer.take();
  service.answer(exchange, std::move(response));
}

void tokenize(Service &service, Exchange &exchange) {
  auto parsed = parseTokenize(exchange.request().body);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(exchange, *error);
  auto &request = std::get<TokenizeRequest>(parsed);
  if (auto error = findMissing(service, request.model))
    return service.answerError(exchange, *error);
  auto encoded = tokensOf(service, request);
  if (auto *error = std::get_if<ApiError>(&encoded))
    return service.answerError(exchange, *error);
  const auto &tokens = std::get<std::vector<int32_t>>(encoded);
  JsonWriter writer;
  writer.beginObject()
      .member("count", tokens.size())
      .member("max_model_len", service.engine().contextTokens());
  writer.arrayMember("tokens", tokens).key("token_strs");
  if (request.wantTokenTexts) {
    writer.beginArray();
    for (int32_t token : tokens)
      writer.value(service.model().tokenizer->idToToken(token));
    writer.endArray();
  } else {
    writer.null();
  }
  answerJson(service, exchange, request.ignoredNames, writer.endObject());
}

void detokenize(Service &service, Exchange &exchange) {
  auto parsed = parseDetokenize(exchange.request().body);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(exchange, *error);
  const auto &request = std::get<DetokenizeRequest>(parsed);
  if (auto error = findMissing(service, request.model))
    return service.answerError(exchange, *error);
  const Tokenizer &tokenizer = *service.model().tokenizer;
  for (int32_t token : request.tokens)
    if (token >= tokenizer.vocabSize())
      return service.answerError(exchange,
                                 invalidField("tokens", "`tokens` has " + std::to_string(token) +
                                                            "; this model's ids are 0 to " +
                                                            std::to_string(tokenizer.vocabSize() - 1)));
  JsonWriter writer;
  writer.beginObject().member("prompt", tokenizer.decode(request.tokens, /*skipSpecial=*/false));
  answerJson(service, exchange, request.ignoredNames, writer.endObject());
}

void applyTemplate(Service &service, Exchange &exchange) {
  auto parsed = parseTokenize(exchange.request().body);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(exchange, *error);
  auto &request = std::get<TokenizeRequest>(parsed);
  if (auto error = findMissing(service, request.model))
    return service.answerError(exchange, *error);
  if (request.prompt)
    return service.answerError(
        exchange, invalidField("messages", "`messages` is missing; a `prompt` goes through no template",
                               "missing_required_parameter"));
  auto chat = encodeChat(service, request.conversation, "messages");
  if (auto *error = std::get_if<ApiError>(&chat))
    return service.answerError(exchange, *error);
  JsonWriter writer;
  writer.beginObject().member("prompt", std::get<ChatTokens>(chat).text);
  answerJson(service, exchange, request.ignoredNames, writer.endObject());
}

void writeTextOrNull(JsonWriter &writer, std::string_view name, const std::string &text) {
  writer.key(name);
  if (text.empty())
    writer.null();
  else
    writer.value(text);
}

} // namespace

void answerTokenize(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { tokenize(service, *exchange); });
}

void answerDetokenize(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { detokenize(service, *exchange); });
}

void answerApplyTemplate(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { applyTemplate(service, *exchange); });
}

void answerTokenizerInfo(Service &service, std::shared_ptr<Exchange> exchange) {
  if (auto error = findMissing(service, ""))
    return service.answerError(*exchange, *error);
  const ServedModel &model = service.model();
  JsonWriter writer;
  writer.beginObject().member("tokenizer_class", model.tokenizer->kind());
  writeTextOrNull(writer, "bos_token", model.bosText);
  writeTextOrNull(writer, "eos_token", model.eosText);
  writer.key("pad_token").null();
  writeTextOrNull(writer, "chat_template", model.templateText);
  writer.member("add_bos_token", model.tokenizer->addsBos())
      .member("add_eos_token", model.tokenizer->addsEos());
  writer.member("model_max_length", service.engine().contextTokens())
      .member("vocab_size", model.tokenizer->vocabSize());
  answerJson(service, *exchange, {}, writer.endObject());
}

} // namespace girih::server
