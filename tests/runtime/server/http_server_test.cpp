// SPDX-License-Identifier: Apache-2.0
// HttpServer over loopback: limits, keep-alive, event streams, clients that go away or read nothing, draining.
#include "runtime/server/http_server.h"
#include "tests/runtime/server/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

namespace girih::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Echoes bodies at /echo; hands exchanges of /hold to the test.
class HttpServerTest : public ::testing::Test {
protected:
  void SetUp() override { start({}); }
  void TearDown() override { finish(); }

  void start(HttpServerOptions options) {
    finish();
    options.port = 0;
    HttpHandlers handlers;
    handlers.screen = [](const HttpRequest &request) -> std::optional<HttpResponse> {
      if (request.path != "/refused")
        return std::nullopt;
      return HttpResponse{401, "text/plain", {}, "no"};
    };
    handlers.handle = [this](std::shared_ptr<Exchange> exchange) {
      if (exchange->request().path == "/hold")
        return heldExchange.set_value(exchange);
      exchange->respond({200, "text/plain", {{"x-size", std::to_string(exchange->request().body.size())}}, exchange->request().body});
    };
    handlers.refuse = [](int status, std::string_view message) { return HttpResponse{status, "text/plain", {}, std::string(message)}; };
    handlers.drainBegins = [this] { ++numDrains; };
    auto created = HttpServer::create(options, handlers);
    ASSERT_TRUE(created.isOk()) << created.status().message();
    server = std::move(created).value();
    port = server->port();
    thread = std::thread([this] { server->run(); });
  }
  void finish() {
    if (server)
      server->stop();
    if (thread.joinable())
      thread.join();
    server.reset();
    heldExchange = {};
  }
  // The exchange of a GET /hold that `client` sends.
  std::shared_ptr<Exchange> hold(HttpClient &client) {
    EXPECT_TRUE(client.send("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n"));
    auto future = heldExchange.get_future();
    EXPECT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    return future.get();
  }

  std::unique_ptr<HttpServer> server;
  std::thread thread;
  std::promise<std::shared_ptr<Exchange>> heldExchange;
  uint16_t port = 0;
  std::atomic<int> numDrains = 0;
};

std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nhost: x\r\n" + std::string(headers) + "content-length: " +
         std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

TEST_F(HttpServerTest, KeepsTheConnectionBetweenRequests) {
  HttpClient client(port);
  for (std::string body : {"first", "", "third"}) {
    client.send(post("/echo?query=1", body));
    std::string answer = client.readAnswer();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("connection: keep-alive"));
    EXPECT_EQ(answer.substr(answer.size() - body.size()), body);
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  HttpClient client(port);
  client.send(post("/echo", "one") + post("/echo", "two"));
  EXPECT_THAT(client.readAnswer(), HasSubstr("\r\n\r\none"));
  EXPECT_THAT(client.readAnswer(), HasSubstr("\r\n\r\ntwo"));
}

