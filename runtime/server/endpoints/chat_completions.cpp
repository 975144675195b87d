// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions: messages through the chat template, answers as chat.completion objects or chunks.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation.h"
#include "runtime/server/tool_call_reader.h"
#include "runtime/server/tool_use.h"

namespace girih::server {
namespace {

void writeTopToken(JsonWriter &writer, const Tokenizer &tokenizer, int32_t token, float logprob) {
  std::string bytes = tokenizer.idToToken(token);
  writer.member("token", bytes).member("logprob", logprob).key("bytes").beginArray();
  for (char byte : bytes)
    writer.value(static_cast<unsigned>(static_cast<unsigned char>(byte)));
  writer.endArray();
}

class ChatFormat final : public AnswerFormat {
public:
  ChatFormat(const Service &service, const HttpRequest &request, const GenerationParameters &parameters,
             const std::optional<ToolFormat> &toolFormat)
      : tokenizer(*service.model().tokenizer), model(service.model().names.front()),
        id("chatcmpl-" + request.requestId), created(time(nullptr)), includeUsage(parameters.includeUsage),
        wantLogprobs(parameters.wantLogprobs), toolFormat(toolFormat), readers(toolFormat) {}

  void open(Exchange &stream, uint32_t numChoices, const TokenCounts &) override {
    for (uint32_t choice = 0; choice < numChoices; ++choice)
      stream.sendEvent(chunk(choice, [](JsonWriter &writer) { writer.member("role", "assistant").member("content", ""); }, {}, {}));
  }
  // Tokens go with the first piece that their text gives: a call is held back until its name is known.
  void say(Exchange &stream, uint32_t choice, std::string_view text, std::span<const SpokenToken> tokens) override {
    std::vector<SpokenToken> &unsaid = states[choice].unsaidTokens;
    unsaid.insert(unsaid.end(), tokens.begin(), tokens.end());
    sayPieces(stream, choice, readers.push(choice, text));
    if (!readers.mayCall() && text.empty())
      sendPiece(stream, choice, [](JsonWriter &writer) { writer.member("content", ""); });
  }
  void close(Exchange &stream, uint32_t choice, const ChoiceEnding &ending) override {
    sayPieces(stream, choice, readers.finish(choice));
    if (!states[choice].unsaidTokens.empty())
      sendPiece(stream, choice, [](JsonWriter &writer) { writer.member("content", ""); });
    stream.sendEvent(chunk(choice, [](JsonWriter &) {}, {}, reasonOf(ending, states[choice].numCalls)));
  }
  void end(Exchange &stream, const TokenCounts &counts) override {
    if (includeUsage) {
      JsonWriter writer = beginAnswer("chat.completion.chunk");
      writer.key("choices").beginArray().endArray();
      writeUsage(writer, counts);
      stream.sendEvent(writer.endObject().take());
    }
    stream.sendEvent("[DONE]");
  }
  std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) override {
    JsonWriter writer = beginAnswer("chat.completion");
    writer.key("choices").beginArray();
    for (uint32_t index = 0; index < choices.size(); ++index) {
      ReadAnswer answer = readAnswer(toolFormat, choices[index].text);
      writer.beginObject().member("index", index).key("message").beginObject().member("role", "assistant");
      writeAnswer(writer, answer);
      writer.key("refusal").null().endObject();
      writeLogprobs(writer, choices[index].tokens);
      writer.member("finish_reason", reasonOf(choices[index].ending, answer.calls.size())).endObject();
    }
    writer.endArray();
    writeUsage(writer, counts);
    return writer.endObject().take();
  }

private:
  static std::string_view reasonOf(const ChoiceEnding &ending, size_t numCalls) {
    return numCalls > 0 && ending.reason == "stop" ? "tool_calls" : ending.reason;
  }

  static void writeAnswer(JsonWriter &writer, const ReadAnswer &answer) {
    writer.key("content");
    if (answer.text.empty() && !answer.calls.empty())
      writer.null();
    else
      writer.value(answer.text);
    if (answer.calls.empty())
      return;
    writer.key("tool_calls").beginArray();
    for (const ToolCall &call : answer.calls) {
      writer.beginObject().member("id", makeId("call_")).member("type", "function").key("function").beginObject();
      writer.member("name", call.name).member("arguments", call.arguments).endObject().endObject();
    }
    writer.endArray();
  }

