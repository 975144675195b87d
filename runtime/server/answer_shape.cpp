// SPDX-License-Identifier: Apache-2.0
// AnswerShape: response_format as OpenAI has it, with regular expressions and grammars besides; vLLM's
// structured_outputs; Anthropic's output_config.
#include "runtime/server/generation_fields.h"

#include "runtime/base/json.h"

namespace girih::server {
namespace {

constexpr size_t kMaxOptions = 1000;

// Characters that mean something in a regular expression are escaped.
std::string literally(std::string_view text) {
  std::string regex;
  for (char letter : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~/\"").find(letter) != std::string_view::npos)
      regex += '\\';
    regex += letter;
  }
  return regex;
}

class ShapeReader {
public:
  ShapeReader(RequestFields &fields, std::string_view field) : fields(fields), field(field) {}

  void readResponseFormat(JsonValue format, std::optional<AnswerShape> &shape) {
    std::string kind = textOf(format, "type");
    if (kind == "json_object")
      shape = ofSchema(R"({"type":"object"})");
    else if (kind == "json_schema")
      // OpenAI's chat nests what its responses have flat.
      shape = readSchema(format.find("json_schema").value_or(format), "schema");
    else if (kind == "regex")
      shape = readText(format, "pattern", GrammarKind::Regex);
    else if (kind == "grammar")
      shape = readText(format, "grammar", GrammarKind::Lark);
    else if (kind != "text")
      fields.fail(field, "has a `type` that is none of text, json_object, json_schema, regex, grammar");
  }

  void readStructuredOutputs(JsonValue outputs, std::optional<AnswerShape> &shape) {
    if (outputs.find("json"))
      shape = readSchema(outputs, "json");
    else if (outputs.find("regex"))
      shape = readText(outputs, "regex", GrammarKind::Regex);
    else if (outputs.find("grammar"))
      shape = readText(outputs, "grammar", GrammarKind::Lark);
    else if (outputs.find("choice"))
      shape = readChoice(*outputs.find("choice"));
    else if (outputs.find("json_object"))
      shape = ofSchema(R"({"type":"object"})");
    else
      fields.fail(field, "has none of json, json_object, regex, choice, grammar");
  }

private:
  static std::string textOf(JsonValue object, std::string_view name) {
    auto value = object.find(name);
    return value && value->isString() ? std::string(*value->asString()) : std::string();
  }

  AnswerShape ofSchema(std::string source) const {
    return {GrammarKind::JsonSchema, std::move(source), std::string(field)};
  }

  std::optional<AnswerShape> readText(JsonValue object, std::string_view name, GrammarKind kind) {
    auto value = object.find(name);
    if (value && value->isString())
      return AnswerShape{kind, std::string(*value->asString()), std::string(field)};
    fields.fail(field, "has no string `" + std::string(name) + "`", "invalid_type");
    return std::nullopt;
  }

  // An object, or one written as a string.
  std::optional<AnswerShape> readSchema(JsonValue object, std::string_view name) {
    auto schema = object.find(name);
    if (schema && schema->isString())
      return ofSchema(std::string(*schema->asString()));
    if (schema && schema->isObject())
      return ofSchema(schema->print());
    fields.fail(field, "has no object `" + std::string(name) + "`", "invalid_type");
    return std::nullopt;
  }

  std::optional<AnswerShape> readChoice(JsonValue choice) {
    std::string regex;
    std::vector<JsonValue> options = choice.elements();
    for (JsonValue option : options)
      if (auto text = option.asString(); text.isOk() && !text->empty())
        regex += (regex.empty() ? "" : "|") + literally(*text);
    if (options.empty() || options.size() > kMaxOptions || regex.empty()) {
      fields.fail(field, "has a `choice` that is no array of 1 to " + std::to_string(kMaxOptions) + " texts");
      return std::nullopt;
    }
    return AnswerShape{GrammarKind::Regex, "(" + regex + ")", std::string(field)};
  }

  RequestFields &fields;
  const std::string_view field;
};

} // namespace

void takeShape(RequestFields &fields, std::optional<AnswerShape> &shape) {
  if (auto format = fields.take("response_format"))
    ShapeReader(fields, "response_format").readResponseFormat(*format, shape);
  if (auto outputs = fields.take("structured_outputs")) {
    if (shape)
      return fields.fail("structured_outputs",
                         "and `response_format` both say what the answer must look like");
    ShapeReader(fields, "structured_outputs").readStructuredOutputs(*outputs, shape);
  }
}

void takeFormat(RequestFields &fields, std::string_view name, std::optional<AnswerShape> &shape) {
  auto config = fields.take(name);
  if (!config)
    return;
  if (!config->isObject())
    return fields.fail(name, "must be an object", "invalid_type");
  if (auto format = config->find("format"); format && !format->isNull())
    ShapeReader(fields, name).readResponseFormat(*format, shape);
}

} // namespace girih::server
