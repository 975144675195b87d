// SPDX-License-Identifier: Apache-2.0
// Bodies of /v1/chat/completions and /v1/completions: what is accepted, within which bounds, and what is refused.
#include "runtime/server/request_fields.h"

#include "runtime/base/json.h"
#include "runtime/engine/engine.h"

#include <algorithm>
#include <array>
#include <limits>
#include <random>

namespace girih::server {
namespace {

// Fields of the OpenAI API that say nothing about the answer's text: known, so not reported as ignored.
constexpr std::string_view kWithoutEffect[] = {"user", "store", "metadata", "service_tier", "safety_identifier",
                                               "prompt_cache_key", "parallel_tool_calls"};

void takeStop(RequestFields &fields, GenerationParameters &parameters) {
  auto stop = fields.take("stop");
  if (!stop)
    return;
  std::vector<JsonValue> entries = stop->isArray() ? stop->elements() : std::vector<JsonValue>{*stop};
  if (entries.size() > kMaxStopStrings)
    return fields.fail("stop", "has " + std::to_string(entries.size()) + " strings; at most " + std::to_string(kMaxStopStrings) + " are accepted");
  for (JsonValue entry : entries) {
    auto text = entry.asString();
    if (!text.isOk())
      return fields.fail("stop", "must be a string or an array of strings", "invalid_type");
    if (text->size() > kMaxStopBytes)
      return fields.fail("stop", "has a string of " + std::to_string(text->size()) + " bytes; at most " + std::to_string(kMaxStopBytes) + " are accepted");
    if (!text->empty())
      parameters.stop.emplace_back(*text);
  }
}

// Requires: `array` is an array. False when an element is no token id; the engine checks the vocabulary's size.
bool readTokens(JsonValue array, std::vector<int32_t> &tokens) {
  for (JsonValue element : array.elements()) {
    auto token = element.asInteger();
    if (!token.isOk() || *token < 0 || *token > std::numeric_limits<int32_t>::max())
      return false;
    tokens.push_back(static_cast<int32_t>(*token));
  }
  return true;
}

void takeStopTokens(RequestFields &fields, GenerationParameters &parameters) {
  auto ids = fields.take("stop_token_ids");
  if (ids && (!ids->isArray() || !readTokens(*ids, parameters.stopTokens) || parameters.stopTokens.size() > 256))
    fields.fail("stop_token_ids", "must be an array of at most 256 token ids");
}

void takeSampling(RequestFields &fields, const program::GenerationDefaults &defaults, engine::SamplingOptions &sampling) {
  if (defaults.hasSampling)
    sampling = {defaults.temperature, defaults.topK, defaults.topP, defaults.minP, defaults.repetitionPenalty, 0};
  fields.takeNumber("temperature", 0, 2, sampling.temperature);
  fields.takeNumber("top_p", 0, 1, sampling.topP, /*aboveLowest=*/true);
  fields.takeNumber("min_p", 0, 1, sampling.minP);
  fields.takeNumber("repetition_penalty", 0, 10, sampling.repetitionPenalty, /*aboveLowest=*/true);
  int64_t topK = sampling.topK;
  fields.takeInteger("top_k", -1, std::numeric_limits<int32_t>::max(), topK);
  sampling.topK = static_cast<int32_t>(std::max<int64_t>(topK, 0));  // -1 is how other servers write "off"
  int64_t seed = static_cast<int64_t>(std::random_device{}());
  fields.takeInteger("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), seed);
  sampling.seed = static_cast<uint64_t>(seed);
}

// What would change the answer and is not offered is refused by name: a client must not believe that it had effect.
void refuseUnoffered(RequestFields &fields) {
  int64_t numChoices = 1;
  for (std::string_view name : {"n", "best_of"}) {
    fields.takeInteger(name, 1, 128, numChoices);
    fields.refuseUnless(numChoices == 1, name, "is " + std::to_string(numChoices) + "; this server gives one choice for each request: send several requests, they share steps");
    numChoices = 1;
  }
  for (std::string_view name : {"presence_penalty", "frequency_penalty"}) {
    float penalty = 0;
    fields.takeNumber(name, -2, 2, penalty);
    fields.refuseUnless(penalty == 0, name, "is not offered by this server; use `repetition_penalty`");
  }
  if (auto bias = fields.take("logit_bias"))
    fields.refuseUnless(bias->isObject() && bias->members().empty(), "logit_bias", "is not offered by this server");
  if (auto tools = fields.take("tools"))
    fields.refuseUnless(tools->isArray() && tools->elements().empty(), "tools", "are not offered by this server; describe them in a message");
  if (auto choice = fields.take("tool_choice"); choice && choice->isString())
    fields.refuseUnless(*choice->asString() != "required", "tool_choice", "is \"required\", but tools are not offered by this server");
  if (auto format = fields.take("response_format")) {
    auto kind = format->find("type");
    bool isText = kind && kind->isString() && *kind->asString() == "text";
    fields.refuseUnless(isText, "response_format", "must be {\"type\": \"text\"}: structured output is not offered by this server");
  }
}

void takeStreaming(RequestFields &fields, GenerationParameters &parameters) {
  fields.takeBoolean("stream", parameters.stream);
  auto options = fields.take("stream_options");
  if (!options)
    return;
  if (!options->isObject())
    return fields.fail("stream_options", "must be an object", "invalid_type");
  RequestFields nested(*options, "stream_options.");
  nested.takeBoolean("include_usage", parameters.includeUsage);
  if (nested.hasFailed())
    fields.fail("stream_options", "has an `include_usage` that is neither true nor false", "invalid_type");
}

void takeShared(RequestFields &fields, const program::GenerationDefaults &defaults, GenerationParameters &parameters) {
  fields.takeText("model", parameters.model);
  takeSampling(fields, defaults, parameters.sampling);
  takeStop(fields, parameters);
  takeStopTokens(fields, parameters);
  fields.takeBoolean("ignore_eos", parameters.ignoreStop);
  takeStreaming(fields, parameters);
  refuseUnoffered(fields);
  // The later name wins where a client sends both, as OpenAI deprecates max_tokens.
  for (std::string_view name : {"max_tokens", "max_completion_tokens"}) {
    int64_t maxTokens = -1;
    fields.takeInteger(name, 1, std::numeric_limits<int32_t>::max(), maxTokens);
    if (maxTokens >= 0)
      parameters.maxTokens = static_cast<uint32_t>(maxTokens);
  }
  for (std::string_view name : kWithoutEffect)
    (void)fields.take(name);
}

// Null when the content is text (or nothing); else what is wrong with it.
const char *faultOfContent(std::optional<JsonValue> content) {
  if (!content || content->isNull() || content->isString())
    return nullptr;
  if (!content->isArray())
    return "has a content that is neither a string nor an array of text parts";
  for (JsonValue part : content->elements()) {
    auto kind = part.find("type"), text = part.find("text");
    if (!kind || !kind->isString() || *kind->asString() != "text")
      return "has a content part that is not of type \"text\"; this model reads text only";
    if (!text || !text->isString())
      return "has a text part without a string `text`";
  }
  return nullptr;
}

void takeMessages(RequestFields &fields, std::string &messagesJson) {
  auto messages = fields.take("messages");
  if (!messages || !messages->isArray() || messages->elements().empty())
    return fields.fail("messages", "must be an array with at least one message", messages ? "invalid_type" : "missing_required_parameter");
  std::vector<JsonValue> entries = messages->elements();
  if (entries.size() > kMaxMessages)
    return fields.fail("messages", "has " + std::to_string(entries.size()) + " entries; at most " + std::to_string(kMaxMessages) + " are accepted");
  JsonWriter writer;
  writer.beginArray();
  for (size_t messageIndex = 0; messageIndex < entries.size(); ++messageIndex) {
    std::string place = "messages[" + std::to_string(messageIndex) + "]";
    auto role = entries[messageIndex].find("role");
    constexpr std::array<std::string_view, 6> kRoles = {"system", "developer", "user", "assistant", "tool", "function"};
    if (!role || !role->isString() || std::find(kRoles.begin(), kRoles.end(), *role->asString()) == kRoles.end())
      return fields.fail(place + ".role", "must be one of system, developer, user, assistant, tool, function");
    if (const char *fault = faultOfContent(entries[messageIndex].find("content")))
      return fields.fail(place, fault);
    writer.beginObject();
    for (const JsonMember &member : entries[messageIndex].members()) {
      writer.key(member.key);
      // Templates know only the older of the two names.
      if (member.key == "role" && *role->asString() == "developer")
        writer.value("system");
      else
        writer.raw(member.value.print());
    }
    writer.endObject();
  }
  messagesJson = writer.endArray().take();
}

void takePrompt(RequestFields &fields, CompletionRequest &request) {
  auto prompt = fields.take("prompt");
  if (!prompt)
    return fields.fail("prompt", "is missing; it must be a string or an array of token ids", "missing_required_parameter");
  JsonValue single = *prompt;
  if (prompt->isArray() && !prompt->elements().empty()) {
    std::vector<JsonValue> entries = prompt->elements();
    bool isNested = entries.front().isString() || entries.front().isArray();
    fields.refuseUnless(!isNested || entries.size() == 1, "prompt", "has " + std::to_string(entries.size()) + " prompts; send one request for each, they share steps");
    if (isNested)
      single = entries.front();
  }
  if (auto text = single.asString(); text.isOk()) {
    request.promptText = *text;
    return;
  }
  request.hasTokens = true;
  if (!single.isArray() || !readTokens(single, request.promptTokens))
    fields.fail("prompt", "must be a string or an array of token ids", "invalid_type");
}

void takeCompletionExtras(RequestFields &fields, GenerationParameters &parameters) {
  int64_t numLogprobs = -1;
  fields.takeInteger("logprobs", 0, engine::kMaxTopLogprobs, numLogprobs);
  parameters.wantLogprobs = numLogprobs >= 0;
  parameters.numTopLogprobs = static_cast<uint32_t>(std::max<int64_t>(numLogprobs, 0));
  bool echo = false;
  fields.takeBoolean("echo", echo);
  fields.refuseUnless(!echo, "echo", "is not offered by this server");
  if (auto suffix = fields.take("suffix"))
    fields.refuseUnless(suffix->isString() && suffix->asString()->empty(), "suffix", "is not offered by this server");
}

void takeChatExtras(RequestFields &fields, ChatCompletionRequest &request) {
  fields.takeBoolean("logprobs", request.generation.wantLogprobs);
  int64_t numTopLogprobs = 0;
  fields.takeInteger("top_logprobs", 0, engine::kMaxTopLogprobs, numTopLogprobs);
  if (numTopLogprobs > 0 && !request.generation.wantLogprobs)
    fields.fail("top_logprobs", "needs `logprobs` to be true");
  request.generation.numTopLogprobs = static_cast<uint32_t>(numTopLogprobs);
  fields.takeBoolean("add_generation_prompt", request.addGenerationPrompt);
  if (auto extra = fields.take("chat_template_kwargs")) {
    if (!extra->isObject())
      return fields.fail("chat_template_kwargs", "must be an object", "invalid_type");
    request.extraJson = extra->print();
  }
}

// The body as an object, or why it is none.
ApiResult<JsonDocument> parseObject(std::string_view body) {
  auto document = JsonDocument::parse(body, kMaxJsonDepth);
  if (!document.isOk())
    return ApiError{400, "invalid_request_error", "invalid_json",
                    "the body is not JSON of at most " + std::to_string(kMaxJsonDepth) + " levels: " + std::string(document.status().message()), ""};
  if (!document->root().isObject())
    return ApiError{400, "invalid_request_error", "invalid_json", "the body must be a JSON object, not " + std::string(jsonKindName(document->root().kind())), ""};
  return std::move(document).value();
}

}  // namespace

ApiResult<ChatCompletionRequest> parseChatCompletion(std::string_view body, const program::GenerationDefaults &defaults) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  ChatCompletionRequest request;
  takeMessages(fields, request.messagesJson);
  takeShared(fields, defaults, request.generation);
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
  takePrompt(fields, request);
  takeShared(fields, defaults, request.generation);
  takeCompletionExtras(fields, request.generation);
  if (!request.generation.maxTokens)
    request.generation.maxTokens = kDefaultCompletionTokens;
  if (fields.hasFailed())
    return fields.error();
  request.generation.ignoredNames = fields.unknownNames();
  return request;
}

}  // namespace girih::server
