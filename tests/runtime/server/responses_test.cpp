// SPDX-License-Identifier: Apache-2.0
// /v1/responses over a FakeEngine: items and events, what is stored for whom, and what a next turn goes on from.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ResponsesTest : public EndpointsTest {
protected:
  void SetUp() override { saying("Hello there."); }
  void saying(std::string text, std::string keys = "") {
    FakeEngineOptions options;
    options.says = std::move(text);
    options.contextTokens = 4096;
    ServiceOptions serviceOptions;
    if (!keys.empty())
      serviceOptions.keys = ApiKeys::parse(keys, false).value();
    start(options, serviceOptions);
  }
  std::string respond(std::string fields, std::string key = "") {
    HttpResponse response = answer("POST", "/v1/responses", "{" + fields + "}", key);
    EXPECT_EQ(response.status, 200) << response.body;
    return response.body;
  }
  static std::string plain(std::string quoted) { return quoted.substr(1, quoted.size() - 2); }
};

TEST_F(ResponsesTest, AnswersWithItems) {
  std::string body = respond(R"("input":"hi","instructions":"Be brief.","metadata":{"a":"b"})");
  EXPECT_THAT(at(body, "id"), StartsWith("\"resp_"));
  EXPECT_EQ(at(body, "object"), "\"response\"");
  EXPECT_EQ(at(body, "status"), "\"completed\"");
  EXPECT_EQ(at(body, "output.0.type"), "\"message\"");
  EXPECT_EQ(at(body, "output.0.content.0.type"), "\"output_text\"");
  EXPECT_EQ(at(body, "output.0.content.0.text"), "\"Hello there.\"");
  EXPECT_EQ(at(body, "usage.input_tokens"),
            std::to_string(std::string("system: Be brief.\nuser: hi\n").size()));
  EXPECT_EQ(at(body, "usage.output_tokens"), "12");
  EXPECT_EQ(at(body, "metadata.a"), "\"b\"");
  std::string cut = respond(R"("input":"hi","max_output_tokens":5)");
  EXPECT_EQ(at(cut, "status"), "\"incomplete\"");
  EXPECT_EQ(at(cut, "incomplete_details.reason"), "\"max_output_tokens\"");
}

TEST_F(ResponsesTest, StreamsItsEventsInOrder) {
  auto exchange = send("POST", "/v1/responses", R"({"input":"hi","stream":true})");
  ASSERT_TRUE(exchange->waitForEnd());
  const auto &events = exchange->events;
  for (size_t index = 0; index < events.size(); ++index) {
    EXPECT_EQ(at(events[index], "sequence_number"), std::to_string(index));
    EXPECT_EQ(at(events[index], "type"), "\"" + exchange->eventNames[index] + "\"");
  }
  auto names = exchange->eventNames;
  names.erase(std::unique(names.begin(), names.end()), names.end());
  EXPECT_THAT(names, ElementsAre("response.created", "response.in_progress", "response.output_item.added",
                                 "response.content_part.added", "response.output_text.delta",
                                 "response.output_text.done", "response.content_part.done",
                                 "response.output_item.done", "response.completed"));
  EXPECT_EQ(joined(events, "delta"), "Hello there.");
  EXPECT_EQ(at(events.back(), "response.output.0.content.0.text"), "\"Hello there.\"");
  std::string id = plain(at(events.back(), "response.id"));
  EXPECT_EQ(at(answer("GET", "/v1/responses/" + id).body, "status"), "\"completed\"");
}

TEST_F(ResponsesTest, StreamsCallsAndTakesTheirOutputs) {
  saying("<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": 1}}\n</tool_call>");
  std::string tools = R"("tools":[{"type":"function","name":"now","parameters":{"type":"object"}}])";
  auto exchange = send("POST", "/v1/responses", R"({"input":"hi","stream":true,)" + tools + "}");
  ASSERT_TRUE(exchange->waitForEnd());
  auto names = exchange->eventNames;
  names.erase(std::unique(names.begin(), names.end()), names.end());
  EXPECT_THAT(names,
              ElementsAre("response.created", "response.in_progress", "response.output_item.added",
                          "response.function_call_arguments.delta", "response.function_call_arguments.done",
                          "response.output_item.done", "response.completed"));
  const std::string &last = exchange->events.back();
  EXPECT_EQ(at(last, "response.output.0.type"), "\"function_call\"");
  EXPECT_EQ(at(last, "response.output.0.arguments"), R"("{\"a\": 1}")");
  std::string next = respond(R"("previous_response_id":)" + at(last, "response.id") +
                             R"(,"input":[{"type":"function_call_output","call_id":)" +
                             at(last, "response.output.0.call_id") + R"(,"output":"noon"}],)" + tools);
  EXPECT_EQ(at(next, "output.0.name"), "\"now\"");
}

TEST_F(ResponsesTest, GoesOnFromAStoredResponse) {
  std::string first = respond(R"("input":"hi")");
  std::string second = respond(R"("input":"and?","previous_response_id":)" + at(first, "id"));
  std::string conversation = "user: hi\nassistant: Hello there.\nuser: and?\n";
  EXPECT_EQ(at(second, "usage.input_tokens"), std::to_string(conversation.size()));
  EXPECT_EQ(at(second, "previous_response_id"), at(first, "id"));
  // An item of it by its id alone, as some clients replay them.
  std::string item = at(first, "output.0.id");
  std::string replayed =
      respond(R"("input":[{"role":"user","content":"hi"},{"type":"item_reference","id":)" + item +
              R"(},{"role":"user","content":[{"type":"input_text","text":"and?"}]}])");
  EXPECT_EQ(at(replayed, "usage.input_tokens"), std::to_string(conversation.size()));
  std::string listed = answer("GET", "/v1/responses/" + plain(at(second, "id")) + "/input_items").body;
  EXPECT_EQ(at(listed, "data.0.content"), "\"and?\"");
  EXPECT_EQ(at(listed, "data.1"), "absent");
}

