// SPDX-License-Identifier: Apache-2.0
// RequestFields: each fault says what was found, what is accepted, and in which field.
#include "runtime/server/request_fields.h"

#include <algorithm>
#include <cctype>
#include <sstream>

namespace girih::server {
namespace {

std::string numberText(double number) {
  std::ostringstream stream;
  stream << number;
  return stream.str();
}

}  // namespace

std::optional<JsonValue> RequestFields::take(std::string_view name) {
  known.emplace(name);
  if (fault)
    return std::nullopt;
  auto value = object.find(name);
  return value && !value->isNull() ? value : std::nullopt;
}

void RequestFields::fail(std::string_view name, const std::string &message, std::string code) {
  if (fault)
    return;
  std::string param = prefix + std::string(name);
  fault = invalidField(param, "`" + param + "` " + message, std::move(code));
}

void RequestFields::takeBoolean(std::string_view name, bool &value) {
  auto found = take(name);
  if (!found)
    return;
  auto flag = found->asBoolean();
  if (!flag.isOk())
    return fail(name, "is " + std::string(jsonKindName(found->kind())) + "; it must be true or false", "invalid_type");
  value = *flag;
}

void RequestFields::takeInteger(std::string_view name, int64_t lowest, int64_t highest, int64_t &value) {
  auto found = take(name);
  if (!found)
    return;
  auto number = found->asInteger();
  if (!number.isOk())
    return fail(name, "must be a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest) + ": " + std::string(number.status().message()), "invalid_type");
  if (*number < lowest || *number > highest)
    return fail(name, "is " + std::to_string(*number) + "; it must be from " + std::to_string(lowest) + " to " + std::to_string(highest));
  value = *number;
}

void RequestFields::takeNumber(std::string_view name, double lowest, double highest, float &value, bool aboveLowest) {
  auto found = take(name);
  if (!found)
    return;
  auto number = found->asNumber();
  if (!number.isOk())
    return fail(name, "is " + std::string(jsonKindName(found->kind())) + "; it must be a number", "invalid_type");
  bool isInRange = *number >= lowest && *number <= highest && !(aboveLowest && *number == lowest);
  if (!isInRange)
    return fail(name, "is " + numberText(*number) + "; it must be " + (aboveLowest ? "above " : "from ") + numberText(lowest) +
                          (aboveLowest ? " and at most " : " to ") + numberText(highest));
  value = static_cast<float>(*number);
}

void RequestFields::takeText(std::string_view name, std::string &value) {
  auto found = take(name);
  if (!found)
    return;
  auto text = found->asString();
  if (!text.isOk())
    return fail(name, "is " + std::string(jsonKindName(found->kind())) + "; it must be a string", "invalid_type");
  value = *text;
}

void RequestFields::refuseUnless(bool isHarmless, std::string_view name, const std::string &message) {
  if (!isHarmless)
    fail(name, message, "unsupported_parameter");
}

std::vector<std::string> RequestFields::unknownNames() const {
  std::vector<std::string> names;
  for (const JsonMember &member : object.members()) {
    bool isPlain = member.key.size() <= 64 && !member.key.empty() && std::all_of(member.key.begin(), member.key.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_' || c == '-' || c == '.';
    });
    if (isPlain && !known.contains(member.key) && names.size() < 16)
      names.emplace_back(member.key);
  }
  return names;
}

}  // namespace girih::server
