// SPDX-License-Identifier: Apache-2.0
// The OpenAI API's requests as typed structs, its error bodies, and the one table from Status codes to HTTP.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/base/json_reader.h"
#include "runtime/engine/answer_rules.h"
#include "runtime/engine/sampler.h"
#include "runtime/program/tables.h"
#include "runtime/server/http_server.h"
#include "runtime/text/grammar.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace girih::server {

// Bounds on what one request may ask for; a body within them is cheap to parse.
inline constexpr size_t kMaxJsonDepth = 64;
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr size_t kMaxMessages = 16384;
inline constexpr size_t kMaxChoices = 128;  // answers to one request: its prompts times its `n`
inline constexpr size_t kMaxEmbeddingInputs = 2048;  // OpenAI's
inline constexpr uint32_t kDefaultCompletionTokens = 16;  // OpenAI's default of /v1/completions

// What goes into an OpenAI error body; all four keys are always written, `param` and `code` as null when empty.
struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string code;
  std::string message;
  std::string param;
  uint32_t retryAfterSeconds = 1;  // of 429 and 503
};

// Tokens that a body of so many bytes has at least, near enough to decide before it is read: English is four
// bytes a token, other text fewer.
constexpr uint64_t estimateTokens(uint64_t bodyBytes) { return bodyBytes / 4 + 1; }

ApiError invalidField(std::string param, std::string message, std::string code = "invalid_value");
// The one table from Status codes to HTTP. `requestId` is named where the failure is our own.
ApiError apiErrorOf(const Status &status);
std::string errorBody(const ApiError &error);
// The same in Anthropic's shape.
std::string anthropicErrorBody(const ApiError &error, const std::string &requestId);
// The body that clients of the request's path read. With Retry-After where a retry can succeed, and x-should-retry: false where it cannot.
HttpResponse errorResponse(const ApiError &error, const HttpRequest &request);
// True for the paths of Anthropic's API.
bool isAnthropicPath(std::string_view path);
// x-girih-ignored, where a request had fields that nothing here knows.
HttpHeaders ignoredHeaders(const std::vector<std::string> &ignoredNames);

template <typename T>
using ApiResult = std::variant<T, ApiError>;

// What an answer must look like, for a grammar to hold it to.
struct AnswerShape {
  GrammarKind kind;
  std::string source;
  std::string field;  // of the request, for what is wrong with it
};

// What all generating endpoints share.
struct GenerationParameters {
  std::string model;                  // empty: the served one
  std::optional<uint32_t> maxTokens;  // absent: the endpoint's default
  engine::SamplingOptions sampling;
  std::vector<std::string> stop;
  std::vector<int32_t> stopTokens;  // besides the model's own
  bool ignoreStop = false;          // ignore_eos
  bool wantLogprobs = false;
  uint32_t numTopLogprobs = 0;
  bool tellsStopToken = false;      // its log-probability, as the last one
  bool stream = false;
  bool includeUsage = false;             // stream_options.include_usage
  uint32_t numChoices = 1;               // n
  bool echo = false;                     // the prompt is the beginning of the answer
  engine::AnswerRules rules;             // without a mask: each answer gets its own, of the shape
  std::optional<AnswerShape> shape;
  std::string cacheSalt;                 // cache_salt: an end user's, within the client's own
  uint32_t keepSeconds = 0;              // how long the prompt and answer should stay in the cache
  bool keepOnDisk = true;                // store: false, or prompt_cache_retention "in_memory": nothing there
  uint32_t numSharedTokens = 0;          // at the beginning of the prompt, of a named one
  std::string sharedSalt;
  bool isPatient = false;                // service_tier "flex": behind the client's other requests
  std::vector<std::string> ignoredNames;  // fields that nothing here knows: x-girih-ignored
};

// A conversation as the chat template takes it.
struct ChatInput {
  std::string messagesJson; // roles system, user, assistant, tool, function; arguments of calls are objects
  std::string toolsJson;    // for templates that show tools themselves; empty: none
  bool hasToolTurns = false; // calls or answers of tools are among the messages
  std::string extraJson;    // further template variables; empty: none
  bool addGenerationPrompt = true;
  std::string answerBegin; // what the answer goes on from, behind what the template wrote
};

struct Tool {
  std::string name, description;
  std::string parametersJson;  // a JSON schema
  bool isStrict = false;       // calls must obey it
};

// What a request says of tools.
struct ToolUse {
  enum class Choice { Auto, None, Required };
  std::vector<Tool> tools;
  Choice choice = Choice::Auto;
  std::string named;       // where only this one may be called; empty: any
  bool allowsMany = true;  // calls in one answer

  bool mayCall() const { return !tools.empty() && choice != Choice::None; }
};

// Of /v1/chat/completions and of Anthropic's /v1/messages.
struct ChatCompletionRequest {
  GenerationParameters generation;
  ChatInput chat;
  ToolUse toolUse;
};

// A text that goes through no template, or its tokens.
struct RawPrompt {
  std::string text;
  std::vector<int32_t> tokens;  // used when `hasTokens`
  bool hasTokens = false;
};

struct CompletionRequest {
  GenerationParameters generation;
  std::vector<RawPrompt> prompts;  // at least one
};

// `defaults`: the model's own sampling, used for what the request leaves out. Every failure names its field.
ApiResult<ChatCompletionRequest> parseChatCompletion(std::string_view body, const program::GenerationDefaults &defaults);
ApiResult<CompletionRequest> parseCompletion(std::string_view body, const program::GenerationDefaults &defaults);
// Anthropic's body. `mustGenerate`: max_tokens is required, as the API has it; else it may be missing.
ApiResult<ChatCompletionRequest> parseMessages(std::string_view body, const program::GenerationDefaults &defaults, bool mustGenerate);

// Of OpenAI's /v1/responses, before what it refers to is looked up.
struct ResponsesRequest {
  GenerationParameters generation;
  ToolUse toolUse;
  std::string instructions;
  std::string previousId;          // empty: none
  std::string promptName;          // prompt.id; empty: none
  std::vector<std::string> items;  // of the input, as JSON; a text is a message
  bool isStored = true;
  std::string toolsJson = "[]", toolChoiceJson = "\"auto\"", textJson = R"({"format":{"type":"text"}})", metadataJson = "{}";  // as they came
};
ApiResult<ResponsesRequest> parseResponses(std::string_view body, const program::GenerationDefaults &defaults);

struct EmbeddingRequest {
  std::string model;
  std::vector<RawPrompt> inputs;  // at least one
  std::optional<uint32_t> dimensions;
  bool wantsBase64 = false;
  std::vector<std::string> ignoredNames;
};
ApiResult<EmbeddingRequest> parseEmbedding(std::string_view body);

// /tokenize and /apply-template: a text, or messages.
struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;
  ChatCompletionRequest conversation;  // where there is no prompt
  bool addSpecial = true;        // around a prompt
  bool wantTokenTexts = false;
  std::vector<std::string> ignoredNames;
};
ApiResult<TokenizeRequest> parseTokenize(std::string_view body);

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
  std::vector<std::string> ignoredNames;
};
ApiResult<DetokenizeRequest> parseDetokenize(std::string_view body);

}  // namespace girih::server
