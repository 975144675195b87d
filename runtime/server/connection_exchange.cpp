// SPDX-License-Identifier: Apache-2.0
// ConnectionExchange: framing of answers and event streams, and the hand-over between threads.
#include "runtime/server/connection_exchange.h"

#include <boost/asio/post.hpp>

#include <charconv>

namespace girih::server {
namespace {

std::string_view reasonPhrase(int status) {
  switch (status) {
  case 200: return "OK";
  case 204: return "No Content";
  case 400: return "Bad Request";
  case 401: return "Unauthorized";
  case 403: return "Forbidden";
  case 404: return "Not Found";
  case 405: return "Method Not Allowed";
  case 408: return "Request Timeout";
  case 413: return "Content Too Large";
  case 415: return "Unsupported Media Type";
  case 421: return "Misdirected Request";
  case 429: return "Too Many Requests";
  case 431: return "Request Header Fields Too Large";
  case 500: return "Internal Server Error";
  case 501: return "Not Implemented";
  case 503: return "Service Unavailable";
  default: return "Status";
  }
}

void appendChunk(std::string &out, std::string_view bytes) {
  char digits[20];
  auto end = std::to_chars(digits, digits + sizeof(digits), bytes.size(), 16).ptr;
  out.append(digits, static_cast<size_t>(end - digits)).append("\r\n").append(bytes).append("\r\n");
}

}  // namespace

std::string responseHead(const HttpResponse &response, const HttpRequest &request, bool keepAlive,
                         std::string_view bodyHeader) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " ";
  head.append(reasonPhrase(response.status)).append("\r\ncontent-type: ").append(response.contentType);
  head.append("\r\nx-request-id: ").append(request.requestId).append("\r\n");
  for (const auto &[name, text] : response.headers)
    head.append(name).append(": ").append(text).append("\r\n");
  head.append(keepAlive ? "connection: keep-alive\r\n" : "connection: close\r\n");
  head.append(bodyHeader).append("\r\n");
  return head;
}

ConnectionExchange::ConnectionExchange(boost::asio::any_io_executor executor, HttpRequest request, Form form,
                                       size_t maxPendingBytes)
    : executor(std::move(executor)), httpRequest(std::move(request)), form(std::move(form)), maxPendingBytes(maxPendingBytes) {}

void ConnectionExchange::respond(HttpResponse response) {
  std::lock_guard lock(mutex);
  if (clientGone || phase != Phase::Waiting)
    return;
  phase = Phase::Ended;
  goneCallback = nullptr;
  response.headers.insert(response.headers.end(), form.headers.begin(), form.headers.end());
  std::string length = "content-length: " + std::to_string(response.body.size()) + "\r\n";
  pending += responseHead(response, httpRequest, form.keepAlive, length);
  if (!form.headOnly)
    pending += response.body;
  wakeWriter();
}

void ConnectionExchange::beginEvents(HttpHeaders headers) {
  std::lock_guard lock(mutex);
  if (clientGone || phase != Phase::Waiting)
    return;
  phase = Phase::Streaming;
  HttpResponse response;
  response.contentType = "text/event-stream";
  response.headers = std::move(headers);
  response.headers.insert(response.headers.end(), form.headers.begin(), form.headers.end());
  response.headers.emplace_back("cache-control", "no-cache");
  response.headers.emplace_back("x-accel-buffering", "no");  // nginx would hold events back
  pending += responseHead(response, httpRequest, form.keepAlive,
                          form.chunked ? "transfer-encoding: chunked\r\n" : "");
  wakeWriter();
}

void ConnectionExchange::sendEvent(std::string_view payload, std::string_view name) {
  std::string event;
  event.reserve(payload.size() + name.size() + 16);
  if (!name.empty())
    event.append("event: ").append(name).append("\n");
  event.append("data: ").append(payload).append("\n\n");
  appendEventBytes(event);
}

void ConnectionExchange::sendPing() { appendEventBytes(": ping\n\n"); }

void ConnectionExchange::appendEventBytes(std::string_view bytes) {
  bool readerTooSlow = false;
  {
    std::lock_guard lock(mutex);
    if (clientGone || phase != Phase::Streaming)
      return;
    readerTooSlow = pending.size() + bytes.size() > maxPendingBytes;
    if (!readerTooSlow) {
      if (form.chunked)
        appendChunk(pending, bytes);
      else
        pending += bytes;
    }
    wakeWriter();
  }
  if (readerTooSlow)
    markClientGone();
}

void ConnectionExchange::endEvents() {
  std::lock_guard lock(mutex);
  if (clientGone || phase != Phase::Streaming)
    return;
  phase = Phase::Ended;
  goneCallback = nullptr;
  if (form.chunked)
    pending += "0\r\n\r\n";
  wakeWriter();
}

bool ConnectionExchange::isClientGone() const {
  std::lock_guard lock(mutex);
  return clientGone;
}

void ConnectionExchange::onClientGone(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex);
    if (phase == Phase::Ended)
      return;
    if (!clientGone) {
      goneCallback = std::move(callback);
      return;
    }
  }
  callback();
}

void ConnectionExchange::markClientGone() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex);
    if (clientGone)
      return;
    clientGone = true;
    callback = std::exchange(goneCallback, nullptr);
    wakeWriter();
  }
  if (callback)
    callback();
}

std::string ConnectionExchange::takePending() {
  std::lock_guard lock(mutex);
  return std::exchange(pending, {});
}

bool ConnectionExchange::isFinished() const {
  std::lock_guard lock(mutex);
  return clientGone || (phase == Phase::Ended && pending.empty());
}

bool ConnectionExchange::isStreaming() const {
  std::lock_guard lock(mutex);
  return phase == Phase::Streaming;
}

// Requires: `mutex` is held. Many tokens queued before the writer runs cost one wake-up.
void ConnectionExchange::wakeWriter() {
  if (wakePosted)
    return;
  wakePosted = true;
  boost::asio::post(executor, [self = shared_from_this()] {
    {
      std::lock_guard lock(self->mutex);
      self->wakePosted = false;
    }
    if (self->waiter)
      self->waiter->cancel();
  });
}

}  // namespace girih::server
