// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as the body of a request; what is accepted stays within the bounds that the engine asks for.
#include "runtime/base/json_reader.h"
#include "runtime/server/api_types.h"
#include "runtime/server/stop_matcher.h"
#include "runtime/server/tool_call_reader.h"
#include "runtime/server/tool_use.h"

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
  require(JsonDocument::parse(errorBody(error)).isOk());
}

void checkGeneration(const GenerationParameters &generation) {
  require(engine::checkSampling(generation.sampling).isOk());
  require(generation.stop.size() <= kMaxStopStrings);
  require(!generation.maxTokens || *generation.maxTokens > 0);
  StopMatcher matcher(generation.stop);
  std::string shown = matcher.push(generation.model) + matcher.finish();
  require(shown.size() <= generation.model.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  std::string_view body(reinterpret_cast<const char *>(bytes), numBytes);
  auto chat = parseChatCompletion(body, {});
  if (auto *request = std::get_if<ChatCompletionRequest>(&chat)) {
    checkGeneration(request->generation);
    // What the template is given must be JSON, also where it was written again.
    require(JsonDocument::parse(request->chat.messagesJson).isOk());
    require(request->toolUse.tools.empty() ||
            JsonDocument::parse(request->toolUse.tools.front().parametersJson).isOk());
    (void)applyTools(ToolFormat(), *request);
    require(JsonDocument::parse(request->chat.messagesJson).isOk());
    require(request->chat.extraJson.empty() || JsonDocument::parse(request->chat.extraJson).isOk());
  } else {
    checkError(std::get<ApiError>(chat));
  }
  auto response = parseResponses(body, {});
  if (auto *request = std::get_if<ResponsesRequest>(&response)) {
    checkGeneration(request->generation);
    require(!request->items.empty());
    for (const std::string &json : request->items)
      require(JsonDocument::parse(json).isOk());
    for (const std::string &json :
         {request->toolsJson, request->toolChoiceJson, request->textJson, request->metadataJson})
      require(JsonDocument::parse(json).isOk());
  } else {
    checkError(std::get<ApiError>(response));
  }
  // As an answer, whole and in two parts.
  ToolCallReader reader{ToolFormat()};
  std::vector<AnswerPiece> pieces = reader.push(body.substr(0, numBytes / 2));
  for (auto &more : {reader.push(body.substr(numBytes / 2)), reader.finish()})
    pieces.insert(pieces.end(), more.begin(), more.end());
  std::string text;
  for (const AnswerPiece &piece : pieces)
    text += piece.kind == AnswerPiece::Kind::Text ? piece.text : "";
  require(text == readAnswer(ToolFormat(), body).text);
  auto completion = parseCompletion(body, {});
  if (auto *request = std::get_if<CompletionRequest>(&completion))
    checkGeneration(request->generation);
  else
    checkError(std::get<ApiError>(completion));
  return 0;
}
