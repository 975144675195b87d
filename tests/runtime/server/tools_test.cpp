// SPDX-License-Identifier: Apache-2.0
// Tools over a FakeEngine: what the prompt says, what comes back, streamed or not, in OpenAI's and Anthropic's shape.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kTools =
    R"("tools":[{"type":"function","function":{"name":"weather","description":"of a town","parameters":{"type":"object",)"
    R"("properties":{"town":{"enum":["Rome","Paris"]}},"required":["town"],"additionalProperties":false}}},)"
    R"({"type":"function","function":{"name":"now"}}])";
const std::string kSaysCall =
    "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Rome\"}}\n</tool_call>";

class ToolsTest : public EndpointsTest {
protected:
  void saying(std::string text) {
    FakeEngineOptions options;
    options.says = std::move(text);
    options.contextTokens = 4096;
    start(options, {});
  }
  std::string chat(std::string fields) {
    return answer("POST", "/v1/chat/completions", chatBody(fields)).body;
  }
};

TEST_F(ToolsTest, TakesCallsOutOfTheText) {
  saying(kSaysCall);
  std::string body = chat(kTools);
  EXPECT_EQ(at(body, "choices.0.message.content"), R"("Let me see.\n")");
  EXPECT_EQ(at(body, "choices.0.message.tool_calls.0.type"), "\"function\"");
  EXPECT_THAT(at(body, "choices.0.message.tool_calls.0.id"), StartsWith("\"call_"));
  EXPECT_EQ(at(body, "choices.0.message.tool_calls.0.function.name"), "\"weather\"");
  EXPECT_EQ(at(body, "choices.0.message.tool_calls.0.function.arguments"), R"("{\"town\": \"Rome\"}")");
  EXPECT_EQ(at(body, "choices.0.finish_reason"), "\"tool_calls\"");
  std::string none = chat(kTools + R"(,"tool_choice":"none")");
  EXPECT_THAT(at(none, "choices.0.message.content"), HasSubstr("<tool_call>"));
  EXPECT_EQ(at(none, "choices.0.finish_reason"), "\"stop\"");
}

TEST_F(ToolsTest, StreamsCallsPieceByPiece) {
  saying(kSaysCall);
  auto exchange = send("POST", "/v1/chat/completions", chatBody(kTools + R"(,"stream":true)"));
  ASSERT_TRUE(exchange->waitForEnd());
  const auto &events = exchange->events;
  EXPECT_EQ(joined(events, "choices.0.delta.content"), R"(Let me see.\n)");
  EXPECT_EQ(joined(events, "choices.0.delta.tool_calls.0.function.name"), "weather");
  EXPECT_EQ(joined(events, "choices.0.delta.tool_calls.0.function.arguments"), R"({\"town\": \"Rome\"})");
  size_t numIds = 0, numPieces = 0;
  for (const std::string &event : events) {
    numIds += event.find("\"call_") != event.npos;
    numPieces += event.find("tool_calls\":[") != event.npos;
    if (event.find("tool_calls\":[") != event.npos)
      EXPECT_EQ(at(event, "choices.0.delta.tool_calls.0.index"), "0");
  }
  EXPECT_EQ(numIds, 1u);
  EXPECT_GT(numPieces, 3u);
  EXPECT_EQ(at(events[events.size() - 2], "choices.0.finish_reason"), "\"tool_calls\"");
}

TEST_F(ToolsTest, CallsWhatIsDemanded) {
  saying("I would rather talk.");
  std::string any = chat(kTools + R"(,"tool_choice":"required","parallel_tool_calls":false)");
  EXPECT_THAT(at(any, "choices.0.message.tool_calls.0.function.name"),
              ::testing::AnyOf("\"weather\"", "\"now\""));
  EXPECT_EQ(at(any, "choices.0.message.content"), "null");
  EXPECT_EQ(at(any, "choices.0.finish_reason"), "\"tool_calls\"");
  std::string named = chat(kTools + R"(,"tool_choice":{"type":"function","function":{"name":"weather"}})");
  EXPECT_EQ(at(named, "choices.0.message.tool_calls.0.function.name"), "\"weather\"");
  EXPECT_THAT(at(named, "choices.0.message.tool_calls.0.function.arguments"),
              ::testing::AnyOf(R"("{\"town\": \"Rome\"}")", R"("{\"town\": \"Paris\"}")"));
  EXPECT_EQ(at(named, "choices.0.message.tool_calls.1"), "absent");
}

TEST_F(ToolsTest, HoldsStrictCallsToTheirSchemaAndLetsTextBe) {
  std::string strict =
      R"("tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"x":{"const":7}},"required":["x"],"additionalProperties":false}}}])";
  saying("No <tool_call> here.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"y\": 1");
  std::string body = chat(strict);
  EXPECT_EQ(at(body, "choices.0.message.content"), R"("No <tool_call> here.")");
  EXPECT_EQ(at(body, "choices.0.message.tool_calls.0.function.arguments"), R"("{\"x\": 7}")");
  saying("Just text.");
  EXPECT_EQ(at(chat(strict), "choices.0.message.content"), "\"Just text.\"");
  std::string either =
      chat(strict + R"(,"response_format":{"type":"json_schema","json_schema":{"schema":{"const":"Just"}}})");
  EXPECT_THAT(at(either, "choices.0.message.content"), ::testing::AnyOf(R"("\"Just\"")", "null"));
  EXPECT_THAT(chat(strict + R"(,"response_format":{"type":"regex","pattern":"a"})"),
              HasSubstr("must be a JSON schema"));
}

TEST_F(ToolsTest, TellsOfToolsAndOfEarlierCallsInText) {
  saying("ok");
  std::string prompt = at(
      answer(
          "POST", "/apply-template",
          R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"},)"
          R"({"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"now","arguments":"{\"a\":1}"}}]},)"
          R"({"role":"tool","tool_call_id":"c1","content":"noon"}],)" +
              kTools + "}")
          .body,
      "prompt");
  EXPECT_THAT(prompt, StartsWith(R"("system: Be brief.\n\nYou can call functions.)"));
  EXPECT_THAT(
      prompt,
      HasSubstr(
          R"({\"name\":\"weather\",\"description\":\"of a town\",\"parameters\":{\"type\":\"object\")"));
  EXPECT_THAT(
      prompt,
      HasSubstr(R"(assistant: <tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\":1}}\n</tool_call>)"));
  EXPECT_THAT(prompt, HasSubstr(R"(user: <tool_response>\nnoon\n</tool_response>)"));
}

