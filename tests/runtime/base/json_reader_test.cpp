// SPDX-License-Identifier: Apache-2.0
// JsonDocument reads JSON, and says what is wrong with a text or with a value's kind.
#include "runtime/base/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih {
namespace {

using testing::HasSubstr;

JsonDocument parsed(std::string_view text) {
  auto document = JsonDocument::parse(text);
  EXPECT_TRUE(document.isOk()) << document.status().message();
  return std::move(document).value();
}

TEST(JsonReader, ReadsEveryKind) {
  JsonDocument document = parsed(R"({"n":null,"b":true,"i":-5,"d":2.5,"s":"a\u00e9","a":[1,[2]],"o":{"k":1}})");
  JsonValue root = document.root();
  EXPECT_TRUE(root.find("n")->isNull());
  EXPECT_TRUE(root.find("b")->asBoolean().value());
  EXPECT_EQ(root.find("i")->asInteger().value(), -5);
  EXPECT_EQ(root.find("i")->asNumber().value(), -5.0);
  EXPECT_EQ(root.find("d")->asNumber().value(), 2.5);
  EXPECT_EQ(root.find("s")->asString().value(), "a\u00e9");
  ASSERT_EQ(root.find("a")->elements().size(), 2u);
  EXPECT_EQ(root.find("a")->elements()[1].elements()[0].asInteger().value(), 2);
  EXPECT_EQ(root.find("o")->members()[0].key, "k");
  EXPECT_EQ(root.find("missing"), std::nullopt);
  EXPECT_EQ(root.find("s")->find("k"), std::nullopt);
  EXPECT_EQ(root.find("a")->print(), "[1,[2]]");
}

TEST(JsonReader, ValuesOutliveAMoveOfTheDocument) {
  JsonDocument document = parsed(R"({"k":"text"})");
  JsonValue value = *document.root().find("k");
  JsonDocument moved = std::move(document);
  EXPECT_EQ(value.asString().value(), "text");
}

TEST(JsonReader, TakesTheLastOfTwoEqualKeysAsPythonDoes) {
  EXPECT_EQ(parsed(R"({"k":1,"k":2})").root().find("k")->asInteger().value(), 2);
}

TEST(JsonReader, CountsWholeNumbersAsIntegers) {
  JsonDocument document = parsed("[4.0, 4.5, 1e300, 18446744073709551615, -1]");
  auto values = document.root().elements();
  EXPECT_EQ(values[0].asInteger().value(), 4);
  EXPECT_EQ(values[1].asInteger().status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(values[2].asInteger().status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(values[3].asInteger().status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(values[3].asUnsigned().value(), UINT64_MAX);
  EXPECT_EQ(values[4].asUnsigned().status().code(), StatusCode::InvalidArgument);
}

TEST(JsonReader, SaysWhichKindItFound) {
  JsonDocument document = parsed(R"({"k":"text"})");
  EXPECT_THAT(std::string(document.root().find("k")->asInteger().status().message()),
              HasSubstr("is a string; an integer is needed"));
  EXPECT_EQ(JsonValue().asString().status().code(), StatusCode::InvalidArgument);
}

TEST(JsonReader, RefusesWhatIsNotJson) {
  for (std::string_view text : {"", " ", "{", "{\"a\":1,}", "[1 2]", "\"\xff\"", "nul", "{} {}", "[1e999]"})
    EXPECT_EQ(JsonDocument::parse(text).status().code(), StatusCode::InvalidArgument) << text;
}

TEST(JsonReader, BoundsTheDepth) {
  std::string deep = std::string(100000, '[') + std::string(100000, ']');
  auto document = JsonDocument::parse(deep);
  EXPECT_EQ(document.status().code(), StatusCode::InvalidArgument);
  EXPECT_THAT(std::string(document.status().message()), HasSubstr("nested more than 128 deep"));
  EXPECT_TRUE(JsonDocument::parse("[[[1]]]", 5).isOk());
}

}  // namespace
}  // namespace girih
