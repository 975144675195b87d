// SPDX-License-Identifier: Apache-2.0
// Anthropic's endpoints over a FakeEngine: bodies, events in their order, stop reasons and errors in its shape.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MessagesTest : public EndpointsTest {
protected:
  std::string body(std::string fields) {
    return R"({"model":"fake","max_tokens":100,"messages":[{"role":"user","content":"hi"}])" +
           (fields.empty() ? "" : "," + fields) + "}";
  }
};

TEST_F(MessagesTest, AnswersInAnthropicsShape) {
  FakeEngineOptions options;
  options.cachedTokens = 2;
  start(options, {});
  HttpResponse response = answer("POST", "/v1/messages", body(""));
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(at(response.body, "type"), "\"message\"");
  EXPECT_EQ(at(response.body, "role"), "\"assistant\"");
  EXPECT_EQ(at(response.body, "id"), "\"msg_req_1\"");
  EXPECT_EQ(at(response.body, "content"),
            R"([{"type":"text","text":"Hello, world! The capital of France is Paris."}])");
  EXPECT_EQ(at(response.body, "stop_reason"), "\"end_turn\"");
  EXPECT_EQ(at(response.body, "stop_sequence"), "null");
  EXPECT_EQ(at(response.body, "usage.input_tokens"), "7") << "\"user: hi\\n\" without what the cache had";
  EXPECT_EQ(at(response.body, "usage.cache_read_input_tokens"), "2");
  EXPECT_EQ(at(response.body, "usage.output_tokens"), "45");
}

TEST_F(MessagesTest, SaysWhyItStopped) {
  HttpResponse cut = answer("POST", "/v1/messages", body(R"("stop_sequences":["nowhere"," The"])"));
  EXPECT_EQ(at(cut.body, "content.0.text"), "\"Hello, world!\"");
  EXPECT_EQ(at(cut.body, "stop_reason"), "\"stop_sequence\"");
  EXPECT_EQ(at(cut.body, "stop_sequence"), "\" The\"");
  HttpResponse full =
      answer("POST", "/v1/messages", R"({"max_tokens":5,"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(at(full.body, "content.0.text"), "\"Hello\"");
  EXPECT_EQ(at(full.body, "stop_reason"), "\"max_tokens\"");
  HttpResponse none = answer("POST", "/v1/messages", body(R"("stop_sequences":["H"])"));
  EXPECT_EQ(at(none.body, "content"), "[]");
}

TEST_F(MessagesTest, StreamsItsEventsInOrder) {
  auto exchange = send("POST", "/v1/messages", body(R"("stream":true,"stop_sequences":["!"])"));
  ASSERT_TRUE(exchange->waitForEnd());
  auto names = exchange->eventNames;
  ASSERT_GE(names.size(), 6u);
  for (size_t index = 0; index < names.size(); ++index)
    EXPECT_EQ(at(exchange->events[index], "type"), "\"" + names[index] + "\"");
  names.erase(std::unique(names.begin(), names.end()), names.end());
  EXPECT_THAT(names, ElementsAre("message_start", "content_block_start", "content_block_delta",
                                 "content_block_stop", "message_delta", "message_stop"));
  const auto &events = exchange->events;
  EXPECT_EQ(at(events[0], "message.content"), "[]");
  EXPECT_EQ(at(events[0], "message.stop_reason"), "null");
  EXPECT_EQ(at(events[0], "message.usage.input_tokens"), "9");
  EXPECT_EQ(joined(events, "delta.text"), "Hello, world");
  const std::string &delta = events[events.size() - 2];
  EXPECT_EQ(at(delta, "delta.stop_reason"), "\"stop_sequence\"");
  EXPECT_EQ(at(delta, "delta.stop_sequence"), "\"!\"");
  EXPECT_EQ(at(delta, "usage.output_tokens"), "13");
}

TEST_F(MessagesTest, EndsAStreamThatFailsWithAnError) {
  FakeEngineOptions options;
  options.fails = true;
  start(options, {});
  auto exchange = send("POST", "/v1/messages", body(R"("stream":true)"));
  ASSERT_TRUE(exchange->waitForEnd());
  EXPECT_EQ(exchange->eventNames.back(), "error");
  EXPECT_EQ(at(exchange->events.back(), "error.type"), "\"api_error\"");
}

// What the template was given, by the length of its prompt: the fake one writes "role: content" lines.
struct Prompt {
  std::string fields, prompt;
};

TEST_F(MessagesTest, TurnsBlocksIntoMessages) {
  const Prompt kPrompts[] = {
      {R"("messages":[{"role":"user","content":"hi"}])", "user: hi\n"},
      {R"("system":"be brief","messages":[{"role":"user","content":"hi"}])", "system: be brief\nuser: hi\n"},
      {R"("system":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral","ttl":"1h"}}],)"
       R"("messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}])",
       "system: a\nb\nuser: hi\n"},
      {R"("messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}])", "user: a\nb\n"},
      {R"("messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},)"
       R"({"type":"text","text":"b"},{"type":"tool_use","id":"t1","name":"f","input":{"x":1}}]},)"
       R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"7"}]},)"
       R"({"type":"text","text":"go on"}]}])",
       "user: a\nassistant: b\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>\n"
       "user: <tool_response>\n7\n</tool_response>\nuser: go on\n"},
      // The answer goes on from a last turn of the assistant.
      {R"("messages":[{"role":"user","content":"a"},{"role":"assistant","content":"One <|end|>"}])",
       "user: a\nOne <|end|>"},
  };
  for (const Prompt &expected : kPrompts) {
    HttpResponse response = answer("POST", "/v1/messages/count_tokens", "{" + expected.fields + "}");
    EXPECT_EQ(at(response.body, "input_tokens"), std::to_string(expected.prompt.size()))
        << response.body << expected.prompt;
    HttpResponse whole = answer("POST", "/v1/messages", "{\"max_tokens\":1," + expected.fields + "}");
    EXPECT_EQ(at(whole.body, "usage.input_tokens"), std::to_string(expected.prompt.size()));
  }
}

