// SPDX-License-Identifier: Apache-2.0
// GenerationFields: what the bodies of all generating endpoints have in common, each field within its bounds.
#pragma once

#include "runtime/server/request_fields.h"

namespace girih::server {

// The body as an object, or why it is none.
ApiResult<JsonDocument> parseObject(std::string_view body);

// Each reads what its name says and leaves the defaults where a field is absent; faults are in `fields`.

// temperature (up to `highestTemperature`), top_p, top_k, min_p, repetition_penalty, seed.
void takeSampling(RequestFields &fields, const program::GenerationDefaults &defaults,
                  engine::SamplingOptions &sampling, double highestTemperature = 2);
// At most kMaxStopStrings texts; empty ones are dropped.
void takeStopStrings(RequestFields &fields, std::string_view name, GenerationParameters &parameters);
void takeStopTokens(RequestFields &fields, GenerationParameters &parameters);
// Penalties, min_tokens and logit_bias.
void takeRules(RequestFields &fields, GenerationParameters &parameters);
// cache_salt, prompt_cache_retention, prompt_cache_options, store and service_tier: where and how long what was computed for this
// request should stay, and behind whom it waits.
void takeCaching(RequestFields &fields, GenerationParameters &parameters);
// stream and stream_options.
void takeStreaming(RequestFields &fields, GenerationParameters &parameters);

// response_format and structured_outputs: what the answer must look like.
void takeShape(RequestFields &fields, std::optional<AnswerShape> &shape);
// The same as the member `format` of the field `name`: Anthropic's output_config, and `text` of OpenAI's responses.
void takeFormat(RequestFields &fields, std::string_view name, std::optional<AnswerShape> &shape);

// False when an element is no token id; the engine checks the vocabulary's size. Requires: `array` is an array.
bool readTokens(JsonValue array, std::vector<int32_t> &tokens);
// "90s", "30m", "24h", "7d"; false when it is none of these, or longer than the engine keeps anything.
bool readDuration(std::string_view text, uint32_t &seconds);

} // namespace girih::server
