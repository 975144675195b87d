// SPDX-License-Identifier: Apache-2.0
// JsonWriter: escaping, numbers and commas.
#include "runtime/base/json.h"

#include "runtime/base/status.h"

#include <charconv>
#include <cmath>

namespace girih {
namespace {

// Length of the well-formed UTF-8 sequence at the start of `text` (Unicode 15, table 3-7); 0 when there is none.
size_t utf8SequenceLength(std::string_view text) {
  auto byteAt = [&](size_t index) -> unsigned {
    return index < text.size() ? static_cast<unsigned char>(text[index]) : 0;
  };
  auto isContinuation = [&](size_t index) { return (byteAt(index) & 0xC0) == 0x80; };
  unsigned lead = byteAt(0), second = byteAt(1);
  if (lead < 0x80)
    return 1;
  if (lead >= 0xC2 && lead <= 0xDF)
    return isContinuation(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    // Overlong forms and surrogates are not UTF-8.
    bool secondFits = isContinuation(1) && !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F);
    return secondFits && isContinuation(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    bool secondFits = isContinuation(1) && !(lead == 0xF0 && second < 0x90) && !(lead == 0xF4 && second > 0x8F);
    return secondFits && isContinuation(2) && isContinuation(3) ? 4 : 0;
  }
  return 0;
}

void appendEscaped(std::string &out, unsigned char byte) {
  constexpr char kHexDigits[] = "0123456789abcdef";
  switch (byte) {
  case '"': out += "\\\""; return;
  case '\\': out += "\\\\"; return;
  case '\n': out += "\\n"; return;
  case '\r': out += "\\r"; return;
  case '\t': out += "\\t"; return;
  default:
    out += "\\u00";
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
}

}  // namespace

void appendJsonString(std::string &out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    unsigned char lead = static_cast<unsigned char>(text.front());
    size_t numBytes = utf8SequenceLength(text);
    if (lead < 0x20 || lead == '"' || lead == '\\' || lead == 0x7F)
      appendEscaped(out, lead);
    else if (numBytes == 0)
      out += "\xEF\xBF\xBD";
    else
      out += text.substr(0, numBytes);
    text.remove_prefix(numBytes == 0 ? 1 : numBytes);
  }
  out += '"';
}

void JsonWriter::separate() {
  if (afterKey) {
    afterKey = false;
    return;
  }
  if (hasElements.empty())
    return;
  if (hasElements.back())
    out += ',';
  hasElements.back() = true;
}

JsonWriter &JsonWriter::open(char bracket) {
  separate();
  out += bracket;
  hasElements.push_back(false);
  return *this;
}

JsonWriter &JsonWriter::close(char bracket) {
  GIRIH_CHECK(!hasElements.empty() && !afterKey);
  hasElements.pop_back();
  out += bracket;
  return *this;
}

JsonWriter &JsonWriter::key(std::string_view name) {
  separate();
  appendJsonString(out, name);
  out += ':';
  afterKey = true;
  return *this;
}

JsonWriter &JsonWriter::value(std::string_view text) {
  separate();
  appendJsonString(out, text);
  return *this;
}

JsonWriter &JsonWriter::value(bool flag) { return raw(flag ? "true" : "false"); }
JsonWriter &JsonWriter::null() { return raw("null"); }

JsonWriter &JsonWriter::value(double number) {
  if (!std::isfinite(number))
    return null();
  char digits[32];
  auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
  return raw(std::string_view(digits, static_cast<size_t>(end - digits)));
}

JsonWriter &JsonWriter::value(float number) {
  if (!std::isfinite(number))
    return null();
  char digits[32];
  auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
  return raw(std::string_view(digits, static_cast<size_t>(end - digits)));
}

JsonWriter &JsonWriter::signedValue(int64_t number) { return raw(std::to_string(number)); }
JsonWriter &JsonWriter::unsignedValue(uint64_t number) { return raw(std::to_string(number)); }

JsonWriter &JsonWriter::raw(std::string_view json) {
  separate();
  out += json;
  return *this;
}

}  // namespace girih