TEST_F(ToolsTest, UsesTheTemplatesOwnFormat) {
  FakeEngineOptions options;
  options.chatTemplate = "{% for t in tools %}tool {{ t.function.name }}\n{% endfor %}{% for m in messages "
                         "%}{{ m.role }}: {{ m.content }}"
                         "{% for c in m.tool_calls %}CALL {\"name\": \"{{ c.function.name }}\", "
                         "\"parameters\": {{ c.function.arguments | tojson }}} DONE{% endfor %}"
                         "<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  options.says = "CALL {\"name\": \"weather\", \"parameters\": {\"town\": \"Rome\"}} DONE";
  start(options, {});
  EXPECT_EQ(service->model().toolFormat.open, "CALL ");
  EXPECT_EQ(at(chat(kTools), "choices.0.message.tool_calls.0.function.name"), "\"weather\"");
  EXPECT_THAT(answer("POST", "/apply-template", chatBody(kTools)).body,
              HasSubstr(R"(tool weather\ntool now\n)"));
  std::string demanded = chat(R"("tool_choice":{"type":"function","function":{"name":"now"}},)" + kTools);
  EXPECT_EQ(at(demanded, "choices.0.message.tool_calls.0.function.name"), "\"now\"");
}

TEST_F(ToolsTest, AnthropicsShapeToo) {
  saying(kSaysCall);
  std::string fields =
      R"({"max_tokens":200,"messages":[{"role":"user","content":"hi"}],"tools":[{"name":"weather","input_schema":{"type":"object"}}])";
  std::string body = answer("POST", "/v1/messages", fields + "}").body;
  EXPECT_EQ(at(body, "content.0.type"), "\"text\"");
  EXPECT_EQ(at(body, "content.1.type"), "\"tool_use\"");
  EXPECT_EQ(at(body, "content.1.name"), "\"weather\"");
  EXPECT_EQ(at(body, "content.1.input.town"), "\"Rome\"");
  EXPECT_EQ(at(body, "stop_reason"), "\"tool_use\"");
  auto exchange = send("POST", "/v1/messages", fields + R"(,"stream":true})");
  ASSERT_TRUE(exchange->waitForEnd());
  auto names = exchange->eventNames;
  names.erase(std::unique(names.begin(), names.end()), names.end());
  EXPECT_THAT(names, ElementsAre("message_start", "content_block_start", "content_block_delta",
                                 "content_block_stop", "content_block_start", "content_block_delta",
                                 "content_block_stop", "message_delta", "message_stop"));
  EXPECT_EQ(joined(exchange->events, "delta.partial_json"), R"({\"town\": \"Rome\"})");
  EXPECT_EQ(joined(exchange->events, "content_block.name"), "weather");
  std::string demanded = answer("POST", "/v1/messages", fields + R"(,"tool_choice":{"type":"any"}})").body;
  EXPECT_EQ(at(demanded, "stop_reason"), "\"tool_use\"");
}

} // namespace
} // namespace girih::server
