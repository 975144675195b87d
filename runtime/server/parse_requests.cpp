// SPDX-License-Identifier: Apache-2.0
// Bodies of /v1/chat/completions, /v1/completions, /v1/embeddings, /tokenize and /detokenize: what is accepted, within which bounds, and what is refused.
#include "runtime/server/chat_fields.h"
#include "runtime/server/generation_fields.h"
#include "runtime/server/tool_fields.h"

#include "runtime/engine/engine.h"

#include <algorithm>
#include <limits>

namespace girih::server {
namespace {

// Fields of the OpenAI API that say nothing about the answer's text: known, so not reported as ignored.
constexpr std::string_view kWithoutEffect[] = {"user", "metadata", "safety_identifier", "prompt_cache_key"};

void takeChoices(RequestFields &fields, GenerationParameters &parameters) {
  int64_t numChoices = 1, bestOf = 1;
  fields.takeInteger("n", 1, kMaxChoices, numChoices);
  fields.takeInteger("best_of", 1, kMaxChoices, bestOf);
  fields.refuseUnless(bestOf == 1 || bestOf == numChoices, "best_of", "is " + std::to_string(bestOf) + "; this server gives every answer that it makes: ask for them with `n`");
  parameters.numChoices = static_cast<uint32_t>(numChoices);
}

void takeShared(RequestFields &fields, const program::GenerationDefaults &defaults, GenerationParameters &parameters,
                int64_t leastMaxTokens) {
  fields.takeText("model", parameters.model);
  takeSampling(fields, defaults, parameters.sampling);
  takeStopStrings(fields, "stop", parameters);
  takeStopTokens(fields, parameters);
  fields.takeBoolean("ignore_eos", parameters.ignoreStop);
  takeStreaming(fields, parameters);
  takeChoices(fields, parameters);
  takeRules(fields, parameters);
  takeCaching(fields, parameters);
  takeShape(fields, parameters.shape);
  // The later name wins where a client sends both, as OpenAI deprecates max_tokens.
  for (std::string_view name : {"max_tokens", "max_completion_tokens"}) {
    int64_t maxTokens = -1;
    fields.takeInteger(name, leastMaxTokens, std::numeric_limits<int32_t>::max(), maxTokens);
    if (maxTokens >= 0)
      parameters.maxTokens = static_cast<uint32_t>(maxTokens);
  }
  for (std::string_view name : kWithoutEffect)
    (void)fields.take(name);
}

// False when the value is neither a text nor token ids.
bool readPrompt(JsonValue value, std::vector<RawPrompt> &prompts) {
  RawPrompt prompt;
  if (auto text = value.asString(); text.isOk()) {
    prompt.text = *text;
  } else {
    prompt.hasTokens = true;
    if (!value.isArray() || !readTokens(value, prompt.tokens))
      return false;
  }
  prompts.push_back(std::move(prompt));
  return true;
}

// A text, token ids, or an array of either.
void takePrompts(RequestFields &fields, std::string_view name, size_t most, std::vector<RawPrompt> &prompts) {
  auto prompt = fields.take(name);
  if (!prompt)
    return fields.fail(name, "is missing; it must be a string or an array of token ids", "missing_required_parameter");
  std::vector<JsonValue> entries{*prompt};
  if (prompt->isArray()) {
    std::vector<JsonValue> elements = prompt->elements();
    if (!elements.empty() && (elements.front().isString() || elements.front().isArray()))
      entries = std::move(elements);
  }
  if (entries.size() > most)
    return fields.fail(name, "has " + std::to_string(entries.size()) + " entries; at most " + std::to_string(most) + " are accepted");
  for (JsonValue entry : entries)
    if (!readPrompt(entry, prompts))
      return fields.fail(name, "must be a string, an array of token ids, or an array of these", "invalid_type");
}

void takeCompletionExtras(RequestFields &fields, GenerationParameters &parameters) {
  int64_t numLogprobs = -1;
  fields.takeInteger("logprobs", 0, engine::kMaxTopLogprobs, numLogprobs);
  parameters.wantLogprobs = parameters.tellsStopToken = numLogprobs >= 0;
  parameters.numTopLogprobs = static_cast<uint32_t>(std::max<int64_t>(numLogprobs, 0));
  fields.takeBoolean("echo", parameters.echo);
  if (parameters.maxTokens == 0u && !parameters.echo)
    fields.fail("max_tokens", "is 0, which gives an answer only with `echo`");
  if (auto tools = fields.take("tools"))
    fields.refuseUnless(tools->isArray() && tools->elements().empty(), "tools", "are for /v1/chat/completions");
  if (auto suffix = fields.take("suffix"))
    fields.refuseUnless(suffix->isString() && suffix->asString()->empty(), "suffix", "is not offered by this server");
}

void takeChatExtras(RequestFields &fields, ChatCompletionRequest &request) {
  for (std::string_view name : {"functions", "function_call"})
    if (auto old = fields.take(name))
      fields.refuseUnless(old->isArray() && old->elements().empty(), name, "is no longer offered; use `tools`");
  fields.takeBoolean("logprobs", request.generation.wantLogprobs);
  int64_t numTopLogprobs = 0;
  fields.takeInteger("top_logprobs", 0, engine::kMaxTopLogprobs, numTopLogprobs);
  if (numTopLogprobs > 0 && !request.generation.wantLogprobs)
    fields.fail("top_logprobs", "needs `logprobs` to be true");
  request.generation.numTopLogprobs = static_cast<uint32_t>(numTopLogprobs);
}

}  // namespace

ApiResult<ChatCompletionRequest> parseChatCompletion(std::string_view body, const program::GenerationDefaults &defaults) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  ChatCompletionRequest request;
  takeMessages(fields, request.chat);
  takeTemplateOptions(fields, request.chat);
  takeTools(fields, request.toolUse);
  takeShared(fields, defaults, request.generation, /*leastMaxTokens=*/1);
  takeChatExtras(fields, request);
  if (fields.hasFailed())
    return fields.error();
  request.generation.ignoredNames = fields.unknownNames();
  return request;
}

