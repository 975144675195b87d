// SPDX-License-Identifier: Apache-2.0
// Request bodies: what is taken over, and that every refusal names its field.
#include "runtime/server/api_types.h"

#include "runtime/base/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kMessages = R"("messages":[{"role":"user","content":"hi"}])";

ApiResult<ChatCompletionRequest> chat(const std::string &fields) {
  return parseChatCompletion("{" + kMessages + (fields.empty() ? "" : ",") + fields + "}", {});
}

TEST(ParseChatCompletion, TakesWhatIsGiven) {
  auto parsed = chat(R"("model":"m","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"seed":-7,"max_tokens":5,
    "max_completion_tokens":9,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true},"logprobs":true,
    "top_logprobs":3,"n":1,"presence_penalty":0,"user":"u","num_ctx":4096,"think":null)");
  ASSERT_TRUE(std::holds_alternative<ChatCompletionRequest>(parsed)) << std::get<ApiError>(parsed).message;
  const GenerationParameters &generation = std::get<ChatCompletionRequest>(parsed).generation;
  EXPECT_EQ(generation.model, "m");
  EXPECT_FLOAT_EQ(generation.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(generation.sampling.topP, 0.9f);
  EXPECT_EQ(generation.sampling.topK, 40);
  EXPECT_EQ(generation.sampling.seed, static_cast<uint64_t>(-7));
  EXPECT_EQ(generation.maxTokens, 9u);
  EXPECT_THAT(generation.stop, ElementsAre("a", "b"));
  EXPECT_TRUE(generation.stream && generation.includeUsage && generation.wantLogprobs);
  EXPECT_EQ(generation.numTopLogprobs, 3u);
  EXPECT_THAT(generation.ignoredNames, ElementsAre("num_ctx", "think"));
}

TEST(ParseChatCompletion, UsesTheModelsSamplingWhereNothingIsSaid) {
  program::GenerationDefaults defaults{true, 0.7f, 20, 0.8f, 0.05f, 1.1f};
  auto parsed = parseChatCompletion("{" + kMessages + R"(,"top_p":1})", defaults);
  const auto &sampling = std::get<ChatCompletionRequest>(parsed).generation.sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0.7f);
  EXPECT_EQ(sampling.topK, 20);
  EXPECT_FLOAT_EQ(sampling.topP, 1.0f);
  EXPECT_FLOAT_EQ(sampling.repetitionPenalty, 1.1f);
}

TEST(ParseChatCompletion, CallsADeveloperSystemAndKeepsTheRest) {
  auto parsed = parseChatCompletion(R"({"messages":[{"role":"developer","content":"be brief"},
    {"role":"assistant","content":null,"name":"x"},{"role":"user","content":[{"type":"text","text":"hi"}]}]})", {});
  ASSERT_TRUE(std::holds_alternative<ChatCompletionRequest>(parsed)) << std::get<ApiError>(parsed).message;
  EXPECT_EQ(std::get<ChatCompletionRequest>(parsed).chat.messagesJson,
            R"([{"role":"system","content":"be brief"},{"role":"assistant","content":null,"name":"x"},)"
            R"({"role":"user","content":[{"type":"text","text":"hi"}]}])");
}

struct Refusal {
  std::string fields;
  std::string param;
  std::string message;
};

