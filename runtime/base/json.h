// SPDX-License-Identifier: Apache-2.0
// JsonWriter: appends JSON to one string, in one pass, and cannot produce text that is not valid JSON.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace girih {

// Appends `text` as a quoted JSON string. Bytes that are not UTF-8 become U+FFFD, so that the result always parses.
void appendJsonString(std::string &out, std::string_view text);

// Commas and nesting are kept by the writer; the caller keeps keys and values in order. Not thread-safe.
// Example: JsonWriter w; w.beginObject().member("ids", 3).endObject(); w.text() == R"({"ids":3})"
class JsonWriter {
public:
  JsonWriter &beginObject() { return open('{'); }
  JsonWriter &endObject() { return close('}'); }
  JsonWriter &beginArray() { return open('['); }
  JsonWriter &endArray() { return close(']'); }
  JsonWriter &key(std::string_view name);

  JsonWriter &value(std::string_view text);
  JsonWriter &value(const char *text) { return value(std::string_view(text)); }
  JsonWriter &value(const std::string &text) { return value(std::string_view(text)); }
  JsonWriter &value(bool flag);
  JsonWriter &value(double number);  // shortest digits that read back the same; null when not finite
  JsonWriter &value(float number);
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  JsonWriter &value(T number) {
    if constexpr (std::signed_integral<T>)
      return signedValue(static_cast<int64_t>(number));
    else
      return unsignedValue(static_cast<uint64_t>(number));
  }
  JsonWriter &null();
  // Appends text that is JSON already.
  JsonWriter &raw(std::string_view json);

  template <typename T>
  JsonWriter &member(std::string_view name, const T &memberValue) {
    return key(name).value(memberValue);
  }
  template <typename Range>
  JsonWriter &arrayMember(std::string_view name, const Range &values) {
    key(name).beginArray();
    for (const auto &element : values)
      value(element);
    return endArray();
  }

  const std::string &text() const { return out; }
  std::string take() { return std::move(out); }

private:
  JsonWriter &open(char bracket);
  JsonWriter &close(char bracket);
  JsonWriter &signedValue(int64_t number);
  JsonWriter &unsignedValue(uint64_t number);
  void separate();

  std::string out;
  std::vector<bool> hasElements;  // one flag for each open bracket
  bool afterKey = false;
};

}  // namespace girih
