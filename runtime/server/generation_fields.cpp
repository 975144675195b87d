// SPDX-License-Identifier: Apache-2.0
// GenerationFields: sampling, stops, rules, caching and streaming, each fault naming its field.
#include "runtime/server/generation_fields.h"

#include "runtime/engine/engine.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <random>

namespace girih::server {
namespace {

constexpr size_t kMaxSaltBytes = 256;

void takeBiases(RequestFields &fields, engine::AnswerRules &rules) {
  auto bias = fields.take("logit_bias");
  if (!bias)
    return;
  if (!bias->isObject())
    return fields.fail("logit_bias", "must be an object of token ids and numbers", "invalid_type");
  std::vector<JsonMember> members = bias->members();
  if (members.size() > engine::kMaxTokenBiases)
    return fields.fail("logit_bias", "has " + std::to_string(members.size()) + " tokens; at most " +
                                         std::to_string(engine::kMaxTokenBiases) + " are accepted");
  for (const JsonMember &member : members) {
    int32_t token = -1;
    auto [end, error] = std::from_chars(member.key.data(), member.key.data() + member.key.size(), token);
    auto number = member.value.asNumber();
    if (error != std::errc{} || end != member.key.data() + member.key.size() || token < 0 || !number.isOk() ||
        !(*number >= -100 && *number <= 100))
      return fields.fail("logit_bias", "must map token ids to numbers from -100 to 100");
    rules.biases.push_back({token, static_cast<float>(*number)});
  }
}

} // namespace

ApiResult<JsonDocument> parseObject(std::string_view body) {
  auto document = JsonDocument::parse(body, kMaxJsonDepth);
  if (!document.isOk())
    return ApiError{400, "invalid_request_error", "invalid_json",
                    "the body is not JSON of at most " + std::to_string(kMaxJsonDepth) +
                        " levels: " + std::string(document.status().message()),
                    ""};
  if (!document->root().isObject())
    return ApiError{
        400, "invalid_request_error", "invalid_json",
        "the body must be a JSON object, not " + std::string(jsonKindName(document->root().kind())), ""};
  return std::move(document).value();
}

void takeStopStrings(RequestFields &fields, std::string_view name, GenerationParameters &parameters) {
  auto stop = fields.take(name);
  if (!stop)
    return;
  std::vector<JsonValue> entries = stop->isArray() ? stop->elements() : std::vector<JsonValue>{*stop};
  if (entries.size() > kMaxStopStrings)
    return fields.fail(name, "has " + std::to_string(entries.size()) + " strings; at most " +
                                 std::to_string(kMaxStopStrings) + " are accepted");
  for (JsonValue entry : entries) {
    auto text = entry.asString();
    if (!text.isOk())
      return fields.fail(name, "must be a string or an array of strings", "invalid_type");
    if (text->size() > kMaxStopBytes)
      return fields.fail(name, "has a string of " + std::to_string(text->size()) + " bytes; at most " +
                                   std::to_string(kMaxStopBytes) + " are accepted");
    if (!text->empty())
      parameters.stop.emplace_back(*text);
  }
}

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
  if (ids &&
      (!ids->isArray() || !readTokens(*ids, parameters.stopTokens) || parameters.stopTokens.size() > 256))
    fields.fail("stop_token_ids", "must be an array of at most 256 token ids");
}

void takeSampling(RequestFields &fields, const program::GenerationDefaults &defaults,
                  engine::SamplingOptions &sampling, double highestTemperature) {
  if (defaults.hasSampling)
    sampling = {
        defaults.temperature, defaults.topK, defaults.topP, defaults.minP, defaults.repetitionPenalty, 0};
  fields.takeNumber("temperature", 0, highestTemperature, sampling.temperature);
  fields.takeNumber("top_p", 0, 1, sampling.topP, /*aboveLowest=*/true);
  fields.takeNumber("min_p", 0, 1, sampling.minP);
  fields.takeNumber("repetition_penalty", 0, 10, sampling.repetitionPenalty, /*aboveLowest=*/true);
  int64_t topK = sampling.topK;
  fields.takeInteger("top_k", -1, std::numeric_limits<int32_t>::max(), topK);
  sampling.topK = static_cast<int32_t>(std::max<int64_t>(topK, 0)); // -1 is how other servers write "off"
  int64_t seed = static_cast<int64_t>(std::random_device{}());
  fields.takeInteger("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), seed);
  sampling.seed = static_cast<uint64_t>(seed);
}

void takeRules(RequestFields &fields, GenerationParameters &parameters) {
  fields.takeNumber("presence_penalty", -2, 2, parameters.rules.presencePenalty);
  fields.takeNumber("frequency_penalty", -2, 2, parameters.rules.frequencyPenalty);
  int64_t minTokens = 0;
  fields.takeInteger("min_tokens", 0, std::numeric_limits<int32_t>::max(), minTokens);
  parameters.rules.minTokens = static_cast<uint32_t>(minTokens);
  takeBiases(fields, parameters.rules);
}

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

void takeCaching(RequestFields &fields, GenerationParameters &parameters) {
  fields.takeText("cache_salt", parameters.cacheSalt);
  if (parameters.cacheSalt.size() > kMaxSaltBytes)
    return fields.fail("cache_salt", "has " + std::to_string(parameters.cacheSalt.size()) +
                                         " bytes; at most " + std::to_string(kMaxSaltBytes) +
                                         " are accepted");
  std::string retention, tier;
  fields.takeText("prompt_cache_retention", retention);
  bool isKnown = retention.empty() || retention == "in_memory" || retention == "in-memory" ||
                 readDuration(retention, parameters.keepSeconds);
  parameters.keepOnDisk = !retention.starts_with("in");
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
  bool isStored = true;
  fields.takeBoolean("store", isStored);
  parameters.keepOnDisk = parameters.keepOnDisk && isStored;
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

} // namespace girih::server
