// SPDX-License-Identifier: Apache-2.0
// The endpoints over a FakeEngine, without a socket: answers, streams, refusals, and what a client that goes leaves behind.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  options.keys = ApiKeys::ofOne("sesame");
  start({}, options);
  for (std::string path : {"/v1/models", "/metrics", "/v1/chat/completions", "/nothing"})
    for (std::string key : {"", "wrong!", "sesam", "sesame1"}) {
      HttpResponse response = answer("GET", path, "", key);
      EXPECT_EQ(response.status, 401) << path << " " << key;
      EXPECT_EQ(at(response.body, "error.code"), "\"invalid_api_key\"");
    }
  EXPECT_EQ(answer("GET", "/v1/models", "", "sesame").status, 200);
  for (std::string path : {"/health", "/live", "/ready"})
    EXPECT_EQ(answer("GET", path).status, 200);
}

TEST_F(EndpointsTest, GivesSeveralAnswersToSeveralPrompts) {
  HttpResponse response = answer("POST", "/v1/completions", R"({"prompt":["abc","de"],"n":2,"max_tokens":5,"temperature":1,"seed":0})");
  EXPECT_EQ(response.status, 200);
  for (int index = 0; index < 4; ++index)
    EXPECT_EQ(at(response.body, "choices." + std::to_string(index) + ".index"), std::to_string(index));
  // The fake engine shifts what it says by the seed: the second answer has another one than the first.
  EXPECT_EQ(at(response.body, "choices.0.text"), "\"Hello\"");
  EXPECT_EQ(at(response.body, "choices.1.text"), "\"ello,\"");
  EXPECT_EQ(at(response.body, "choices.2.text"), "\"Hello\"");
  EXPECT_EQ(at(response.body, "usage.prompt_tokens"), "5");
  EXPECT_EQ(at(response.body, "usage.completion_tokens"), "20");
}

TEST_F(EndpointsTest, StreamsSeveralAnswersAtOnce) {
  auto exchange = send("POST", "/v1/chat/completions", chatBody(R"("stream":true,"n":3,"max_tokens":4,"stream_options":{"include_usage":true})"));
  ASSERT_TRUE(exchange->waitForEnd());
  std::map<std::string, std::string> texts, reasons;
  for (const std::string &event : exchange->events) {
    if (event == "[DONE]" || at(event, "choices") == "[]")
      continue;
    std::string index = at(event, "choices.0.index"), piece = at(event, "choices.0.delta.content");
    if (piece != "absent")
      texts[index] += piece.substr(1, piece.size() - 2);
    if (at(event, "choices.0.finish_reason") != "null")
      reasons[index] += at(event, "choices.0.finish_reason");
  }
  EXPECT_EQ(texts.size(), 3u);
  for (const auto &[index, text] : texts) {
    EXPECT_EQ(text, "Hell");
    EXPECT_EQ(reasons[index], "\"length\"");
  }
  EXPECT_EQ(at(exchange->events[exchange->events.size() - 2], "usage.completion_tokens"), "12");
}

TEST_F(EndpointsTest, EchoesPromptsWithTheirLogprobs) {
  // As lm-eval asks for the likelihood of a text.
  HttpResponse response = answer("POST", "/v1/completions", R"({"prompt":[72,105,33],"max_tokens":1,"echo":true,"logprobs":1})");
  EXPECT_EQ(at(response.body, "choices.0.text"), "\"Hi!H\"");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.tokens"), R"(["H","i","!","H"])");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.token_logprobs"), "[null,-1.5,-1.5,-0.5]");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.top_logprobs"), R"([null,{"A":-0.25},{"A":-0.25},{"H":-0.5}])");
  EXPECT_EQ(at(response.body, "choices.0.logprobs.text_offset"), "[0,1,2,3]");
  // One token more than the prompt also where it ends the answer: lm-eval leaves the last one out.
  std::string body = R"({"prompt":[72,105,33],"max_tokens":1000,"echo":true,"logprobs":1)";
  HttpResponse ended = answer("POST", "/v1/completions", body + "}");
  EXPECT_EQ(at(ended.body, "choices.0.text"), "\"Hi!" + FakeEngineOptions().says + "\"");
  std::string last = std::to_string(3 + FakeEngineOptions().says.size());
  EXPECT_EQ(at(ended.body, "choices.0.logprobs.token_logprobs." + last), "-0.5");
  EXPECT_EQ(at(ended.body, "choices.0.logprobs.text_offset." + last), last);
  EXPECT_EQ(at(ended.body, "usage.completion_tokens"), std::to_string(FakeEngineOptions().says.size()));
  auto streamed = send("POST", "/v1/completions", body + R"(,"stream":true})");
  ASSERT_TRUE(streamed->waitForEnd());
  EXPECT_THAT(streamed->events, ::testing::Contains(HasSubstr("\"text_offset\":[" + last + "]")));
  HttpResponse only = answer("POST", "/v1/completions", R"({"prompt":"Hi!","max_tokens":0,"echo":true})");
  EXPECT_EQ(at(only.body, "choices.0.text"), "\"Hi!\"");
  EXPECT_EQ(at(only.body, "usage.completion_tokens"), "0");
  auto stream = send("POST", "/v1/completions", R"({"prompt":"Hi!","max_tokens":2,"echo":true,"stream":true})");
  ASSERT_TRUE(stream->waitForEnd());
  EXPECT_EQ(at(stream->events.front(), "choices.0.text"), "\"Hi!\"");
}

