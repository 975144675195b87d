// SPDX-License-Identifier: Apache-2.0
// The endpoints over a FakeEngine, without a socket: answers, streams, refusals, and what a client that goes leaves behind.
#include "runtime/server/endpoints.h"
#include "runtime/base/json_reader.h"
#include "tests/runtime/server/fake_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::server {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Keeps what is said to it, and can go away.
class FakeExchange final : public Exchange {
public:
  explicit FakeExchange(HttpRequest request) : httpRequest(std::move(request)) {}
  const HttpRequest &request() const override { return httpRequest; }
  void respond(HttpResponse answer) override {
    std::lock_guard lock(mutex);
    response = std::move(answer);
    hasEnded = true;
    changed.notify_all();
  }
  void beginEvents(HttpHeaders headers) override {
    std::lock_guard lock(mutex);
    eventHeaders = std::move(headers);
  }
  void sendEvent(std::string_view payload) override {
    std::lock_guard lock(mutex);
    events.emplace_back(payload);
    changed.notify_all();
  }
  void endEvents() override {
    std::lock_guard lock(mutex);
    hasEnded = true;
    changed.notify_all();
  }
  bool isClientGone() const override { return false; }
  void onClientGone(std::function<void()> callback) override { goneCallback = std::move(callback); }

  bool waitForEnd() {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(10), [this] { return hasEnded; });
  }
  void waitForEvents(size_t numEvents) {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return events.size() >= numEvents; }));
  }

  HttpRequest httpRequest;
  HttpResponse response;
  HttpHeaders eventHeaders;
  std::vector<std::string> events;
  std::function<void()> goneCallback;

private:
  std::mutex mutex;
  std::condition_variable changed;
  bool hasEnded = false;
};

class EndpointsTest : public ::testing::Test {
protected:
  void SetUp() override { start({}, {}); }

  void start(FakeEngineOptions engineOptions, ServiceOptions serviceOptions) {
    service.reset();
    service = std::make_unique<Service>(fakeModel(engineOptions), serviceOptions);
    handlers = makeHandlers(*service);
  }
  // As HttpServer does it: screened first, then handled.
  std::shared_ptr<FakeExchange> send(std::string method, std::string path, std::string body = "", std::string key = "") {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.requestId = "req_1";
    if (!key.empty())
      request.authorization = "Bearer " + key;
    auto exchange = std::make_shared<FakeExchange>(request);
    if (auto refusal = handlers.screen(request))
      exchange->respond(std::move(*refusal));
    else
      handlers.handle(exchange);
    return exchange;
  }
  HttpResponse answer(std::string method, std::string path, std::string body = "", std::string key = "") {
    auto exchange = send(method, path, body, key);
    EXPECT_TRUE(exchange->waitForEnd());
    return exchange->response;
  }
  std::string chatBody(std::string fields) { return R"({"model":"fake","messages":[{"role":"user","content":"hi"}])" + (fields.empty() ? "" : "," + fields) + "}"; }

  std::unique_ptr<Service> service;
  HttpHandlers handlers;
};

// The value at a path such as "choices.0.message.content", as JSON text.
std::string at(const std::string &json, std::string path) {
  auto document = JsonDocument::parse(json);
  EXPECT_TRUE(document.isOk()) << json;
  if (!document.isOk())
    return "";
  std::optional<JsonValue> value = document->root();
  for (path += '.'; value && !path.empty(); path.erase(0, path.find('.') + 1)) {
    std::string key = path.substr(0, path.find('.'));
    if (!value->isArray()) {
      value = value->find(key);
      continue;
    }
    auto elements = value->elements();
    size_t index = std::stoul(key);
    value = index < elements.size() ? std::optional(elements[index]) : std::nullopt;
  }
  return value ? value->print() : "absent";
}