TEST_F(ResponsesTest, ForgetsWhatIsDeletedAndKeepsWhatIsNotToBeStoredNowhere) {
  std::string first = respond(R"("input":"hi")");
  std::string path = "/v1/responses/" + plain(at(first, "id"));
  EXPECT_EQ(answer("GET", path).body, first);
  EXPECT_EQ(at(answer("DELETE", path).body, "deleted"), "true");
  EXPECT_EQ(answer("GET", path).status, 404);
  EXPECT_EQ(answer("DELETE", path).status, 404);
  std::string fleeting = respond(R"("input":"hi","store":false)");
  EXPECT_EQ(answer("GET", "/v1/responses/" + plain(at(fleeting, "id"))).status, 404);
  HttpResponse reference =
      answer("POST", "/v1/responses",
             R"({"input":[{"type":"item_reference","id":)" + at(fleeting, "output.0.id") + "}]}");
  EXPECT_EQ(reference.status, 404);
  EXPECT_EQ(at(reference.body, "error.param"), "\"input[0]\"");
}

TEST_F(ResponsesTest, BelongsToOneKey) {
  saying("Hello there.", "one\ntwo\n");
  std::string mine = respond(R"("input":"secret")", "one");
  std::string id = at(mine, "id"), path = "/v1/responses/" + plain(id);
  for (std::string method : {"GET", "DELETE"})
    EXPECT_EQ(answer(method, path, "", "two").status, 404);
  EXPECT_EQ(answer("GET", path + "/input_items", "", "two").status, 404);
  EXPECT_EQ(
      answer("POST", "/v1/responses", R"({"input":"x","previous_response_id":)" + id + "}", "two").status,
      404);
  EXPECT_EQ(answer("POST", "/v1/responses",
                   R"({"input":[{"type":"item_reference","id":)" + at(mine, "output.0.id") + "}]}", "two")
                .status,
            404);
  EXPECT_EQ(answer("GET", path, "").status, 401);
  EXPECT_EQ(answer("GET", path, "", "one").status, 200);
}

TEST_F(ResponsesTest, NamesTheFieldOfEveryRefusal) {
  const std::pair<std::string, std::string> kRefusals[] = {
      {R"({})", "input"},
      {R"({"input":7})", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":[7]})", "input[0]"},
      {R"({"input":[{"type":"robot"}]})", "input[0]"},
      {R"({"input":[{"role":"robot","content":"x"}]})", "input[0]"},
      {R"({"input":[{"role":"user","content":"x"},{"role":"user","content":[{"type":"input_image"}]}]})",
       "input[1]"},
      {R"({"input":[{"type":"function_call","call_id":"c"}]})", "input[0]"},
      {R"({"input":[{"type":"function_call_output","output":"x"}]})", "input[0]"},
      {R"({"input":"x","background":true})", "background"},
      {R"({"input":"x","truncation":"auto"})", "truncation"},
      {R"({"input":"x","conversation":"c"})", "conversation"},
      {R"({"input":"x","text":{"format":{"type":"yaml"}}})", "text"},
      {R"({"input":"x","previous_response_id":"resp_0"})", "previous_response_id"},
      {R"({"input":"x","prompt":{"id":"nobody"}})", "prompt"},
      {R"({"input":"x","prompt":{"id":"../secret"}})", "prompt"},
      {R"({"input":"x","prompt":{"id":"a","variables":{"b":"c"}}})", "prompt"},
      {R"({"input":"x","store":"no"})", "store"},
  };
  for (const auto &[body, field] : kRefusals) {
    HttpResponse response = answer("POST", "/v1/responses", body);
    EXPECT_TRUE(response.status == 400 || response.status == 404) << body << response.body;
    EXPECT_EQ(at(response.body, "error.param"), "\"" + field + "\"") << body;
  }
}

TEST(ResponseStore, ForgetsTheLongestUnusedBeyondItsBytes) {
  ResponseStore store;
  auto put = [&](std::string id) {
    StoredResponse response;
    response.id = id;
    response.text.assign(ResponseStore::kMaxBytes / 3, 'x');
    response.conversation.push_back(std::make_shared<ResponseItem>(ResponseItem{"item_" + id, "{}"}));
    store.put(std::move(response));
  };
  put("a");
  put("b");
  EXPECT_NE(store.find("a", 0), nullptr); // used: "b" goes first
  put("c");
  EXPECT_EQ(store.find("b", 0), nullptr);
  EXPECT_EQ(store.findItem("item_b", 0), nullptr);
  EXPECT_NE(store.findItem("item_a", 0), nullptr);
  EXPECT_EQ(store.find("a", 1), nullptr);
  size_t numShared = 0;
  EXPECT_EQ(store.remove("a", 1, numShared), nullptr);
  EXPECT_NE(store.remove("a", 0, numShared), nullptr);
  EXPECT_EQ(store.findItem("item_a", 0), nullptr);
}

} // namespace
} // namespace girih::server
