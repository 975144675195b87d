// SPDX-License-Identifier: Apache-2.0
// Grammars mask the tokens that would leave them.
#include "runtime/text/grammar.h"

#include "tests/runtime/text/small_vocabulary.h"

#include <gtest/gtest.h>

namespace girih {
namespace {

class GrammarTest : public testing::Test {
protected:
  GrammarTest()
      : tokenizer(Tokenizer::fromGguf(smallByteLevel()).value()),
        vocabulary(GrammarVocabulary::create(tokenizer, kEnd).value()),
        mask(static_cast<size_t>(tokenizer.vocabSize() + 31) / 32) {}

  // Whether `text`, a byte a token, is an answer to `schema`.
  bool answers(const std::string &schema, std::string_view text) {
    auto grammar = Grammar::create(vocabulary, GrammarKind::JsonSchema, schema);
    EXPECT_TRUE(grammar.isOk()) << schema << ": " << grammar.status().message();
    for (char letter : text)
      if (!grammar.isOk() || !grammar->accept(letter).isOk())
        return false;
    return grammar->mayEnd();
  }

  bool allows(Grammar &grammar, int32_t id) {
    EXPECT_TRUE(grammar.fillMask(mask).isOk());
    return mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1;
  }

  Tokenizer tokenizer;
  GrammarVocabulary vocabulary;
  std::vector<uint32_t> mask;
};

TEST_F(GrammarTest, RegexAllowsWhatMatches) {
  auto grammar = Grammar::create(vocabulary, GrammarKind::Regex, "hell(o|x)");
  ASSERT_TRUE(grammar.isOk()) << grammar.status().message();
  EXPECT_TRUE(allows(*grammar, kHe));
  EXPECT_TRUE(allows(*grammar, kHello));
  EXPECT_FALSE(allows(*grammar, 'l'));
  EXPECT_FALSE(allows(*grammar, kEnd));
  EXPECT_FALSE(grammar->mayEnd());
  EXPECT_TRUE(grammar->accept(kHell).isOk());
  EXPECT_TRUE(allows(*grammar, 'x'));
  EXPECT_TRUE(grammar->accept('o').isOk());
  EXPECT_TRUE(grammar->mayEnd());
  EXPECT_TRUE(allows(*grammar, kEnd));
}

TEST_F(GrammarTest, JsonSchemaIsFollowedToItsEnd) {
  auto grammar =
      Grammar::create(vocabulary, GrammarKind::JsonSchema,
                      R"({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
                                     "additionalProperties": false})");
  ASSERT_TRUE(grammar.isOk()) << grammar.status().message();
  for (char c : std::string(R"({"a": true})")) {
    EXPECT_TRUE(allows(*grammar, c)) << c;
    EXPECT_TRUE(grammar->accept(c).isOk()) << c;
  }
  EXPECT_TRUE(grammar->mayEnd());
}

TEST_F(GrammarTest, ObjectsThatListTheirPropertiesHaveNoOthers) {
  const std::string listed = R"({"type": "object", "properties": {"a": {"type": "integer"}}})";
  EXPECT_TRUE(answers(listed, R"({"a": 1})"));
  EXPECT_TRUE(answers(listed, "{}"));
  EXPECT_FALSE(answers(listed, R"({"a": 1, "b": 2})"));
  // Those within arrays, choices and definitions are closed as well; names of properties are no keywords.
  EXPECT_FALSE(answers(R"({"type": "array", "items": )" + listed + "}", R"([{"a": 1, "b": 2}])"));
  EXPECT_FALSE(answers(R"({"anyOf": [{"type": "null"}, )" + listed + "]}", R"({"a": 1, "b": 2})"));
  EXPECT_FALSE(answers(R"({"$ref": "#/$defs/x", "$defs": {"x": )" + listed + "}}", R"({"a": 1, "b": 2})"));
  EXPECT_FALSE(answers(R"({"type": "object", "properties": {"allOf": )" + listed + "}}", R"({"allOf": {"b": 2}})"));
}

TEST_F(GrammarTest, ObjectsStayOpenWhereTheSchemaSaysOrNeedsIt) {
  const std::string more = R"({"a": 1, "b": 2})";
  const std::string of = R"({"type": "object", "properties": {"a": {"type": "integer"}}, )";
  EXPECT_TRUE(answers(R"({"type": "object"})", more));
  EXPECT_TRUE(answers(of + R"("additionalProperties": true})", more));
  EXPECT_TRUE(answers(of + R"("additionalProperties": {"type": "integer"}})", more));
  EXPECT_FALSE(answers(of + R"("additionalProperties": {"type": "null"}})", more));
  EXPECT_TRUE(answers(of + R"("required": ["b"]})", more));
  // Each half would forbid the other's.
  EXPECT_TRUE(answers(R"({"allOf": [{"properties": {"a": {}}, "type": "object"}, {"properties": {"b": {}}}]})", more));
  EXPECT_TRUE(answers(of + R"("anyOf": [{"properties": {"b": {}}, "required": ["b"]}, {"required": ["c"]}]})", more));
}

TEST_F(GrammarTest, RefusesTokensOutsideAndSourcesThatAreNone) {
  auto grammar = Grammar::create(vocabulary, GrammarKind::Regex, "a");
  ASSERT_TRUE(grammar.isOk());
  EXPECT_EQ(grammar->accept('b').code(), StatusCode::InvalidArgument);
  EXPECT_FALSE(Grammar::create(vocabulary, GrammarKind::JsonSchema, "{").isOk());
  EXPECT_FALSE(Grammar::create(vocabulary, GrammarKind::Regex, "(").isOk());
  EXPECT_FALSE(GrammarVocabulary::create(tokenizer, -1).isOk());
}

} // namespace
} // namespace girih