TEST(ParseChatCompletion, NamesTheFieldOfEveryRefusal) {
  const Refusal kRefusals[] = {
      {R"("n":129)", "n", "is 129"},
      {R"("n":0)", "n", "from 1"},
      {R"("temperature":3)", "temperature", "is 3; it must be from 0 to 2"},
      {R"("temperature":"hot")", "temperature", "string"},
      {R"("top_p":0)", "top_p", "above 0"},
      {R"("max_tokens":0)", "max_tokens", "is 0"},
      {R"("max_tokens":-9223372036854775808)", "max_tokens", "is -9223372036854775808"},
      {R"("max_tokens":18446744073709551615)", "max_tokens", "whole number"},
      {R"("max_tokens":1e300)", "max_tokens", "whole number"},
      {R"("seed":1.5)", "seed", "whole number"},
      {R"("stop":[1])", "stop", "array of strings"},
      {R"("stream":"yes")", "stream", "true or false"},
      {R"("stream_options":[])", "stream_options", "object"},
      {R"("top_logprobs":2)", "top_logprobs", "needs `logprobs`"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs", "is 21"},
      {R"("tools":[{"type":"function"}])", "tools[0].name", "letters"},
      {R"("tools":[{"type":"web_search"}])", "tools[0].type", "not offered"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].name", "letters"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "tools[0].parameters", "object"},
      {R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"f"}])", "tools[1].name", "earlier"},
      {R"("tools":{})", "tools", "array"},
      {R"("tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"function","function":{"name":"g"}})", "tool_choice", "`g`"},
      {R"("tool_choice":{"type":"robot"})", "tool_choice", "auto, none, required"},
      {R"("response_format":{"type":"yaml"})", "response_format", "json_schema"},
      {R"("logit_bias":{"5":101})", "logit_bias", "from -100 to 100"},
      {R"("logit_bias":{"x":1})", "logit_bias", "token ids"},
      {R"("logit_bias":{"-1":1})", "logit_bias", "token ids"},
      {R"("logit_bias":{"5":"1"})", "logit_bias", "token ids"},
      {R"("logit_bias":[])", "logit_bias", "object"},
      {R"("best_of":3)", "best_of", "is 3"},
      {R"("min_tokens":-1)", "min_tokens", "from 0"},
      {R"("cache_salt":5)", "cache_salt", "string"},
      {R"("prompt_cache_retention":"forever")", "prompt_cache_retention", "24h"},
      {R"("prompt_cache_retention":"99999d")", "prompt_cache_retention", "24h"},
      {R"("prompt_cache_options":{"ttl":30})", "prompt_cache_options", "30m"},
      {R"("prompt_cache_options":"30m")", "prompt_cache_options", "object"},
      {R"("frequency_penalty":2.5)", "frequency_penalty", "from -2 to 2"},
      {R"("stop_token_ids":[-1])", "stop_token_ids", "token ids"},
  };
  for (const Refusal &refusal : kRefusals) {
    auto parsed = chat(refusal.fields);
    ASSERT_TRUE(std::holds_alternative<ApiError>(parsed)) << refusal.fields;
    const ApiError &error = std::get<ApiError>(parsed);
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.param, refusal.param) << refusal.fields;
    EXPECT_THAT(error.message, HasSubstr(refusal.message)) << refusal.fields;
  }
}

TEST(ParseChatCompletion, RefusesMessagesThatAreNone) {
  const Refusal kRefusals[] = {
      {R"({})", "messages", "at least one"},
      {R"({"messages":[]})", "messages", "at least one"},
      {R"({"messages":"hi"})", "messages", "array"},
      {R"({"messages":[{"content":"hi"}]})", "messages[0].role", "one of"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"king","content":"hi"}]})", "messages[1].role", "one of"},
      {R"({"messages":["hi"]})", "messages[0].role", "one of"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0]", "text parts"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages[0]", "text only"},
  };
  for (const Refusal &refusal : kRefusals) {
    auto parsed = parseChatCompletion(refusal.fields, {});
    ASSERT_TRUE(std::holds_alternative<ApiError>(parsed)) << refusal.fields;
    EXPECT_EQ(std::get<ApiError>(parsed).param, refusal.param) << refusal.fields;
    EXPECT_THAT(std::get<ApiError>(parsed).message, HasSubstr(refusal.message)) << refusal.fields;
  }
}

TEST(ParseChatCompletion, TakesRulesAndTimesToKeep) {
  auto parsed = parseChatCompletion(R"({"messages":[{"role":"user","content":"x"}],"n":3,"presence_penalty":0.5,"frequency_penalty":-1,
    "min_tokens":4,"logit_bias":{"5":-100,"7":2.5},"prompt_cache_options":{"mode":"implicit","ttl":"30m"},"cache_salt":"u1","service_tier":"flex"})", {});
  ASSERT_TRUE(std::holds_alternative<ChatCompletionRequest>(parsed)) << std::get<ApiError>(parsed).message;
  const GenerationParameters &generation = std::get<ChatCompletionRequest>(parsed).generation;
  EXPECT_EQ(generation.numChoices, 3u);
  EXPECT_EQ(generation.rules.presencePenalty, 0.5f);
  EXPECT_EQ(generation.rules.frequencyPenalty, -1.0f);
  EXPECT_EQ(generation.rules.minTokens, 4u);
  ASSERT_EQ(generation.rules.biases.size(), 2u);
  EXPECT_EQ(generation.rules.biases[1].token, 7);
  EXPECT_EQ(generation.rules.biases[1].bias, 2.5f);
  EXPECT_EQ(generation.keepSeconds, 1800u);
  EXPECT_EQ(generation.cacheSalt, "u1");
  EXPECT_TRUE(generation.isPatient);
  EXPECT_TRUE(generation.ignoredNames.empty());
  auto day = parseChatCompletion(R"({"messages":[{"role":"user","content":"x"}],"prompt_cache_retention":"24h"})", {});
  EXPECT_EQ(std::get<ChatCompletionRequest>(day).generation.keepSeconds, 86400u);
}