TEST_F(EndpointsTest, AnswersAChat) {
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(""));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(at(response.body, "object"), "\"chat.completion\"");
  EXPECT_EQ(at(response.body, "model"), "\"fake\"");
  EXPECT_EQ(at(response.body, "choices.0.message.role"), "\"assistant\"");
  EXPECT_EQ(at(response.body, "choices.0.message.content"), "\"Hello, world! The capital of France is Paris.\"");
  EXPECT_EQ(at(response.body, "choices.0.finish_reason"), "\"stop\"");
  EXPECT_EQ(at(response.body, "usage.prompt_tokens"), "9");  // "user: hi\n"
  EXPECT_EQ(at(response.body, "usage.completion_tokens"), "45");
  EXPECT_EQ(at(response.body, "usage.total_tokens"), "54");
}

TEST_F(EndpointsTest, StopsAtMaxTokens) {
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(R"("max_completion_tokens":5)"));
  EXPECT_EQ(at(response.body, "choices.0.message.content"), "\"Hello\"");
  EXPECT_EQ(at(response.body, "choices.0.finish_reason"), "\"length\"");
}

TEST_F(EndpointsTest, StopsAtStopStringsAndFreesTheSequence) {
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(R"("stop":["capital","!!"],"ignore_eos":true)"));
  EXPECT_EQ(at(response.body, "choices.0.message.content"), "\"Hello, world! The \"");
  EXPECT_EQ(at(response.body, "choices.0.finish_reason"), "\"stop\"");
  while (service->engine().stats().numKvBlocksUsed > 0)
    std::this_thread::yield();
}

TEST_F(EndpointsTest, StreamsAChat) {
  auto exchange = send("POST", "/v1/chat/completions", chatBody(R"("stream":true,"stream_options":{"include_usage":true},"num_ctx":1)"));
  ASSERT_TRUE(exchange->waitForEnd());
  EXPECT_THAT(exchange->eventHeaders, ElementsAre(std::pair<std::string, std::string>("x-girih-ignored", "num_ctx")));
  const auto &events = exchange->events;
  ASSERT_GE(events.size(), 5u);
  EXPECT_EQ(at(events[0], "choices.0.delta.role"), "\"assistant\"");
  std::string text;
  for (size_t index = 1; index + 3 < events.size(); ++index) {
    EXPECT_EQ(at(events[index], "object"), "\"chat.completion.chunk\"");
    EXPECT_EQ(at(events[index], "choices.0.delta.role"), "absent");
    EXPECT_EQ(at(events[index], "choices.0.finish_reason"), "null");
    EXPECT_EQ(at(events[index], "usage"), "null");
    std::string piece = at(events[index], "choices.0.delta.content");
    text += piece.substr(1, piece.size() - 2);
  }
  EXPECT_EQ(text, "Hello, world! The capital of France is Paris.");
  EXPECT_EQ(at(events[events.size() - 3], "choices.0.finish_reason"), "\"stop\"");
  EXPECT_EQ(at(events[events.size() - 2], "choices"), "[]");
  EXPECT_EQ(at(events[events.size() - 2], "usage.completion_tokens"), "45");
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(EndpointsTest, NeverStreamsAPartOfAStopString) {
  auto exchange = send("POST", "/v1/chat/completions", chatBody(R"("stream":true,"stop":"world")"));
  ASSERT_TRUE(exchange->waitForEnd());
  std::string all;
  for (const std::string &event : exchange->events)
    if (event.find("\"content\":\"") != std::string::npos)
      all += at(event, "choices.0.delta.content");
  EXPECT_THAT(all, AnyOf(HasSubstr("\" \""), HasSubstr(" \"")));
  EXPECT_EQ(all.find('w'), std::string::npos);
}

TEST_F(EndpointsTest, StreamsWholeCharactersOnly) {
  FakeEngineOptions options;
  options.says = "caf\u00e9 \U0001F600!";
  start(options, {});
  auto exchange = send("POST", "/v1/completions", R"({"prompt":"x","stream":true,"max_tokens":100})");
  ASSERT_TRUE(exchange->waitForEnd());
  std::string text;
  for (const std::string &event : exchange->events)
    if (event != "[DONE]") {
      std::string piece = at(event, "choices.0.text");
      EXPECT_EQ(piece.find("\uFFFD"), std::string::npos);
      text += piece.substr(1, piece.size() - 2);
    }
  EXPECT_EQ(text, options.says);
}

TEST_F(EndpointsTest, CompletesTextAndTokenIdsWithLogprobs) {
  HttpResponse text = answer("POST", "/v1/completions", R"({"prompt":"abc","max_tokens":5,"logprobs":1})");
  EXPECT_EQ(at(text.body, "object"), "\"text_completion\"");
  EXPECT_EQ(at(text.body, "choices.0.text"), "\"Hello\"");
  EXPECT_EQ(at(text.body, "usage.prompt_tokens"), "3");
  EXPECT_EQ(at(text.body, "choices.0.logprobs.tokens.1"), "\"e\"");
  EXPECT_EQ(at(text.body, "choices.0.logprobs.token_logprobs.4"), "-0.5");
  EXPECT_EQ(at(text.body, "choices.0.logprobs.top_logprobs.0.H"), "-0.5");
  EXPECT_EQ(at(text.body, "choices.0.logprobs.text_offset.4"), "4");
  HttpResponse tokens = answer("POST", "/v1/completions", R"({"prompt":[1,2],"max_tokens":1})");
  EXPECT_EQ(at(tokens.body, "usage.prompt_tokens"), "2");
}

TEST_F(EndpointsTest, GivesChatLogprobs) {
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(R"("max_tokens":2,"logprobs":true,"top_logprobs":2)"));
  EXPECT_EQ(at(response.body, "choices.0.logprobs.content.1.token"), "\"e\"");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.content.1.bytes"), "[101]");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.content.0.top_logprobs.1.token"), "\"H\"");
}

