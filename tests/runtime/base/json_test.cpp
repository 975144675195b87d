// SPDX-License-Identifier: Apache-2.0
// JsonWriter writes valid JSON, whatever the strings and numbers it is given.
#include "runtime/base/json.h"

#include <gtest/gtest.h>

#include <limits>

namespace girih {
namespace {

std::string quoted(std::string_view text) {
  std::string out;
  appendJsonString(out, text);
  return out;
}

TEST(JsonWriter, SeparatesNestedElements) {
  JsonWriter writer;
  writer.beginObject().member("a", 1).key("b").beginArray().value(true).null().beginObject().endObject().endArray();
  writer.member("c", "x").arrayMember("d", std::vector<int>{1, 2}).endObject();
  EXPECT_EQ(writer.text(), R"({"a":1,"b":[true,null,{}],"c":"x","d":[1,2]})");
}

TEST(JsonWriter, EscapesControlCharactersAndQuotes) {
  EXPECT_EQ(quoted("\"\\\n\t\r\x01\x7f"), "\"\\\"\\\\\\n\\t\\r\\u0001\\u007f\"");
  EXPECT_EQ(quoted(std::string_view("\0", 1)), "\"\\u0000\"");
}

TEST(JsonWriter, KeepsUtf8AndReplacesWhatIsNot) {
  EXPECT_EQ(quoted("\u00e9\u20ac\U0001F600"), "\"\u00e9\u20ac\U0001F600\"");
  EXPECT_EQ(quoted("a\xFF" "b"), "\"a\uFFFD" "b\"");
  EXPECT_EQ(quoted("\xE2\x82"), "\"\uFFFD\uFFFD\"");             // cut in the middle
  EXPECT_EQ(quoted("\xC0\x80"), "\"\uFFFD\uFFFD\"");             // overlong
  EXPECT_EQ(quoted("\xED\xA0\x80"), "\"\uFFFD\uFFFD\uFFFD\"");   // a surrogate
}

TEST(JsonWriter, WritesNumbersThatReadBackTheSame) {
  JsonWriter writer;
  writer.beginArray().value(0.1).value(0.1f).value(-1e300).value(int64_t{-5});
  writer.value(std::numeric_limits<uint64_t>::max()).value(std::numeric_limits<double>::infinity()).endArray();
  EXPECT_EQ(writer.text(), "[0.1,0.1,-1e+300,-5,18446744073709551615,null]");
}

}  // namespace
}  // namespace girih
