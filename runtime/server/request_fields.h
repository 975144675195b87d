// SPDX-License-Identifier: Apache-2.0
// RequestFields: typed reading of a JSON body's fields; remembers the first fault and which fields nobody asked for.
#pragma once

#include "runtime/server/api_types.h"

#include <set>

namespace girih::server {

// Every take* marks its field as known, leaves `value` alone when the field is absent or null, and after a first fault
// does nothing. Thread-compatible; valid as long as the document.
class RequestFields {
public:
  explicit RequestFields(JsonValue object, std::string prefix = {}) : object(object), prefix(std::move(prefix)) {}

  void takeBoolean(std::string_view name, bool &value);
  // Integers in [lowest, highest].
  void takeInteger(std::string_view name, int64_t lowest, int64_t highest, int64_t &value);
  // Numbers in [lowest, highest], or (lowest, highest] when `aboveLowest`.
  void takeNumber(std::string_view name, double lowest, double highest, float &value, bool aboveLowest = false);
  void takeText(std::string_view name, std::string &value);
  // The value itself; nullopt when absent or null.
  std::optional<JsonValue> take(std::string_view name);
  // Refuses the field when it asks for something that is not offered; what asks for nothing passes.
  void refuseUnless(bool isHarmless, std::string_view name, const std::string &message);

  void fail(std::string_view name, const std::string &message, std::string code = "invalid_value");
  bool hasFailed() const { return fault.has_value(); }
  const ApiError &error() const { return *fault; }
  // Names of fields that no take* asked for, fit for a header.
  std::vector<std::string> unknownNames() const;

private:
  JsonValue object;
  std::string prefix;  // "stream_options." for a nested object
  std::set<std::string, std::less<>> known;
  std::optional<ApiError> fault;
};

}  // namespace girih::server
