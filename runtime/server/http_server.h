// SPDX-License-Identifier: Apache-2.0
// HttpServer: HTTP/1.1 with strict limits and server-sent events; knows connections, nothing about models.
//
// Boost.Beast stays inside http_server.cpp: endpoints see only the plain types below, so that they compile quickly and
// are tested without a socket.
#pragma once

#include "runtime/base/expected.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace girih::server {

struct HttpRequest {
  std::string method;  // "POST"
  std::string path;    // "/v1/models", without the query
  std::string authorization;
  std::string apiKey;         // x-api-key, as Anthropic's clients send it
  std::string host;
  std::string origin;         // which page of a browser asks; empty: none
  std::string clientTimeout;  // x-stainless-timeout: how many seconds the official clients wait
  std::string contentType;
  std::string requestId;  // the client's x-request-id where it is harmless, else one of ours
  std::string body;
  // Of requests that nobody sent: the lines of a batch, on behalf of the client of that number.
  std::optional<uint32_t> batchClient;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpResponse {
  int status = 200;
  std::string contentType = "application/json";
  HttpHeaders headers;
  std::string body;
};

// One request and the way back to its client. An answer is either one respond(), or beginEvents(), any number of
// sendEvent() and endEvents().
// Thread safety: every method may be called from any thread; calls after the client has gone do nothing.
// Ownership: shared by the connection and whoever answers; `onClientGone` callbacks are dropped once the answer ended.
class Exchange {
public:
  virtual ~Exchange() = default;
  virtual const HttpRequest &request() const = 0;
  virtual void respond(HttpResponse response) = 0;
  virtual void beginEvents(HttpHeaders headers) = 0;
  // `name`: of the event, for formats whose events have one.
  virtual void sendEvent(std::string_view payload, std::string_view name = {}) = 0;
  virtual void endEvents() = 0;
  // True once the client closed its connection, or reads too slowly for the bounded buffer of its stream.
  virtual bool isClientGone() const = 0;
  // Something that must live as long as this does. Called before it is handed to who answers.
  void keep(std::shared_ptr<const void> thing) { kept = std::move(thing); }
  // Calls `callback` once when the client goes before the answer ended; at once when it has gone already.
  virtual void onClientGone(std::function<void()> callback) = 0;

private:
  std::shared_ptr<const void> kept;
};

struct HttpLimits {
  size_t maxHeaderBytes = 16 * 1024;
  size_t maxBodyBytes = 16 * 1024 * 1024;
  size_t maxUploadBytes = 16 * 1024 * 1024;  // the largest that HttpHandlers::bodyLimit allows
  size_t maxConnections = 4096;
  size_t maxPendingBytes = 4 * 1024 * 1024;  // unread bytes of one stream before its reader counts as gone
  std::chrono::milliseconds idleTimeout{75'000};   // between two requests of a kept connection
  std::chrono::milliseconds headerTimeout{10'000};
  std::chrono::milliseconds bodyIdleTimeout{30'000};
  std::chrono::milliseconds writeTimeout{30'000};
  std::chrono::milliseconds pingInterval{15'000};  // comment lines that keep proxies from closing a silent stream
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  // 0: any free port
  HttpLimits limits;
  std::chrono::milliseconds drainTimeout{30'000};
  bool drainOnSignals = false;  // SIGTERM and SIGINT drain; a second one stops at once
};

// All run on the server's thread and must not block it.
struct HttpHandlers {
  // Sees method, path and headers before the body is read; an answer here refuses the request unread.
  std::function<std::optional<HttpResponse>(const HttpRequest &)> screen;
  // Answers now, or keeps the exchange and answers later from any thread.
  std::function<void(std::shared_ptr<Exchange>)> handle;
  // Optional: how large the body of this request may be, where not HttpLimits::maxBodyBytes. Of bodies larger than that
  // one is read at a time.
  std::function<size_t(const HttpRequest &)> bodyLimit;
  // The body of an error that the server itself finds: too large, malformed, too many connections.
  std::function<HttpResponse(int status, std::string_view message)> refuse;
  // Optional: headers that the answer to this request carries besides its own.
  std::function<HttpHeaders(const HttpRequest &)> headersFor;
  // Optional: called once when draining begins.
  std::function<void()> drainBegins;
};

// Thread safety: drain() and stop() from any thread; run() from one. Exchanges must not be used after destruction.
class HttpServer {
public:
  // Binds and listens. Fails: InvalidArgument when `host` is not an address; Unavailable when the port is taken.
  static Expected<std::unique_ptr<HttpServer>> create(HttpServerOptions options, HttpHandlers handlers);
  ~HttpServer();

  uint16_t port() const;
  bool isDraining() const;
  // Serves on the calling thread until drained or stopped.
  void run();
  // Takes no more connections; run() returns when the last answer is sent, at the latest after the drain timeout.
  void drain();
  void stop();

private:
  class Listener;
  explicit HttpServer(std::unique_ptr<Listener> listener);
  std::unique_ptr<Listener> listener;
};

}  // namespace girih::server