TEST_F(MessagesTest, RefusesInAnthropicsShape) {
  const std::pair<std::string, std::string> kRefusals[] = {
      {R"({"messages":[{"role":"user","content":"hi"}]})", "max_tokens"},
      {R"({"max_tokens":5})", "messages"},
      {R"({"max_tokens":5,"messages":[]})", "messages"},
      {R"({"max_tokens":5,"messages":[{"role":"robot","content":"hi"}]})", "messages[0].role"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]})", "image"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_use","id":"a","name":"b","input":{}}]}]})",
       "tool_use"},
      {R"({"max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b","input":[]}]}]})",
       "input"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]})",
       "tool_use_id"},
      {R"({"max_tokens":5,"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[7]}]})", "messages[0].content[0]"},
      {R"({"max_tokens":5,"temperature":1.5,"messages":[{"role":"user","content":"hi"}]})", "temperature"},
      {R"({"max_tokens":5,"system":[{"type":"text","text":"x","cache_control":{"ttl":"1 year"}}],"messages":[{"role":"user","content":"hi"}]})",
       "cache_control"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":"\ud800"}]})", "JSON"},
      {"[1]", "JSON object"},
      {std::string(100, '['), "64 levels"},
  };
  for (const auto &[request, part] : kRefusals) {
    HttpResponse response = answer("POST", "/v1/messages", request);
    EXPECT_EQ(response.status, 400) << request;
    EXPECT_EQ(at(response.body, "type"), "\"error\"");
    EXPECT_EQ(at(response.body, "error.type"), "\"invalid_request_error\"");
    EXPECT_EQ(at(response.body, "request_id"), "\"req_1\"");
    EXPECT_THAT(at(response.body, "error.message"), HasSubstr(part)) << request;
  }
  ServiceOptions options;
  options.keys = ApiKeys::ofOne("sesame");
  start({}, options);
  HttpResponse stranger = answer("POST", "/v1/messages", body(""), "wrong");
  EXPECT_EQ(stranger.status, 401);
  EXPECT_EQ(at(stranger.body, "error.type"), "\"authentication_error\"");
}

TEST_F(MessagesTest, TakesTheLastOfTwoEqualKeysAndNamesUnknownOnes) {
  HttpResponse response = answer("POST", "/v1/messages", body(R"("max_tokens":3,"colour":"red")"));
  EXPECT_EQ(at(response.body, "usage.output_tokens"), "3");
  EXPECT_THAT(response.headers,
              ElementsAre(std::pair<std::string, std::string>("x-girih-ignored", "colour")));
}

} // namespace
} // namespace girih::server
