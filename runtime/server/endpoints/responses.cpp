// SPDX-License-Identifier: Apache-2.0
// /v1/responses: POST answers, GET and DELETE are for what was stored; conversations go on from a stored response.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/response_format.h"
#include "runtime/server/tool_use.h"
#include "runtime/server/turns.h"

#include <algorithm>

namespace girih::server {
namespace {

constexpr std::string_view kPath = "/v1/responses/";

ApiError notStored(std::string_view what, std::string_view id, std::string param, std::string code) {
  return {404,
          "invalid_request_error",
          std::move(code),
          std::string(what) + " with id '" + std::string(id.substr(0, 100)) + "' not found",
          std::move(param),
          1};
}

std::string textOf(JsonValue object, std::string_view name) {
  auto value = object.find(name);
  return value && value->isString() ? std::string(*value->asString()) : std::string();
}

// A string, or parts that have a text. False when another part is among them.
bool readTexts(std::optional<JsonValue> content, std::vector<std::string> &texts) {
  if (!content || content->isNull())
    return true;
  if (content->isString()) {
    texts.emplace_back(*content->asString());
    return true;
  }
  for (JsonValue part : content->elements()) {
    std::string kind = textOf(part, "type");
    bool isText = kind == "input_text" || kind == "output_text" || kind == "text";
    auto text = part.find(isText ? "text" : "refusal");
    if (!text || !text->isString())
      return false;
    texts.emplace_back(*text->asString());
  }
  return content->isArray();
}

// What is wrong with the item; null: it became part of the turns.
const char *addItem(TurnList &turns, JsonValue item) {
  std::string kind = textOf(item, "type"), role = textOf(item, "role");
  if (kind == "reasoning")
    return nullptr;
  if (kind == "function_call") {
    std::string name = textOf(item, "name"), arguments = textOf(item, "arguments");
    if (name.empty() || textOf(item, "call_id").empty())
      return "is a call without `name` or `call_id`";
    auto parsed = JsonDocument::parse(arguments, kMaxJsonDepth);
    turns.of("assistant")
        .addCall(textOf(item, "call_id"), name, parsed.isOk() ? parsed->root().print() : "{}");
    return nullptr;
  }
  if (kind == "function_call_output") {
    Turn &turn = turns.begin("tool");
    turn.toolCallId = textOf(item, "call_id");
    return turn.toolCallId.empty() || !readTexts(item.find("output"), turn.texts)
               ? "is an output without `call_id`, or not of text"
               : nullptr;
  }
  if (!kind.empty() && kind != "message")
    return "is of a type that is none of message, function_call, function_call_output, item_reference";
  if (role == "developer")
    role = "system";
  if (role != "user" && role != "assistant" && role != "system")
    return "has a role that is none of user, assistant, system, developer";
  return readTexts(item.find("content"), turns.of(role).texts)
             ? nullptr
             : "has content that is not text; this model reads text only";
}

// The conversation so far and what is new of it, with references looked up.
class ConversationReader {
public:
  ConversationReader(Service &service, uint32_t client, ResponsesRequest &request)
      : service(service), client(client), request(request) {}

  std::optional<ApiError> read() {
    if (!request.promptName.empty()) {
      prompt = service.prompts().find(request.promptName);
      if (!prompt)
        return notStored("Prompt", request.promptName, "prompt", "prompt_not_found");
    }
    if (!request.previousId.empty()) {
      previous = service.responses().find(request.previousId, client);
      if (!previous)
        return notStored("Previous response", request.previousId, "previous_response_id",
                         "previous_response_not_found");
      items = previous->conversation;
    }
    firstInput = items.size();
    for (size_t index = 0; index < request.items.size(); ++index)
      if (auto error = readItem("input[" + std::to_string(index) + "]", request.items[index]))
        return error;
    return addTurns();
  }

  std::shared_ptr<const StoredResponse> previous; // null: none
  std::shared_ptr<const NamedPrompt> prompt;      // null: none
  ResponseItems items;
  size_t firstInput = 0;
  TurnList turns;

private:
  std::optional<ApiError> readItem(const std::string &place, const std::string &json) {
    auto document = JsonDocument::parse(json, kMaxJsonDepth);
    if (!document.isOk() || !document->root().isObject())
      return invalidField(place, "`" + place + "` must be an object", "invalid_type");
    JsonValue item = document->root();
    std::string id = textOf(item, "id");
    bool isReference =
        textOf(item, "type") == "item_reference" || (item.members().size() == 1 && !id.empty());
    if (isReference) {
      auto known = service.responses().findItem(id, client);
      if (!known)
        return notStored("Item", id, place, "item_not_found");
      items.push_back(std::move(known));
      return std::nullopt;
    }
    JsonWriter writer;
    writer.beginObject().member("id", id.empty() ? id = makeId("item_") : id);
    for (const JsonMember &member : item.members())
      if (member.key != "id")
        writer.key(member.key).raw(member.value.print());
    items.push_back(std::make_shared<ResponseItem>(ResponseItem{id, writer.endObject().take()}));
    return std::nullopt;
  }

  std::optional<ApiError> addTurns() {
    if (prompt)
      turns.of("system").texts.push_back(prompt->text);
    if (!request.instructions.empty())
      turns.of("system").texts.push_back(request.instructions);
    for (size_t index = 0; index < items.size(); ++index) {
      auto document = JsonDocument::parse(items[index]->json);
      const char *fault = document.isOk() ? addItem(turns, document->root()) : "is no JSON";
      std::string place = "input[" + std::to_string(index - std::min(firstInput, index)) + "]";
      if (fault)
        return invalidField(place, "`" + place + "` " + fault);
    }
    return std::nullopt;
  }

