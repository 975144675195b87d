// SPDX-License-Identifier: Apache-2.0
// JsonDocument: parsed JSON with checked access; the only file that sees simdjson.
#include "runtime/base/json_reader.h"

#include <simdjson.h>

#include <bit>
#include <cmath>
#include <type_traits>

namespace girih {
namespace {

using Element = simdjson::dom::element;
using Bytes = std::array<unsigned char, sizeof(Element)>;
// A value keeps its element as bytes, so that no includer pays for simdjson's header (1.3 MB).
static_assert(sizeof(Element) == 16 && alignof(Element) <= 8 && std::is_trivially_copyable_v<Element>);

Element elementOf(const Bytes &bytes) { return std::bit_cast<Element>(bytes); }

// By value: value_unsafe() of a temporary is a reference into it, which a range-for would not keep alive.
simdjson::dom::object fieldsOf(const Bytes &bytes) { return elementOf(bytes).get_object().value_unsafe(); }
simdjson::dom::array childrenOf(const Bytes &bytes) { return elementOf(bytes).get_array().value_unsafe(); }

Status wrongKind(std::string_view wanted, JsonKind found) {
  return invalidArgument("is " + std::string(jsonKindName(found)) + "; " + std::string(wanted) + " is needed here");
}

}  // namespace

struct JsonDocument::Parsed {
  simdjson::dom::parser parser;  // owns the tape and the strings
  Element root;
};

std::string_view jsonKindName(JsonKind kind) {
  constexpr std::string_view kNames[] = {"null",     "a boolean", "an integer", "a number",
                                         "a string", "an array",  "an object"};
  return kNames[static_cast<size_t>(kind)];
}

JsonKind JsonValue::kind() const {
  if (element == Bytes())
    return JsonKind::Null;
  switch (elementOf(element).type()) {
  case simdjson::dom::element_type::ARRAY: return JsonKind::Array;
  case simdjson::dom::element_type::OBJECT: return JsonKind::Object;
  case simdjson::dom::element_type::INT64:
  case simdjson::dom::element_type::UINT64: return JsonKind::Integer;
  case simdjson::dom::element_type::DOUBLE: return JsonKind::Number;
  case simdjson::dom::element_type::STRING: return JsonKind::String;
  case simdjson::dom::element_type::BOOL: return JsonKind::Boolean;
  case simdjson::dom::element_type::NULL_VALUE: return JsonKind::Null;
  }
  return JsonKind::Null;
}

Expected<bool> JsonValue::asBoolean() const {
  if (kind() != JsonKind::Boolean)
    return wrongKind("true or false", kind());
  return elementOf(element).get_bool().value_unsafe();
}

Expected<int64_t> JsonValue::asInteger() const {
  if (kind() == JsonKind::Number) {
    double number = elementOf(element).get_double().value_unsafe();
    if (number == std::trunc(number) && std::abs(number) < 0x1p63)
      return static_cast<int64_t>(number);
  }
  if (kind() != JsonKind::Integer)
    return wrongKind("an integer", kind());
  int64_t number = 0;
  if (elementOf(element).get_int64().get(number))
    return invalidArgument("is beyond 2^63 - 1, the largest integer that is read");
  return number;
}

Expected<uint64_t> JsonValue::asUnsigned() const {
  if (kind() != JsonKind::Integer)
    return wrongKind("an integer", kind());
  uint64_t number = 0;
  if (elementOf(element).get_uint64().get(number))
    return invalidArgument("is negative; 0 or more is needed here");
  return number;
}

Expected<double> JsonValue::asNumber() const {
  if (kind() != JsonKind::Integer && kind() != JsonKind::Number)
    return wrongKind("a number", kind());
  return elementOf(element).get_double().value_unsafe();
}

Expected<std::string_view> JsonValue::asString() const {
  if (kind() != JsonKind::String)
    return wrongKind("a string", kind());
  return elementOf(element).get_string().value_unsafe();
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  std::optional<JsonValue> found;
  if (kind() != JsonKind::Object)
    return found;
  for (auto field : fieldsOf(element))
    if (field.key == key)
      found.emplace().element = std::bit_cast<Bytes>(field.value);
  return found;
}

std::vector<JsonValue> JsonValue::elements() const {
  std::vector<JsonValue> values;
  if (kind() == JsonKind::Array)
    for (Element child : childrenOf(element))
      values.emplace_back().element = std::bit_cast<Bytes>(child);
  return values;
}

std::vector<JsonMember> JsonValue::members() const {
  std::vector<JsonMember> list;
  if (kind() == JsonKind::Object)
    for (auto field : fieldsOf(element)) {
      list.push_back({field.key, {}});
      list.back().value.element = std::bit_cast<Bytes>(field.value);
    }
  return list;
}

std::string JsonValue::print() const { return element == Bytes() ? "null" : simdjson::minify(elementOf(element)); }

Expected<JsonDocument> JsonDocument::parse(std::string_view text, size_t maxDepth) {
  auto parsed = std::make_unique<Parsed>();
  simdjson::error_code error = parsed->parser.allocate(text.size(), maxDepth);
  if (!error)
    error = parsed->parser.parse(text.data(), text.size()).get(parsed->root);
  if (error == simdjson::MEMALLOC || error == simdjson::CAPACITY)
    return resourceExhausted("no memory for " + std::to_string(text.size()) + " bytes of JSON");
  if (error == simdjson::DEPTH_ERROR)
    return invalidArgument("the JSON is nested more than " + std::to_string(maxDepth) + " deep, or not closed");
  if (error)
    return invalidArgument(std::string("the text is not JSON: ") + simdjson::error_message(error));
  return JsonDocument(std::move(parsed));
}

JsonDocument::JsonDocument(std::unique_ptr<Parsed> parsed) : parsed(std::move(parsed)) {}
JsonDocument::JsonDocument(JsonDocument &&) noexcept = default;
JsonDocument &JsonDocument::operator=(JsonDocument &&) noexcept = default;
JsonDocument::~JsonDocument() = default;

JsonValue JsonDocument::root() const {
  JsonValue value;
  value.element = std::bit_cast<Bytes>(parsed->root);
  return value;
}

}  // namespace girih