  void sayPieces(Exchange &stream, uint32_t choice, const std::vector<AnswerPiece> &pieces) {
    for (const AnswerPiece &piece : pieces)
      if (piece.kind != AnswerPiece::Kind::CallEnd)
        sendPiece(stream, choice, [&](JsonWriter &writer) { writePiece(writer, piece, states[choice].numCalls); });
  }

  template <typename WriteDelta> void sendPiece(Exchange &stream, uint32_t choice, WriteDelta writeDelta) {
    stream.sendEvent(chunk(choice, writeDelta, states[choice].unsaidTokens, {}));
    states[choice].unsaidTokens.clear();
  }

  // The first piece of a call names it, the others continue its arguments.
  static void writePiece(JsonWriter &writer, const AnswerPiece &piece, size_t &numCalls) {
    if (piece.kind == AnswerPiece::Kind::Text) {
      writer.member("content", piece.text);
      return;
    }
    bool begins = piece.kind == AnswerPiece::Kind::CallBegin;
    writer.key("tool_calls").beginArray().beginObject().member("index", begins ? numCalls++ : numCalls - 1);
    if (begins)
      writer.member("id", makeId("call_")).member("type", "function");
    writer.key("function").beginObject();
    if (begins)
      writer.member("name", piece.text);
    writer.member("arguments", begins ? std::string() : piece.text).endObject().endObject().endArray();
  }

  JsonWriter beginAnswer(std::string_view object) const {
    JsonWriter writer;
    writer.beginObject().member("id", id).member("object", object).member("created", created).member("model", model);
    return writer;
  }

  // Clients read `usage` as null in every chunk but the last when they asked for it.
  template <typename WriteDelta>
  std::string chunk(uint32_t choice, WriteDelta writeDelta, std::span<const SpokenToken> tokens, std::string_view finishReason) const {
    JsonWriter writer = beginAnswer("chat.completion.chunk");
    writer.key("choices").beginArray().beginObject().member("index", choice).key("delta").beginObject();
    writeDelta(writer);
    writer.endObject();
    writeLogprobs(writer, tokens);
    writer.key("finish_reason");
    if (finishReason.empty())
      writer.null();
    else
      writer.value(finishReason);
    writer.endObject().endArray();
    if (includeUsage)
      writer.key("usage").null();
    return writer.endObject().take();
  }

  void writeLogprobs(JsonWriter &writer, std::span<const SpokenToken> tokens) const {
    writer.key("logprobs");
    if (!wantLogprobs || tokens.empty()) {
      writer.null();
      return;
    }
    writer.beginObject().key("content").beginArray();
    for (const SpokenToken &token : tokens) {
      writer.beginObject();
      writeTopToken(writer, tokenizer, token.token, token.logprob);
      writer.key("top_logprobs").beginArray();
      for (const engine::TopToken &top : token.top) {
        writer.beginObject();
        writeTopToken(writer, tokenizer, top.token, top.logprob);
        writer.endObject();
      }
      writer.endArray().endObject();
    }
    writer.endArray().key("refusal").null().endObject();
  }

  const Tokenizer &tokenizer;
  const std::string model;
  const std::string id;
  const int64_t created;
  const bool includeUsage;
  const bool wantLogprobs;

  struct ChoiceState {
    std::vector<SpokenToken> unsaidTokens;
    size_t numCalls = 0;
  };
  const std::optional<ToolFormat> toolFormat; // none: everything is text
  ChoiceReaders readers;
  std::map<uint32_t, ChoiceState> states;
};

void startChat(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseChatCompletion(exchange->request().body, service.model().generation);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<ChatCompletionRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return service.answerError(*exchange, *error);
  auto prompt = encodeChat(service, request, "messages");
  if (auto *error = std::get_if<ApiError>(&prompt))
    return service.answerError(*exchange, *error);
  GenerationRequest generation;
  generation.prompts.push_back(std::move(std::get<ChatTokens>(prompt).tokens));
  std::optional<ToolFormat> toolFormat;
  if (request.toolUse.mayCall())
    toolFormat = service.model().toolFormat;
  generation.format = std::make_unique<ChatFormat>(service, exchange->request(), request.generation, toolFormat);
  generation.parameters = std::move(request.generation);
  generation.promptField = "messages";
  startGeneration(service, exchange, std::move(generation));
}

}  // namespace

void answerChatCompletions(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startChat(service, exchange); });
}

}  // namespace girih::server