TEST_F(EndpointsTest, SameSeedSameText) {
  std::string first = at(answer("POST", "/v1/chat/completions", chatBody(R"("temperature":1,"seed":5)")).body, "choices.0.message.content");
  std::string again = at(answer("POST", "/v1/chat/completions", chatBody(R"("temperature":1,"seed":5)")).body, "choices.0.message.content");
  std::string other = at(answer("POST", "/v1/chat/completions", chatBody(R"("temperature":1,"seed":6)")).body, "choices.0.message.content");
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
}

TEST_F(EndpointsTest, RefusesUnknownModelsLongPromptsAndForeignIds) {
  HttpResponse model = answer("POST", "/v1/chat/completions", R"({"model":"gpt-9","messages":[{"role":"user","content":"x"}]})");
  EXPECT_EQ(model.status, 404);
  EXPECT_EQ(at(model.body, "error.code"), "\"model_not_found\"");
  EXPECT_THAT(model.body, HasSubstr("`fake`, `also-fake`"));
  HttpResponse longPrompt = answer("POST", "/v1/completions", R"({"prompt":")" + std::string(600, 'a') + "\"}");
  EXPECT_EQ(longPrompt.status, 400);
  EXPECT_EQ(at(longPrompt.body, "error.code"), "\"context_length_exceeded\"");
  EXPECT_EQ(at(longPrompt.body, "error.param"), "\"prompt\"");
  EXPECT_THAT(longPrompt.body, AllOf(HasSubstr("512"), HasSubstr("600")));
  HttpResponse foreignId = answer("POST", "/v1/completions", R"({"prompt":[999999]})");
  EXPECT_EQ(foreignId.status, 400);
  EXPECT_EQ(at(foreignId.body, "error.param"), "\"prompt\"");
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"prompt":""})").status, 400);
}

TEST_F(EndpointsTest, AsksForTheKeyEverywhereButForHealth) {
  ServiceOptions options;
  options.apiKey = "sesame";
  start({}, options);
  for (std::string path : {"/v1/models", "/metrics", "/v1/chat/completions", "/nothing"})
    for (std::string key : {"", "wrong!", "sesam", "sesame1"}) {
      HttpResponse response = answer("GET", path, "", key);
      EXPECT_EQ(response.status, 401) << path << " " << key;
      EXPECT_EQ(at(response.body, "error.code"), "\"invalid_api_key\"");
    }
  EXPECT_EQ(answer("GET", "/v1/models", "", "sesame").status, 200);
  EXPECT_EQ(answer("GET", "/health").status, 200);
}

