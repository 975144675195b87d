// SPDX-License-Identifier: Apache-2.0
// Bodies of OpenAI's /v1/responses: what is asked for, with the items of the input still as they came.
#include "runtime/server/generation_fields.h"
#include "runtime/server/tool_fields.h"

#include "runtime/base/json.h"

#include <limits>

namespace girih::server {
namespace {

// Fields that say nothing about the answer's text, or only what is the case anyway.
constexpr std::string_view kWithoutEffect[] = {"include",   "max_tool_calls",    "prompt_cache_key",
                                               "reasoning", "safety_identifier", "stream_options",
                                               "user"};

void takeInput(RequestFields &fields, std::vector<std::string> &items) {
  auto input = fields.take("input");
  if (!input)
    return fields.fail("input", "is missing; it must be a string or an array of items",
                       "missing_required_parameter");
  if (input->isString()) {
    JsonWriter writer;
    writer.beginObject()
        .member("type", "message")
        .member("role", "user")
        .member("content", *input->asString());
    items.push_back(writer.endObject().take());
    return;
  }
  std::vector<JsonValue> entries = input->elements();
  if (entries.empty() || entries.size() > kMaxMessages)
    return fields.fail("input",
                       "must be a string or an array of 1 to " + std::to_string(kMaxMessages) + " items",
                       "invalid_type");
  for (JsonValue entry : entries)
    items.push_back(entry.print());
}

void refuseUnoffered(RequestFields &fields) {
  for (std::string_view name : {"conversation", "background_options", "context_management", "moderation"})
    if (fields.take(name))
      fields.fail(name, "is not offered by this server", "unsupported_parameter");
  if (auto background = fields.take("background"))
    fields.refuseUnless(background->asBoolean().isOk() && !*background->asBoolean(), "background",
                        "is not offered by this server; stream instead");
  if (auto truncation = fields.take("truncation"))
    fields.refuseUnless(truncation->isString() && *truncation->asString() == "disabled", "truncation",
                        "must be \"disabled\": a prompt that is too long is refused");
  int64_t numTopLogprobs = 0;
  fields.takeInteger("top_logprobs", 0, 20, numTopLogprobs);
  fields.refuseUnless(numTopLogprobs == 0, "top_logprobs", "are given by /v1/chat/completions only");
}

// {"id": NAME}: a text that the operator named.
void takePrompt(RequestFields &fields, std::string &name) {
  auto prompt = fields.take("prompt");
  if (!prompt)
    return;
  auto id = prompt->find("id"), variables = prompt->find("variables");
  bool hasVariables = variables && !variables->isNull() && !variables->members().empty();
  if (!id || !id->isString() || hasVariables)
    return fields.fail("prompt",
                       "must be an object whose `id` names a prompt of this server, without variables");
  name = *id->asString();
}

// The field as it came, for the response to say again.
void copyJson(RequestFields &fields, std::string_view name, std::string &json) {
  if (auto value = fields.take(name))
    json = value->print();
}

} // namespace

ApiResult<ResponsesRequest> parseResponses(std::string_view body,
                                           const program::GenerationDefaults &defaults) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  JsonValue root = std::get<JsonDocument>(document).root();
  RequestFields fields(root);
  ResponsesRequest request;
  GenerationParameters &parameters = request.generation;
  takeInput(fields, request.items);
  fields.takeText("model", parameters.model);
  fields.takeText("instructions", request.instructions);
  fields.takeText("previous_response_id", request.previousId);
  fields.takeBoolean("stream", parameters.stream);
  int64_t maxTokens = -1;
  fields.takeInteger("max_output_tokens", 1, std::numeric_limits<int32_t>::max(), maxTokens);
  if (maxTokens > 0)
    parameters.maxTokens = static_cast<uint32_t>(maxTokens);
  takeSampling(fields, defaults, parameters.sampling);
  takeRules(fields, parameters);
  // Read by takeCaching too, for the cache.
  if (auto store = root.find("store"); store && !store->isNull())
    request.isStored = store->asBoolean().isOk() && *store->asBoolean();
  takeCaching(fields, parameters);
  takePrompt(fields, request.promptName);
  takeFormat(fields, "text", parameters.shape);
  takeTools(fields, request.toolUse);
  copyJson(fields, "tools", request.toolsJson);
  copyJson(fields, "tool_choice", request.toolChoiceJson);
  copyJson(fields, "text", request.textJson);
  copyJson(fields, "metadata", request.metadataJson);
  refuseUnoffered(fields);
  for (std::string_view name : kWithoutEffect)
    (void)fields.take(name);
  if (fields.hasFailed())
    return fields.error();
  parameters.ignoredNames = fields.unknownNames();
  return request;
}

} // namespace girih::server