TEST(ParseChatCompletion, RefusesWhatIsNotJson) {
  for (std::string body : {std::string(), std::string("{"), std::string("[]"), std::string("nonsense"), std::string("{\"a\":\"\xFF\"}"),
                           std::string(100'000, '['), "{\"messages\":" + std::string(1000, '[') + std::string(1000, ']') + "}"}) {
    auto parsed = parseChatCompletion(body, {});
    ASSERT_TRUE(std::holds_alternative<ApiError>(parsed)) << body.substr(0, 40);
    EXPECT_EQ(std::get<ApiError>(parsed).code, "invalid_json") << body.substr(0, 40);
  }
}

TEST(ParseCompletion, TakesTextAndTokenIds) {
  auto text = parseCompletion(R"({"prompt":"once"})", {});
  EXPECT_EQ(std::get<CompletionRequest>(text).prompts[0].text, "once");
  EXPECT_EQ(std::get<CompletionRequest>(text).generation.maxTokens, kDefaultCompletionTokens);
  auto single = parseCompletion(R"({"prompt":["once"]})", {});
  EXPECT_EQ(std::get<CompletionRequest>(single).prompts[0].text, "once");
  for (const char *body : {R"({"prompt":[1,2,3],"logprobs":2})", R"({"prompt":[[1,2,3]],"logprobs":2})"}) {
    auto tokens = parseCompletion(body, {});
    ASSERT_TRUE(std::holds_alternative<CompletionRequest>(tokens)) << body;
    EXPECT_THAT(std::get<CompletionRequest>(tokens).prompts[0].tokens, ElementsAre(1, 2, 3));
    EXPECT_EQ(std::get<CompletionRequest>(tokens).generation.numTopLogprobs, 2u);
  }
}

TEST(ParseCompletion, TakesSeveralPrompts) {
  auto parsed = parseCompletion(R"({"prompt":["a",[5,6],"c"],"n":2,"echo":true})", {});
  ASSERT_TRUE(std::holds_alternative<CompletionRequest>(parsed));
  const auto &request = std::get<CompletionRequest>(parsed);
  ASSERT_EQ(request.prompts.size(), 3u);
  EXPECT_EQ(request.prompts[2].text, "c");
  EXPECT_THAT(request.prompts[1].tokens, ElementsAre(5, 6));
  EXPECT_EQ(request.generation.numChoices, 2u);
  EXPECT_TRUE(request.generation.echo);
}

TEST(ParseCompletion, RefusesForeignTypesAndTooManyPrompts) {
  for (const char *body : {R"({})", R"({"prompt":["a",5]})", R"({"prompt":[1,-2]})", R"({"prompt":[1,2147483648]})", R"({"prompt":{}})",
                           R"({"prompt":[1,"a"]})"}) {
    auto parsed = parseCompletion(body, {});
    ASSERT_TRUE(std::holds_alternative<ApiError>(parsed)) << body;
    EXPECT_EQ(std::get<ApiError>(parsed).param, "prompt") << body;
  }
  EXPECT_EQ(std::get<ApiError>(parseCompletion(R"({"prompt":"a","max_tokens":0})", {})).param, "max_tokens");
  EXPECT_EQ(std::get<CompletionRequest>(parseCompletion(R"({"prompt":"a","max_tokens":0,"echo":true})", {})).generation.maxTokens, 0u);
  EXPECT_EQ(std::get<ApiError>(parseCompletion(R"({"prompt":"a","suffix":"b"})", {})).param, "suffix");
  EXPECT_EQ(std::get<ApiError>(parseCompletion(R"({"prompt":["a","b"],"n":65})", {})).param, "n");
  std::string many = "{\"prompt\":[\"a\"";
  for (size_t count = 0; count < kMaxChoices; ++count)
    many += ",\"a\"";
  EXPECT_EQ(std::get<ApiError>(parseCompletion(many + "]}", {})).param, "prompt");
}

TEST(ErrorBody, HasAllFourKeys) {
  EXPECT_EQ(errorBody({400, "invalid_request_error", "", "no \"x\"", ""}),
            R"({"error":{"message":"no \"x\"","type":"invalid_request_error","param":null,"code":null}})");
}

TEST(ErrorResponse, SaysWhetherToRetry) {
  EXPECT_THAT(errorResponse(apiErrorOf(resourceExhausted("full")), {}).headers, ElementsAre(std::pair<std::string, std::string>("retry-after", "1")));
  EXPECT_THAT(errorResponse(apiErrorOf(internalError("bug")), {}).headers, ElementsAre(std::pair<std::string, std::string>("x-should-retry", "false")));
  EXPECT_EQ(apiErrorOf(outOfRange("long")).code, "context_length_exceeded");
}

}  // namespace
}  // namespace girih::server
