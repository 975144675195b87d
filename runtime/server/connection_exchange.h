// SPDX-License-Identifier: Apache-2.0
// ConnectionExchange: the Exchange of a real connection: bytes queued by any thread, written by the server's thread.
#pragma once

#include "runtime/server/http_server.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <mutex>

namespace girih::server {

// The writer (a coroutine on the server's thread) waits on `waiter`; whoever queues bytes posts a wake-up to it.
class ConnectionExchange final : public Exchange, public std::enable_shared_from_this<ConnectionExchange> {
public:
  struct Form {
    bool keepAlive = false;  // requires `chunked`: the end of an HTTP/1.0 stream is the end of its connection
    bool chunked = true;     // HTTP/1.1
    bool headOnly = false;
    HttpHeaders headers;       // that every answer to the request carries
  };

  ConnectionExchange(boost::asio::any_io_executor executor, HttpRequest request, Form form, size_t maxPendingBytes);

  const HttpRequest &request() const override { return httpRequest; }
  void respond(HttpResponse response) override;
  void beginEvents(HttpHeaders headers) override;
  void sendEvent(std::string_view payload, std::string_view name) override;
  void endEvents() override;
  bool isClientGone() const override;
  void onClientGone(std::function<void()> callback) override;

  // The rest is for the connection, on the server's thread.
  std::string takePending();
  bool isFinished() const;   // the answer has ended and nothing is pending
  bool isStreaming() const;
  bool keepsConnection() const { return form.keepAlive && !isClientGone(); }
  void sendPing();
  void markClientGone();
  // The timer that is cancelled when there is something to write; null when nobody waits.
  void setWaiter(boost::asio::steady_timer *timer) { waiter = timer; }

private:
  enum class Phase { Waiting, Streaming, Ended };
  void appendEventBytes(std::string_view bytes);
  void wakeWriter();

  const boost::asio::any_io_executor executor;
  const HttpRequest httpRequest;
  const Form form;
  const size_t maxPendingBytes;
  boost::asio::steady_timer *waiter = nullptr;

  mutable std::mutex mutex;  // guards all below
  std::string pending;
  Phase phase = Phase::Waiting;
  bool wakePosted = false;
  bool clientGone = false;
  std::function<void()> goneCallback;
};

// Status line and headers of an answer; `bodyHeader` is the one line that says how the body ends, or empty.
std::string responseHead(const HttpResponse &response, const HttpRequest &request, bool keepAlive,
                         std::string_view bodyHeader);

}  // namespace girih::server
