// SPDX-License-Identifier: Apache-2.0
// JsonDocument: parsed JSON with checked access; thin over simdjson, which stays inside json_reader.cpp.
#pragma once

#include "runtime/base/expected.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace girih {

enum class JsonKind : uint8_t { Null, Boolean, Integer, Number, String, Array, Object };

// "null", "boolean", "integer", ...
std::string_view jsonKindName(JsonKind kind);

struct JsonMember;

// One value of a JsonDocument, by value (two words); valid as long as the document. A default one is null.
// The as* functions fail with InvalidArgument saying what was found; the caller adds which field it was.
class JsonValue {
public:
  JsonValue() = default;
  JsonKind kind() const;
  bool operator==(const JsonValue &) const = default;  // the same place of the same document
  bool isNull() const { return kind() == JsonKind::Null; }
  bool isObject() const { return kind() == JsonKind::Object; }
  bool isArray() const { return kind() == JsonKind::Array; }
  bool isString() const { return kind() == JsonKind::String; }

  Expected<bool> asBoolean() const;
  // Numbers such as 4.0 count as integers too: writers differ. Fails beyond int64.
  Expected<int64_t> asInteger() const;
  // Unsigned beyond int64, for byte offsets.
  Expected<uint64_t> asUnsigned() const;
  Expected<double> asNumber() const;
  Expected<std::string_view> asString() const;

  // The member of an object, the last one when the key stands there twice (as Python has it);
  // nullopt when it is absent or this is not an object. A member that is null is returned as null.
  std::optional<JsonValue> find(std::string_view key) const;
  // The elements of an array / members of an object in order; empty for any other kind.
  std::vector<JsonValue> elements() const;
  std::vector<JsonMember> members() const;
  // The value written again as JSON text, without white space.
  std::string print() const;

private:
  friend class JsonDocument;
  alignas(8) std::array<unsigned char, 16> element = {};  // a simdjson::dom::element; all zero: null
};

struct JsonMember {
  std::string_view key;
  JsonValue value;
};

// Owns the parsed text. Movable; thread-safe for reading.
class JsonDocument {
public:
  // Copies the text (the parser needs padding). Nesting deeper than `maxDepth` is refused.
  // Fails: InvalidArgument with the parser's reason.
  static Expected<JsonDocument> parse(std::string_view text, size_t maxDepth = 128);

  JsonDocument(JsonDocument &&) noexcept;
  JsonDocument &operator=(JsonDocument &&) noexcept;
  ~JsonDocument();
  JsonValue root() const;

private:
  struct Parsed;
  explicit JsonDocument(std::unique_ptr<Parsed> parsed);
  std::unique_ptr<Parsed> parsed;
};

}  // namespace girih