ApiResult<CompletionRequest> parseCompletion(std::string_view body, const program::GenerationDefaults &defaults) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  CompletionRequest request;
  takePrompts(fields, "prompt", kMaxChoices, request.prompts);
  takeShared(fields, defaults, request.generation, /*leastMaxTokens=*/0);
  takeCompletionExtras(fields, request.generation);
  if (request.prompts.size() * request.generation.numChoices > kMaxChoices)
    fields.fail("n", "asks for " + std::to_string(request.generation.numChoices) + " answers to each of " + std::to_string(request.prompts.size()) + " prompts; at most " + std::to_string(kMaxChoices) + " answers are given to one request");
  if (!request.generation.maxTokens)
    request.generation.maxTokens = kDefaultCompletionTokens;
  if (fields.hasFailed())
    return fields.error();
  request.generation.ignoredNames = fields.unknownNames();
  return request;
}

ApiResult<EmbeddingRequest> parseEmbedding(std::string_view body) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  EmbeddingRequest request;
  fields.takeText("model", request.model);
  takePrompts(fields, "input", kMaxEmbeddingInputs, request.inputs);
  std::string encoding = "float";
  fields.takeText("encoding_format", encoding);
  request.wantsBase64 = encoding == "base64";
  if (!request.wantsBase64 && encoding != "float")
    fields.fail("encoding_format", "must be \"float\" or \"base64\"");
  int64_t dimensions = 0;
  fields.takeInteger("dimensions", 1, std::numeric_limits<int32_t>::max(), dimensions);
  if (dimensions > 0)
    request.dimensions = static_cast<uint32_t>(dimensions);
  (void)fields.take("user");
  if (fields.hasFailed())
    return fields.error();
  request.ignoredNames = fields.unknownNames();
  return request;
}

ApiResult<TokenizeRequest> parseTokenize(std::string_view body) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  TokenizeRequest request;
  fields.takeText("model", request.model);
  if (fields.take("prompt")) {
    fields.takeText("prompt", request.prompt.emplace());
  } else {
    takeMessages(fields, request.conversation.chat);
    takeTemplateOptions(fields, request.conversation.chat);
    takeTools(fields, request.conversation.toolUse);
  }
  fields.takeBoolean("add_special_tokens", request.addSpecial);
  fields.takeBoolean("return_token_strs", request.wantTokenTexts);
  if (fields.hasFailed())
    return fields.error();
  request.ignoredNames = fields.unknownNames();
  return request;
}

ApiResult<DetokenizeRequest> parseDetokenize(std::string_view body) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  DetokenizeRequest request;
  fields.takeText("model", request.model);
  auto tokens = fields.take("tokens");
  if (!tokens || !tokens->isArray() || !readTokens(*tokens, request.tokens))
    fields.fail("tokens", "must be an array of token ids", tokens ? "invalid_type" : "missing_required_parameter");
  if (fields.hasFailed())
    return fields.error();
  request.ignoredNames = fields.unknownNames();
  return request;
}

} // namespace girih::server