TEST_F(EndpointsTest, ListsItsModels) {
  HttpResponse list = answer("GET", "/v1/models");
  EXPECT_EQ(at(list.body, "data.0.id"), "\"fake\"");
  EXPECT_EQ(at(list.body, "data.0.max_model_len"), "512");
  EXPECT_EQ(at(answer("GET", "/v1/models/also-fake").body, "id"), "\"also-fake\"");
  EXPECT_EQ(answer("GET", "/v1/models/other").status, 404);
}

TEST_F(EndpointsTest, RefusesUnknownRoutesAndMethods) {
  EXPECT_EQ(answer("GET", "/v1/nothing").status, 404);
  EXPECT_EQ(answer("GET", "/v1/chat/completions").status, 405);
  EXPECT_EQ(answer("DELETE", "/v1/models").status, 405);
  EXPECT_EQ(answer("HEAD", "/v1/models").status, 200);
}

TEST_F(EndpointsTest, SaysWhenItDrains) {
  handlers.drainBegins();
  EXPECT_EQ(answer("GET", "/health").status, 503);
}

TEST_F(EndpointsTest, AnswersFullQueuesWith429) {
  FakeEngineOptions engineOptions;
  engineOptions.stepTime = std::chrono::milliseconds(5);
  ServiceOptions options;
  options.maxActiveRequests = 2;
  start(engineOptions, options);
  auto first = send("POST", "/v1/chat/completions", chatBody(R"("ignore_eos":true)"));
  auto second = send("POST", "/v1/chat/completions", chatBody(R"("ignore_eos":true)"));
  HttpResponse third = answer("POST", "/v1/chat/completions", chatBody(""));
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(at(third.body, "error.code"), "\"queue_full\"");
  EXPECT_THAT(third.headers, ElementsAre(std::pair<std::string, std::string>("retry-after", "1")));
}

TEST_F(EndpointsTest, TellsOfFailuresBeforeAndWithinAStream) {
  FakeEngineOptions options;
  options.fails = true;
  start(options, {});
  HttpResponse plain = answer("POST", "/v1/chat/completions", chatBody(""));
  EXPECT_EQ(plain.status, 500);
  EXPECT_EQ(at(plain.body, "error.type"), "\"server_error\"");
  auto stream = send("POST", "/v1/chat/completions", chatBody(R"("stream":true)"));
  ASSERT_TRUE(stream->waitForEnd());
  EXPECT_EQ(at(stream->events.back(), "error.type"), "\"server_error\"");
}

TEST_F(EndpointsTest, FreesTheSequenceOfAClientThatGoes) {
  for (std::string fields : {R"("ignore_eos":true)", R"("ignore_eos":true,"stream":true)"}) {
    auto exchange = send("POST", "/v1/chat/completions", chatBody(fields));
    exchange->goneCallback();
    exchange.reset();
  }
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (service->engine().stats().numKvBlocksUsed > 0 || service->numActive > 0)
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  std::string metrics = answer("GET", "/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("girih_clients_gone_total 2\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_kv_blocks_used 0\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_generations_total{reason=\"cancelled\"} 2\n"));
}

TEST_F(EndpointsTest, PreparesLargeBodiesOffTheSocketsThread) {
  ServiceOptions options;
  options.largeBodyBytes = 10;
  start({}, options);
  EXPECT_EQ(answer("POST", "/v1/chat/completions", chatBody("")).status, 200);
}

TEST_F(EndpointsTest, ShutsDownWithGenerationsInHand) {
  FakeEngineOptions options;
  options.stepTime = std::chrono::milliseconds(5);
  start(options, {});
  auto plain = send("POST", "/v1/chat/completions", chatBody(R"("ignore_eos":true)"));
  auto stream = send("POST", "/v1/chat/completions", chatBody(R"("ignore_eos":true,"stream":true)"));
  stream->waitForEvents(2);
  service->shutDown();
  EXPECT_TRUE(plain->waitForEnd() && stream->waitForEnd());
  EXPECT_EQ(plain->response.status, 503);
  EXPECT_THAT(stream->events.back(), HasSubstr("shutting down"));
}

}  // namespace
}  // namespace girih::server
