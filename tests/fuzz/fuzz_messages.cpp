// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as the body of Anthropic's messages and of the tokenizer's routes.
#include "runtime/base/json_reader.h"
#include "runtime/server/api_types.h"

namespace {

using namespace girih;
using namespace girih::server;

void require(bool condition) {
  if (!condition)
    __builtin_trap();
}

// An error's own body must be JSON, whatever bytes it quotes.
void checkError(const ApiError &error) {
  require(error.status >= 400 && !error.message.empty());
  require(JsonDocument::parse(anthropicErrorBody(error, "req_1")).isOk());
}

void checkMessages(std::string_view body, bool mustGenerate) {
  auto parsed = parseMessages(body, {}, mustGenerate);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return checkError(*error);
  const auto &request = std::get<ChatCompletionRequest>(parsed);
  require(engine::checkSampling(request.generation.sampling).isOk());
  require(!mustGenerate || request.generation.maxTokens.value_or(0) > 0);
  require(request.generation.keepSeconds <= 30 * 24 * 3600);
  // What the template is given must be messages, whatever blocks they were.
  auto messages = JsonDocument::parse(request.chat.messagesJson);
  require(messages.isOk() && messages->root().isArray());
  for (JsonValue message : messages->root().elements())
    require(message.find("role") && message.find("content"));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  std::string_view body(reinterpret_cast<const char *>(bytes), numBytes);
  checkMessages(body, true);
  checkMessages(body, false);
  auto text = parseTokenize(body);
  if (auto *error = std::get_if<ApiError>(&text))
    checkError(*error);
  auto tokens = parseDetokenize(body);
  if (auto *error = std::get_if<ApiError>(&tokens))
    checkError(*error);
  return 0;
}