TEST_F(EndpointsTest, ReportsCachedTokensAlsoWhereAStopStringCuts) {
  FakeEngineOptions options;
  options.cachedTokens = 2;
  start(options, {});
  for (std::string fields : {R"("stop":"world")", R"("max_tokens":3)"})
    EXPECT_EQ(at(answer("POST", "/v1/chat/completions", chatBody(fields)).body, "usage.prompt_tokens_details.cached_tokens"), "2") << fields;
}

TEST_F(EndpointsTest, KeysHaveNamesPrioritiesAndSalts) {
  auto keys = ApiKeys::parse("# keys\none name=a priority=5 weight=3\n\ntwo name=b\nthree name=a\r\nfour\n", false);
  ASSERT_TRUE(keys.isOk()) << keys.status().message();
  EXPECT_EQ(keys->find("one")->priority, 5);
  EXPECT_EQ(keys->find("one")->weight, 3u);
  EXPECT_EQ(keys->find("three"), keys->find("one")) << "a client may have several keys";
  EXPECT_NE(keys->find("two")->salt, keys->find("one")->salt);
  EXPECT_NE(keys->find("two")->number, keys->find("one")->number);
  EXPECT_EQ(keys->find("four")->name, "client-3");
  EXPECT_EQ(keys->find("five"), nullptr);
  EXPECT_EQ(keys->find(""), nullptr);
  auto shared = ApiKeys::parse("one\ntwo", true);
  EXPECT_EQ(shared->find("one")->salt, shared->find("two")->salt);
  for (auto [text, wrong] : {std::pair("", "no key"), {"# only this", "no key"}, {"k\nk", "line 2"}, {"k priority=high", "line 1"},
                             {"k weight=0", "from 1"}, {"k name=", "letters"}, {"k colour=red", "colour"}}) {
    auto refused = ApiKeys::parse(text, false);
    ASSERT_FALSE(refused.isOk()) << text;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(wrong)) << text;
  }
}

TEST_F(EndpointsTest, TakesAnthropicsKeyHeaderToo) {
  ServiceOptions options;
  options.keys = ApiKeys::ofOne("sesame");
  start({}, options);
  HttpRequest request;
  request.method = "GET";
  request.path = "/v1/models";
  request.apiKey = "sesame";
  EXPECT_FALSE(handlers.screen(request).has_value());
  request.apiKey = "wrong";
  EXPECT_EQ(handlers.screen(request)->status, 401);
}