TEST_F(HttpServerTest, ReadsChunkedBodiesAndExpectContinue) {
  HttpClient client(port);
  client.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  EXPECT_THAT(client.readAnswer(), HasSubstr("\r\n\r\nabc"));
  client.send("POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
  EXPECT_THAT(client.readUntil("\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue"));
  client.send("hi");
  EXPECT_THAT(client.readAnswer(), HasSubstr("\r\n\r\nhi"));
}

TEST_F(HttpServerTest, RefusesAHundredMegabytesAndTheClientReadsWhy) {
  HttpClient client(port);
  // The whole body is sent, as a client does that does not wait: the answer must survive it.
  client.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n");
  std::string megabyte(1 << 20, 'x');
  for (int megabyteIndex = 0; megabyteIndex < 100; ++megabyteIndex)
    ASSERT_TRUE(client.send(megabyte));
  std::string answer = client.readAll();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(answer, HasSubstr("16777216 bytes"));
}

TEST_F(HttpServerTest, RefusesChunkedBodiesBeyondTheLimit) {
  HttpServerOptions options;
  options.limits.maxBodyBytes = 100;
  start(options);
  HttpClient client(port);
  client.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n80\r\n" + std::string(128, 'x') + "\r\n0\r\n\r\n");
  EXPECT_THAT(client.readAnswer(), StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, RefusesLongHeadersAndWhatIsNotHttp) {
  HttpClient longHeaders(port);
  longHeaders.send("GET /echo HTTP/1.1\r\nhost: x\r\nlong: " + std::string(20'000, 'x') + "\r\n\r\n");
  EXPECT_THAT(longHeaders.readAnswer(), StartsWith("HTTP/1.1 431 "));
  for (std::string nonsense : {"\x16\x03\x01 hello TLS\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                               "POST / HTTP/1.1\r\ncontent-length: 9223372036854775808999\r\n\r\n"}) {
    HttpClient client(port);
    client.send(nonsense);
    EXPECT_THAT(client.readAnswer(), StartsWith("HTTP/1.1 4")) << nonsense;
  }
}

TEST_F(HttpServerTest, ScreensBeforeTheBodyIsRead) {
  HttpClient client(port);
  client.send("POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
  EXPECT_THAT(client.readAnswer(), StartsWith("HTTP/1.1 401 "));
}

TEST_F(HttpServerTest, ClosesConnectionsThatSendNothing) {
  HttpServerOptions options;
  options.limits.headerTimeout = std::chrono::milliseconds(50);
  options.limits.idleTimeout = std::chrono::milliseconds(50);
  start(options);
  HttpClient silent(port), halfWay(port);
  halfWay.send("GET /echo HT");
  EXPECT_EQ(silent.readAll(), "");
  EXPECT_EQ(halfWay.readAll(), "");
}

TEST_F(HttpServerTest, StreamsEventsAndKeepsTheConnection) {
  HttpClient client(port);
  auto exchange = hold(client);
  exchange->beginEvents({{"x-extra", "1"}});
  exchange->sendEvent("{\"a\":1}");
  std::string head = client.readUntil("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("content-type: text/event-stream"));
  EXPECT_THAT(head, HasSubstr("x-extra: 1"));
  EXPECT_THAT(client.readUntil("\n\n"), HasSubstr("data: {\"a\":1}"));
  exchange->sendEvent("[DONE]");
  exchange->endEvents();
  EXPECT_THAT(client.readUntil("0\r\n\r\n"), HasSubstr("data: [DONE]\n\n"));
  client.send(post("/echo", "again"));
  EXPECT_THAT(client.readAnswer(), HasSubstr("again"));
}

TEST_F(HttpServerTest, PingsAStreamThatIsSilent) {
  HttpServerOptions options;
  options.limits.pingInterval = std::chrono::milliseconds(20);
  start(options);
  HttpClient client(port);
  auto exchange = hold(client);
  exchange->beginEvents({});
  EXPECT_THAT(client.readUntil(": ping\n\n"), HasSubstr(": ping"));
  exchange->endEvents();
}

TEST_F(HttpServerTest, TellsWhenTheClientGoes) {
  for (bool isStreaming : {false, true}) {
    heldExchange = {};
    HttpClient client(port);
    auto exchange = hold(client);
    std::promise<void> gone;
    exchange->onClientGone([&] { gone.set_value(); });
    if (isStreaming)
      exchange->beginEvents({});
    client.closeNow();
    EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    EXPECT_TRUE(exchange->isClientGone());
    exchange->sendEvent("to nobody");
    exchange->respond({});
    // Late callbacks are called at once.
    bool calledAtOnce = false;
    exchange->onClientGone([&] { calledAtOnce = true; });
    EXPECT_TRUE(calledAtOnce);
  }
}

TEST_F(HttpServerTest, TellsWhenTheClientGoesAfterPipelining) {
  HttpClient client(port);
  auto exchange = hold(client);
  client.send("GET /echo HTTP/1.1\r\n\r\n");
  std::promise<void> gone;
  exchange->onClientGone([&] { gone.set_value(); });
  client.closeNow();
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(HttpServerTest, DropsAStreamWhoseReaderIsTooSlow) {
  HttpServerOptions options;
  options.limits.maxPendingBytes = 256 * 1024;
  start(options);
  HttpClient client(port);
  auto exchange = hold(client);
  bool gone = false;
  exchange->onClientGone([&] { gone = true; });
  exchange->beginEvents({});
  std::string event(64 * 1024, 'x');
  // The client reads nothing: the socket's buffers fill (some MB), then ours.
  for (int eventIndex = 0; eventIndex < 4096 && !exchange->isClientGone(); ++eventIndex) {
    exchange->sendEvent(event);
    std::this_thread::yield();
  }
  EXPECT_TRUE(exchange->isClientGone());
  EXPECT_TRUE(gone);
}

TEST_F(HttpServerTest, RefusesATakenPort) {
  HttpServerOptions options;
  options.port = port;
  auto second = HttpServer::create(options, {});
  ASSERT_FALSE(second.isOk());
  EXPECT_EQ(second.status().code(), StatusCode::Unavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("port " + std::to_string(port) + " of 127.0.0.1 is taken"));
}

TEST(HttpServer, RefusesAHostThatIsNoAddress) {
  HttpServerOptions options;
  options.host = "no.such.host";
  auto server = HttpServer::create(options, {});
  ASSERT_FALSE(server.isOk());
  EXPECT_EQ(server.status().code(), StatusCode::InvalidArgument);
}

TEST_F(HttpServerTest, DrainFinishesAnswersAndClosesTheRest) {
  HttpClient idle(port), busy(port);
  idle.send(post("/echo", "x"));
  idle.readAnswer();
  auto exchange = hold(busy);
  server->drain();
  EXPECT_EQ(idle.readAll(), "");  // closed at once
  EXPECT_TRUE(server->isDraining());
  exchange->respond({200, "text/plain", {}, "late"});
  EXPECT_THAT(busy.readAll(), HasSubstr("late"));
  thread.join();  // run() returned by itself
  EXPECT_EQ(numDrains, 1);
  EXPECT_FALSE(HttpClient(port).connected());
}

TEST_F(HttpServerTest, DrainGivesUpAfterItsTimeout) {
  HttpServerOptions options;
  options.drainTimeout = std::chrono::milliseconds(50);
  start(options);
  HttpClient busy(port);
  auto exchange = hold(busy);
  server->drain();
  thread.join();
}

}  // namespace
}  // namespace girih::server
