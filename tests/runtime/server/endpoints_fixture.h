// SPDX-License-Identifier: Apache-2.0
// EndpointsTest: the whole server over a FakeEngine, without a socket.
#pragma once

#include "runtime/base/json_reader.h"
#include "runtime/server/endpoints.h"
#include "tests/runtime/server/fake_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::server {

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
  void sendEvent(std::string_view payload, std::string_view name) override {
    std::lock_guard lock(mutex);
    events.emplace_back(payload);
    eventNames.emplace_back(name);
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
  std::vector<std::string> events, eventNames;
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
  std::shared_ptr<FakeExchange> send(std::string method, std::string path, std::string body = "",
                                     std::string key = "") {
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
  std::string chatBody(std::string fields) {
    return R"({"model":"fake","messages":[{"role":"user","content":"hi"}])" +
           (fields.empty() ? "" : "," + fields) + "}";
  }

  std::unique_ptr<Service> service;
  HttpHandlers handlers;
};

// The value at a path such as "choices.0.message.content", as JSON text.
inline std::string at(const std::string &json, std::string path) {
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

// The texts at a path in every event, joined; events without it say nothing.
inline std::string joined(const std::vector<std::string> &events, const std::string &path) {
  std::string all;
  for (const std::string &event : events)
    if (event != "[DONE]")
      if (std::string piece = at(event, path); piece.size() >= 2 && piece.front() == '"')
        all += piece.substr(1, piece.size() - 2);
  return all;
}

} // namespace girih::server