TEST_F(EndpointsTest, RefusesForeignHostsOriginsAndForms) {
  HttpRequest request;
  request.method = "POST";
  request.path = "/v1/completions";
  auto statusOf = [&] {
    auto refusal = handlers.screen(request);
    return refusal ? refusal->status : 200;
  };
  for (std::string host : {"", "localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080", "192.168.1.7"}) {
    request.host = host;
    EXPECT_EQ(statusOf(), 200) << host;
  }
  for (std::string host : {"evil.example", "evil.example:8080", "localhost.evil.example", "a.b"}) {
    request.host = host;
    EXPECT_EQ(statusOf(), 421) << host;
  }
  request.host = "localhost:8080";
  request.origin = "http://localhost:8080";
  EXPECT_EQ(statusOf(), 200) << "our own page";
  for (std::string origin : {"https://evil.example", "null", "http://localhost:9"}) {
    request.origin = origin;
    EXPECT_EQ(statusOf(), 403) << origin;
  }
  request.origin.clear();
  request.contentType = "text/plain";
  EXPECT_EQ(statusOf(), 415);
  request.contentType = "application/json; charset=utf-8";
  EXPECT_EQ(statusOf(), 200);

  ServiceOptions options;
  options.allowedHosts = {"api.example"};
  options.allowedOrigins = {"https://app.example"};
  start({}, options);
  request.host = "api.example:443";
  request.origin = "https://app.example";
  EXPECT_EQ(statusOf(), 200);
  EXPECT_EQ(handlers.headersFor(request).front().second, "https://app.example");
  request.method = "OPTIONS";
  auto preflight = handlers.screen(request);
  ASSERT_TRUE(preflight.has_value());
  EXPECT_EQ(preflight->status, 204);
  request.origin = "https://evil.example";
  EXPECT_EQ(handlers.screen(request)->status, 403);
  EXPECT_TRUE(handlers.headersFor(request).empty());
}

TEST_F(EndpointsTest, ShedsByTheBodysSizeBeforeReadingIt) {
  FakeEngineOptions engineOptions;
  engineOptions.stepTime = std::chrono::milliseconds(50);
  engineOptions.maxRunning = 1;
  ServiceOptions options;
  options.maxQueuedTokens = 300;
  start(engineOptions, options);
  auto running = send("POST", "/v1/completions", R"({"prompt":")" + std::string(200, 'a') + R"(","ignore_eos":true})");
  auto waiting = send("POST", "/v1/completions", R"({"prompt":")" + std::string(200, 'a') + R"(","ignore_eos":true})");
  while (service->engine().load().numQueuedTokens == 0)
    std::this_thread::yield();
  // It is not even JSON: nobody has looked.
  HttpResponse refused = answer("POST", "/v1/completions", std::string(1200, '{'));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(at(refused.body, "error.code"), "\"queue_full\"");
  ASSERT_FALSE(refused.headers.empty());
  EXPECT_EQ(refused.headers.front().first, "retry-after");
  EXPECT_GE(std::stoi(refused.headers.front().second), 2) << "200 tokens at 100 a second";
  EXPECT_THAT(answer("GET", "/metrics").body, HasSubstr("girih_rejections_total{by=\"estimate\"} 1\n"));
  EXPECT_EQ(answer("GET", "/v1/models").status, 200) << "only generations are shed";
}

TEST_F(EndpointsTest, EndsWhatTakesTooLong) {
  FakeEngineOptions engineOptions;
  engineOptions.stepTime = std::chrono::milliseconds(2);
  ServiceOptions options;
  options.requestTimeout = std::chrono::milliseconds(50);
  start(engineOptions, options);
  HttpResponse response = answer("POST", "/v1/chat/completions", chatBody(R"("ignore_eos":true)"));
  EXPECT_EQ(response.status, 408);
  EXPECT_EQ(at(response.body, "error.code"), "\"request_timeout\"");
  HttpRequest request;
  EXPECT_EQ(service->timeFor(request).count(), 50);
  request.clientTimeout = "600";
  EXPECT_EQ(service->timeFor(request).count(), 50) << "the shorter one counts";
}

TEST_F(EndpointsTest, LogsNumbersAndNeverWords) {
  HttpRequest request;
  request.path = "/v1/completions";
  request.requestId = "req_1";
  request.body = "secret";
  GenerationRecord record;
  record.client = "staff";
  record.finishReason = "stop";
  record.numPromptTokens = 7;
  record.totalSeconds = 0.0125;
  EXPECT_EQ(logLine(request, record, 1.5),
            R"({"time":1.5,"request_id":"req_1","path":"/v1/completions","client":"staff","status":200,"finish":"stop","stream":false,)"
            R"("choices":0,"prompt_tokens":7,"cached_tokens":0,"output_tokens":0,"queue_ms":0,"prefill_ms":0,"total_ms":12.5})");
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
  EXPECT_EQ(answer("GET", "/ready").status, 503);
  EXPECT_EQ(answer("GET", "/live").status, 200);
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