  Service &service;
  const uint32_t client;
  ResponsesRequest &request;
};

void startResponse(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseResponses(exchange->request().body, service.model().generation);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<ResponsesRequest>(parsed);
  if (auto error = service.checkModelName(request.generation.model))
    return service.answerError(*exchange, *error);
  uint32_t client = service.clientOf(exchange->request()).number;
  ConversationReader conversation(service, client, request);
  if (auto error = conversation.read())
    return service.answerError(*exchange, *error);

  ChatCompletionRequest chat;
  chat.toolUse = request.toolUse;
  chat.generation = request.generation;
  chat.chat.hasToolTurns = conversation.turns.haveTools();
  chat.chat.messagesJson = conversation.turns.print();
  ChatTokens known;
  // Another program cuts the same text otherwise.
  if (conversation.previous && conversation.previous->program == service.model().programId)
    known = {conversation.previous->tokens, conversation.previous->text};
  auto prompt = encodeChat(service, chat, "input", known.text.empty() ? nullptr : &known);
  if (auto *error = std::get_if<ApiError>(&prompt))
    return service.answerError(*exchange, *error);
  auto &tokens = std::get<ChatTokens>(prompt);

  GenerationRequest generation;
  generation.prompts.push_back(tokens.tokens);
  generation.parameters = std::move(chat.generation);
  if (conversation.prompt) {
    // As far as what was computed for all is how this prompt begins.
    const std::vector<int32_t> &shared = conversation.prompt->tokens;
    auto end = std::mismatch(shared.begin(), shared.end(), tokens.tokens.begin(), tokens.tokens.end());
    generation.parameters.numSharedTokens = static_cast<uint32_t>(end.first - shared.begin());
    generation.parameters.sharedSalt = conversation.prompt->sharedSalt;
  }
  generation.promptField = "input";
  ResponseDraft draft;
  draft.stored.id = makeId("resp_");
  draft.stored.client = client;
  draft.stored.cacheSalt = generation.parameters.cacheSalt;
  draft.stored.sharedSalt = generation.parameters.sharedSalt;
  draft.stored.numSharedTokens = generation.parameters.numSharedTokens;
  draft.stored.firstInput = conversation.firstInput;
  draft.stored.numInput = conversation.items.size() - conversation.firstInput;
  draft.stored.conversation = std::move(conversation.items);
  draft.stored.program = service.model().programId;
  draft.stored.text = std::move(tokens.text);
  draft.stored.tokens = std::move(tokens.tokens);
  // Thousands of answers that their file has would drive out what conversations go on from.
  request.isStored = request.isStored && !exchange->request().batchClient;
  draft.request = std::move(request);
  std::optional<ToolFormat> toolFormat;
  if (chat.toolUse.mayCall())
    toolFormat = service.model().toolFormat;
  generation.format = std::make_unique<ResponseFormat>(service, std::move(draft), toolFormat);
  startGeneration(service, exchange, std::move(generation));
}

std::string storedId(const Exchange &exchange) {
  std::string id = exchange.request().path.substr(kPath.size());
  return id.substr(0, id.find('/'));
}

// Answers when nothing of it is left: neither the text nor what was computed from it, in memory or on disk. What the
// client's other responses begin with stays for them.
void deleteResponse(Service &service, const std::shared_ptr<Exchange> &exchange, const std::string &id) {
  const Client &client = service.clientOf(exchange->request());
  size_t numShared = 0;
  auto removed = service.responses().remove(id, client.number, numShared);
  if (!removed)
    return service.answerError(*exchange, notStored("Response", id, "", "not_found"));
  engine::Request evaluated;
  evaluated.promptTokens = removed->tokens;
  evaluated.cacheSalt = client.salt + removed->cacheSalt;
  evaluated.sharedSalt = removed->sharedSalt;
  evaluated.numSharedTokens = removed->numSharedTokens;
  auto say = [&service, exchange, id] {
    HttpResponse response;
    JsonWriter writer;
    writer.beginObject().member("id", id).member("object", "response").member("deleted", true);
    response.body = writer.endObject().take();
    service.answer(*exchange, std::move(response));
  };
  // Nothing here has the KV of a program that is gone.
  if (removed->program != service.model().programId)
    return say();
  service.engine().forget(evaluated, static_cast<uint32_t>(numShared), say);
}

} // namespace

void answerResponses(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startResponse(service, exchange); });
}

void answerStoredResponse(Service &service, std::shared_ptr<Exchange> exchange) {
  std::string id = storedId(*exchange);
  uint32_t client = service.clientOf(exchange->request()).number;
  if (exchange->request().method == "DELETE")
    return deleteResponse(service, exchange, id);
  HttpResponse response;
  auto stored = service.responses().find(id, client);
  if (!stored)
    return service.answerError(*exchange, notStored("Response", id, "", "not_found"));
  response.body = stored->body;
  service.answer(*exchange, std::move(response));
}

void answerInputItems(Service &service, std::shared_ptr<Exchange> exchange) {
  std::string id = storedId(*exchange);
  auto stored = service.responses().find(id, service.clientOf(exchange->request()).number);
  if (!stored)
    return service.answerError(*exchange, notStored("Response", id, "", "not_found"));
  JsonWriter writer;
  writer.beginObject().member("object", "list").key("data").beginArray();
  // The newest first, as the API lists them.
  for (size_t index = stored->firstInput + stored->numInput; index > stored->firstInput; --index)
    writer.raw(stored->conversation[index - 1]->json);
  writer.endArray();
  writer.member("first_id", stored->conversation[stored->firstInput + stored->numInput - 1]->id);
  writer.member("last_id", stored->conversation[stored->firstInput]->id).member("has_more", false);
  HttpResponse response;
  response.body = writer.endObject().take();
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
