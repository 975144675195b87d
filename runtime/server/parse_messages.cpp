// SPDX-License-Identifier: Apache-2.0
// Bodies of Anthropic's /v1/messages: content blocks become the messages that chat templates know.
#include "runtime/server/generation_fields.h"
#include "runtime/server/tool_fields.h"
#include "runtime/server/turns.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <limits>

namespace girih::server {
namespace {

std::string textOf(JsonValue object, std::string_view name) {
  auto value = object.find(name);
  return value && value->isString() ? std::string(*value->asString()) : std::string();
}

// A content block of any place may ask for what it ends to be kept; the longest time counts.
void takeCacheControl(RequestFields &fields, const std::string &place, JsonValue block,
                      GenerationParameters &parameters) {
  auto control = block.find("cache_control");
  if (!control || control->isNull())
    return;
  std::string ttl = textOf(*control, "ttl");
  uint32_t seconds = 0;
  if (!control->isObject() || !readDuration(ttl.empty() ? "5m" : ttl, seconds))
    return fields.fail(place + ".cache_control",
                       R"(must be {"type": "ephemeral"}, with a `ttl` such as "5m" or "1h")");
  parameters.keepSeconds = std::max(parameters.keepSeconds, seconds);
}

class MessagesReader {
public:
  MessagesReader(RequestFields &fields, GenerationParameters &parameters)
      : fields(fields), parameters(parameters) {}

  void readSystem() {
    auto system = fields.take("system");
    if (!system)
      return;
    std::vector<std::string> texts = readTexts("system", *system);
    if (!texts.empty())
      turns.begin("system").texts = std::move(texts);
  }

  void readMessages() {
    auto messages = fields.take("messages");
    if (!messages || !messages->isArray() || messages->elements().empty())
      return fields.fail("messages", "must be an array with at least one message",
                         messages ? "invalid_type" : "missing_required_parameter");
    std::vector<JsonValue> entries = messages->elements();
    if (entries.size() > kMaxMessages)
      return fields.fail("messages", "has " + std::to_string(entries.size()) + " entries; at most " +
                                         std::to_string(kMaxMessages) + " are accepted");
    for (size_t index = 0; index < entries.size() && !fields.hasFailed(); ++index)
      readMessage("messages[" + std::to_string(index) + "]", entries[index]);
  }

  TurnList turns;

private:
  // A string, or text blocks.
  std::vector<std::string> readTexts(const std::string &place, JsonValue content) {
    if (content.isString())
      return {std::string(*content.asString())};
    std::vector<std::string> texts;
    if (!content.isArray())
      fields.fail(place, "must be a string or an array of text blocks", "invalid_type");
    for (JsonValue block : content.elements()) {
      auto text = block.find("text");
      if (textOf(block, "type") != "text" || !text || !text->isString()) {
        fields.fail(place, "has a block that is not of type \"text\"; this model reads text only");
        break;
      }
      texts.emplace_back(*text->asString());
      takeCacheControl(fields, place, block, parameters);
    }
    return texts;
  }

  void readMessage(const std::string &place, JsonValue message) {
    std::string role = textOf(message, "role");
    if (role != "user" && role != "assistant" && role != "system")
      return fields.fail(place + ".role", "must be user, assistant or system");
    auto content = message.find("content");
    if (!content || content->isNull())
      return fields.fail(place + ".content", "is missing; it must be a string or an array of content blocks",
                         "missing_required_parameter");
    if (content->isString()) {
      turns.of(role).texts.emplace_back(*content->asString());
      return;
    }
    if (!content->isArray())
      return fields.fail(place + ".content", "must be a string or an array of content blocks",
                         "invalid_type");
    std::vector<JsonValue> blocks = content->elements();
    if (blocks.size() > kMaxMessages)
      return fields.fail(place + ".content", "has " + std::to_string(blocks.size()) + " blocks; at most " +
                                                 std::to_string(kMaxMessages) + " are accepted");
    for (size_t index = 0; index < blocks.size() && !fields.hasFailed(); ++index)
      readBlock(place + ".content[" + std::to_string(index) + "]", role, blocks[index]);
  }

