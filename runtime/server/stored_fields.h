// SPDX-License-Identifier: Apache-2.0
// StoredFields: the members of a JSON object that we wrote ourselves, and whether all of them are there.
#pragma once

#include "runtime/base/json_reader.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

// What is missing or of another kind is empty, and `isWhole` is false from then on.
class StoredFields {
public:
  explicit StoredFields(JsonValue object) : object(object) {}

  std::string text(std::string_view name) {
    auto value = object.find(name);
    bool isText = value && value->isString();
    isWhole &= isText;
    return isText ? std::string(*value->asString()) : std::string();
  }
  int64_t number(std::string_view name) {
    auto value = object.find(name);
    auto number = value ? value->asInteger() : Expected<int64_t>(notFound("absent"));
    bool isCount = number.isOk() && *number >= 0;
    isWhole &= isCount;
    return isCount ? *number : 0;
  }
  // Written by hexDigits().
  std::string bytes(std::string_view name) {
    std::string digits = text(name), decoded;
    auto valueOf = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
    for (size_t index = 0; index + 1 < digits.size(); index += 2)
      decoded += static_cast<char>(valueOf(digits[index]) << 4 | valueOf(digits[index + 1]));
    return decoded;
  }
  std::vector<JsonValue> elements(std::string_view name) {
    auto value = object.find(name);
    bool isArray = value && value->isArray();
    isWhole &= isArray;
    return isArray ? value->elements() : std::vector<JsonValue>();
  }

  bool isWhole = true;

private:
  JsonValue object;
};

} // namespace girih::server
