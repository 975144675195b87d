// SPDX-License-Identifier: Apache-2.0
// Answers held to a shape: what is read of a request, what the engine is made to say, and what is refused.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::HasSubstr;

class ShapesTest : public EndpointsTest {
protected:
  void saying(std::string text) {
    FakeEngineOptions options;
    options.says = std::move(text);
    start(options, {});
  }
  std::string content(std::string fields) {
    HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(fields));
    EXPECT_EQ(response.status, 200) << response.body;
    return at(response.body, "choices.0.message.content");
  }
};

TEST_F(ShapesTest, HoldsTheAnswerToASchema) {
  // The fake engine says this where it may: the spaces and the second key it may not.
  saying(R"({"a": 17, "b": true}tail)");
  std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false})";
  std::string format =
      R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":)" +
      schema + "}}";
  std::string text = content(format);
  EXPECT_THAT(text, HasSubstr(R"({\"a\": 17)"));
  EXPECT_TRUE(text.ends_with("}\"")) << text;
  EXPECT_EQ(text, content(format)) << "the second time the grammar is known";
  EXPECT_EQ(content(R"("response_format":{"type":"json_object"},"max_tokens":8)"), R"("{\"a\": 17")");
  EXPECT_EQ(content(R"("response_format":{"type":"text"},"max_tokens":3)"), R"("{\"a")");
}

TEST_F(ShapesTest, HoldsTheAnswerToRegexesGrammarsAndChoices) {
  std::string pattern = R"x("response_format":{"type":"regex","pattern":"Hello, (moon|sun)"})x";
  EXPECT_EQ(content(pattern), "\"Hello, moon\"");
  EXPECT_EQ(content(R"("response_format":{"type":"grammar","grammar":"start: \"He\" \"llo\"? \"!\""})"),
            "\"Hello!\"");
  std::string choice = R"x("structured_outputs":{"choice":["no (never)","Hello?"]})x";
  EXPECT_EQ(content(choice), "\"Hello?\"");
  EXPECT_EQ(content(R"("structured_outputs":{"regex":"[0-9]{2}"})"), "\"00\"");
  EXPECT_EQ(content(R"("structured_outputs":{"json":{"const":"Hello"}})"), R"("\"Hello\"")");
}

TEST_F(ShapesTest, StreamsAndGivesSeveralAnswers) {
  std::string fields = R"("n":3,"stream":true,"response_format":{"type":"regex","pattern":"Hell no"})";
  auto exchange = send("POST", "/v1/chat/completions", chatBody(fields));
  ASSERT_TRUE(exchange->waitForEnd());
  EXPECT_EQ(joined(exchange->events, "choices.0.delta.content").size(), 3 * std::string("Hell no").size());
  HttpResponse legacy = answer("POST", "/v1/completions",
                               R"({"prompt":"x","max_tokens":99,"structured_outputs":{"regex":"He"}})");
  EXPECT_EQ(at(legacy.body, "choices.0.text"), "\"He\"");
}

TEST_F(ShapesTest, AnthropicsFormatToo) {
  std::string body =
      R"({"max_tokens":99,"messages":[{"role":"user","content":"x"}],"output_config":{"format":{"type":"json_schema","schema":{"const":7}}}})";
  EXPECT_EQ(at(answer("POST", "/v1/messages", body).body, "content.0.text"), "\"7\"");
}

TEST_F(ShapesTest, NamesTheFieldOfEveryRefusal) {
  const std::pair<std::string, std::string> kRefusals[] = {
      {R"("response_format":{"type":"yaml"})", "none of text"},
      {R"("response_format":7)", "none of text"},
      {R"("response_format":{"type":"json_schema"})", "no object `schema`"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":7}})", "no object `schema`"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{"type":"robot"}}})", "robot"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{"$ref":"http://127.0.0.1/x"}}})",
       "$ref"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{"anyOf":[{"$ref":"#"}]}}})",
       "no text can match it"},
      {R"("response_format":{"type":"regex"})", "no string `pattern`"},
      {R"("response_format":{"type":"regex","pattern":"("})", "regex"},
      {R"("response_format":{"type":"grammar","grammar":"start: x"})", "x"},
      {R"("structured_outputs":{"choice":[]})", "choice"},
      {R"("structured_outputs":{})", "none of json"},
      {R"("structured_outputs":{"regex":"a"},"response_format":{"type":"json_object"})", "both"},
  };
  for (const auto &[fields, part] : kRefusals)
    for (int round = 0; round < 2; ++round) {
      HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(fields));
      EXPECT_EQ(response.status, 400) << fields;
      EXPECT_THAT(at(response.body, "error.param"),
                  AnyOf(HasSubstr("response_format"), HasSubstr("structured_outputs")));
      EXPECT_THAT(at(response.body, "error.message"), HasSubstr(part)) << fields;
      EXPECT_EQ(response.body.find("verbose"), std::string::npos) << response.body;
    }
}

TEST_F(ShapesTest, GivesUpOnMasksThatTakeTooLong) {
  saying(std::string(4000, 'x'));
  // Each mask must try a hundred beginnings of the same thing.
  std::string fields =
      R"("response_format":{"type":"grammar","grammar":"start: x{9999}\nx[max_tokens=1]: /.*/"})";
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(fields));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(at(response.body, "error.type"), "\"invalid_request_error\"");
}

} // namespace
} // namespace girih::server