  void readBlock(const std::string &place, const std::string &role, JsonValue block) {
    std::string kind = textOf(block, "type");
    takeCacheControl(fields, place, block, parameters);
    if (kind == "text") {
      auto text = block.find("text");
      if (!text || !text->isString())
        return fields.fail(place + ".text", "must be a string", "invalid_type");
      turns.of(role).texts.emplace_back(*text->asString());
    } else if (kind == "tool_use" && role == "assistant") {
      readToolUse(place, block);
    } else if (kind == "tool_result" && role == "user") {
      readToolResult(place, block);
    } else if (kind == "thinking" && role == "assistant") {
      turns.of(role).thinking += textOf(block, "thinking");
    } else if (kind != "redacted_thinking") {
      fields.fail(place, "is of type \"" + kind.substr(0, 40) + "\", which a message of the " + role +
                             " cannot have here; this model reads text and tools' results");
    }
  }

  void readToolUse(const std::string &place, JsonValue block) {
    auto input = block.find("input");
    std::string name = textOf(block, "name"), id = textOf(block, "id");
    if (name.empty() || id.empty() || (input && !input->isNull() && !input->isObject()))
      return fields.fail(place, "must have an `id`, a `name` and an object `input`");
    turns.of("assistant").addCall(id, name, input && input->isObject() ? input->print() : "{}");
  }

  void readToolResult(const std::string &place, JsonValue block) {
    std::string id = textOf(block, "tool_use_id");
    if (id.empty())
      return fields.fail(place + ".tool_use_id", "must name the call that this answers",
                         "missing_required_parameter");
    Turn &turn = turns.begin("tool");
    turn.toolCallId = id;
    if (auto content = block.find("content"); content && !content->isNull())
      turn.texts = readTexts(place + ".content", *content);
  }

  RequestFields &fields;
  GenerationParameters &parameters;
};

// Fields that say nothing about the answer's text.
constexpr std::string_view kWithoutEffect[] = {"metadata", "container", "betas"};

void takeThinking(RequestFields &fields) {
  auto thinking = fields.take("thinking");
  if (thinking)
    fields.refuseUnless(textOf(*thinking, "type") != "enabled", "thinking",
                        "is not offered by this server; what a model thinks is part of its text");
}

} // namespace

ApiResult<ChatCompletionRequest>
parseMessages(std::string_view body, const program::GenerationDefaults &defaults, bool mustGenerate) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  ChatCompletionRequest request;
  GenerationParameters &parameters = request.generation;
  MessagesReader reader(fields, parameters);
  reader.readSystem();
  reader.readMessages();
  request.chat.answerBegin = reader.turns.takeAnswerBegin();
  request.chat.hasToolTurns = reader.turns.haveTools();
  request.chat.messagesJson = reader.turns.print();

  fields.takeText("model", parameters.model);
  int64_t maxTokens = -1;
  fields.takeInteger("max_tokens", 1, std::numeric_limits<int32_t>::max(), maxTokens);
  if (maxTokens > 0)
    parameters.maxTokens = static_cast<uint32_t>(maxTokens);
  else if (mustGenerate)
    fields.fail("max_tokens", "is missing; say how many tokens the answer may have",
                "missing_required_parameter");
  takeSampling(fields, defaults, parameters.sampling, /*highestTemperature=*/1);
  takeStopStrings(fields, "stop_sequences", parameters);
  fields.takeBoolean("stream", parameters.stream);
  takeCaching(fields, parameters);
  takeFormat(fields, "output_config", parameters.shape);
  takeThinking(fields);
  takeCacheControl(fields, "request", std::get<JsonDocument>(document).root(), parameters);
  takeTools(fields, request.toolUse);
  (void)fields.take("cache_control");
  for (std::string_view name : kWithoutEffect)
    (void)fields.take(name);
  if (fields.hasFailed())
    return fields.error();
  parameters.ignoredNames = fields.unknownNames();
  return request;
}

} // namespace girih::server
