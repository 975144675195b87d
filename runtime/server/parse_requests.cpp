// SPDX-License-Identifier: Apache-2.0
// Bodies of /v1/chat/completions and /v1/completions: what is accepted, within which bounds, and what is refused.
#include "runtime/server/request_fields.h"

#include "runtime/base/json.h"
#include "runtime/engine/engine.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <random>

namespace girih::server {
namespace {

// Fields of the OpenAI API that say nothing about the answer's text: known, so not reported as ignored.
constexpr std::string_view kWithoutEffect[] = {"user", "store", "metadata", "safety_identifier", "prompt_cache_key",
                                               "parallel_tool_calls"};
constexpr size_t kMaxSaltBytes = 256;

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

void takeChoices(RequestFields &fields, GenerationParameters &parameters) {
  int64_t numChoices = 1, bestOf = 1;
  fields.takeInteger("n", 1, kMaxChoices, numChoices);
  fields.takeInteger("best_of", 1, kMaxChoices, bestOf);
  fields.refuseUnless(bestOf == 1 || bestOf == numChoices, "best_of", "is " + std::to_string(bestOf) + "; this server gives every answer that it makes: ask for them with `n`");
  parameters.numChoices = static_cast<uint32_t>(numChoices);
}

void takeBiases(RequestFields &fields, engine::AnswerRules &rules) {
  auto bias = fields.take("logit_bias");
  if (!bias)
    return;
  if (!bias->isObject())
    return fields.fail("logit_bias", "must be an object of token ids and numbers", "invalid_type");
  std::vector<JsonMember> members = bias->members();
  if (members.size() > engine::kMaxTokenBiases)
    return fields.fail("logit_bias", "has " + std::to_string(members.size()) + " tokens; at most " + std::to_string(engine::kMaxTokenBiases) + " are accepted");
  for (const JsonMember &member : members) {
    int32_t token = -1;
    auto [end, error] = std::from_chars(member.key.data(), member.key.data() + member.key.size(), token);
    auto number = member.value.asNumber();
    if (error != std::errc{} || end != member.key.data() + member.key.size() || token < 0 || !number.isOk() || !(*number >= -100 && *number <= 100))
      return fields.fail("logit_bias", "must map token ids to numbers from -100 to 100");
    rules.biases.push_back({token, static_cast<float>(*number)});
  }
}

void takeRules(RequestFields &fields, GenerationParameters &parameters) {
  fields.takeNumber("presence_penalty", -2, 2, parameters.rules.presencePenalty);
  fields.takeNumber("frequency_penalty", -2, 2, parameters.rules.frequencyPenalty);
  int64_t minTokens = 0;
  fields.takeInteger("min_tokens", 0, std::numeric_limits<int32_t>::max(), minTokens);
  parameters.rules.minTokens = static_cast<uint32_t>(minTokens);
  takeBiases(fields, parameters.rules);
}

// "90s", "30m", "24h", "7d"; false when it is none of these.
bool readDuration(std::string_view text, uint32_t &seconds) {
  uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  uint32_t factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  if (error != std::errc{} || factor == 0 || number > engine::kMaxKeepSeconds / factor)
    return false;
  seconds = number * factor;
  return true;
}

// How long what was computed for this request should stay: OpenAI's two spellings of it.
void takeCaching(RequestFields &fields, GenerationParameters &parameters) {
  fields.takeText("cache_salt", parameters.cacheSalt);
  if (parameters.cacheSalt.size() > kMaxSaltBytes)
    return fields.fail("cache_salt", "has " + std::to_string(parameters.cacheSalt.size()) + " bytes; at most " + std::to_string(kMaxSaltBytes) + " are accepted");
  std::string retention, tier;
  fields.takeText("prompt_cache_retention", retention);
  bool isKnown = retention.empty() || retention == "in_memory" || retention == "in-memory" || readDuration(retention, parameters.keepSeconds);
  if (!isKnown)
    return fields.fail("prompt_cache_retention", "must be \"in_memory\" or a time such as \"24h\"");
  if (auto options = fields.take("prompt_cache_options")) {
    if (!options->isObject())
      return fields.fail("prompt_cache_options", "must be an object", "invalid_type");
    if (auto ttl = options->find("ttl"); ttl && !ttl->isNull()) {
      auto text = ttl->asString();
      if (!text.isOk() || !readDuration(*text, parameters.keepSeconds))
        return fields.fail("prompt_cache_options", "has a `ttl` that is no time such as \"30m\"");
    }
  }
  fields.takeText("service_tier", tier);
  parameters.isPatient = tier == "flex";
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

void takeShared(RequestFields &fields, const program::GenerationDefaults &defaults, GenerationParameters &parameters,
                int64_t leastMaxTokens) {
  fields.takeText("model", parameters.model);
  takeSampling(fields, defaults, parameters.sampling);
  takeStop(fields, parameters);
  takeStopTokens(fields, parameters);
  fields.takeBoolean("ignore_eos", parameters.ignoreStop);
  takeStreaming(fields, parameters);
  takeChoices(fields, parameters);
  takeRules(fields, parameters);
  takeCaching(fields, parameters);
  refuseUnoffered(fields);
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

// False when the value is neither a text nor token ids.
bool readPrompt(JsonValue value, CompletionRequest &request) {
  CompletionRequest::Prompt prompt;
  if (auto text = value.asString(); text.isOk()) {
    prompt.text = *text;
  } else {
    prompt.hasTokens = true;
    if (!value.isArray() || !readTokens(value, prompt.tokens))
      return false;
  }
  request.prompts.push_back(std::move(prompt));
  return true;
}

// A text, token ids, or an array of either.
void takePrompts(RequestFields &fields, CompletionRequest &request) {
  auto prompt = fields.take("prompt");
  if (!prompt)
    return fields.fail("prompt", "is missing; it must be a string or an array of token ids", "missing_required_parameter");
  std::vector<JsonValue> entries{*prompt};
  if (prompt->isArray()) {
    std::vector<JsonValue> elements = prompt->elements();
    if (!elements.empty() && (elements.front().isString() || elements.front().isArray()))
      entries = std::move(elements);
  }
  if (entries.size() > kMaxChoices)
    return fields.fail("prompt", "has " + std::to_string(entries.size()) + " prompts; at most " + std::to_string(kMaxChoices) + " are accepted");
  for (JsonValue entry : entries)
    if (!readPrompt(entry, request))
      return fields.fail("prompt", "must be a string, an array of token ids, or an array of these", "invalid_type");
}

void takeCompletionExtras(RequestFields &fields, GenerationParameters &parameters) {
  int64_t numLogprobs = -1;
  fields.takeInteger("logprobs", 0, engine::kMaxTopLogprobs, numLogprobs);
  parameters.wantLogprobs = numLogprobs >= 0;
  parameters.numTopLogprobs = static_cast<uint32_t>(std::max<int64_t>(numLogprobs, 0));
  fields.takeBoolean("echo", parameters.echo);
  if (parameters.maxTokens == 0u && !parameters.echo)
    fields.fail("max_tokens", "is 0, which gives an answer only with `echo`");
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
  takePrompts(fields, request);
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

}  // namespace girih::server
