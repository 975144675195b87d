// SPDX-License-Identifier: Apache-2.0
// HttpServer over Boost.Beast: one thread, one coroutine a connection, every wait with a time limit.
#include "runtime/server/http_server.h"
#include "runtime/server/connection_exchange.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <csignal>
#include <list>
#include <random>

namespace girih::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Parser = http::request_parser<http::string_body>;
using namespace asio::experimental::awaitable_operators;

// Failures of a socket are everyday events here: they come back as values, not as exceptions.
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// Bytes and time spent on reading away a refused body, so that the client reads our answer instead of a reset.
constexpr size_t kMaxDiscardedBytes = 512 * 1024 * 1024;
constexpr std::chrono::seconds kMaxDiscardTime{20};
constexpr std::chrono::seconds kDiscardIdleTime{2};

struct Connection {
  explicit Connection(tcp::socket socket) : stream(std::move(socket)) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  bool isIdle = false;  // between two requests: a drain may close it at once
};

bool peerClosed(int socketHandle) {
  char byte;
  ssize_t numBytes = recv(socketHandle, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (numBytes == 0 || (numBytes < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
    return true;
  // A pipelined request hides the end of the stream from recv(), not from poll().
  pollfd descriptor{socketHandle, POLLRDHUP, 0};
  return poll(&descriptor, 1, 0) > 0 && (descriptor.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

std::string makeRequestId(std::string_view offered) {
  bool isHarmless = !offered.empty() && offered.size() <= 128;
  for (char c : offered)
    isHarmless &= std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  if (isHarmless)
    return std::string(offered);
  thread_local std::mt19937_64 generator{std::random_device{}()};
  char text[24];
  std::snprintf(text, sizeof(text), "req_%016llx", static_cast<unsigned long long>(generator()));
  return text;
}

HttpRequest describeRequest(const http::request<http::string_body> &message) {
  auto text = [](auto view) { return std::string(view.data(), view.size()); };
  HttpRequest request;
  request.method = text(message.method_string());
  request.path = text(message.target());
  request.path.resize(std::min(request.path.find('?'), request.path.size()));
  request.authorization = text(message[http::field::authorization]);
  request.apiKey = text(message["x-api-key"]);
  request.host = text(message[http::field::host]);
  request.origin = text(message[http::field::origin]);
  request.clientTimeout = text(message["x-stainless-timeout"]);
  request.contentType = text(message[http::field::content_type]);
  request.requestId = makeRequestId(text(message["x-request-id"]));
  return request;
}

}  // namespace

class HttpServer::Listener {
public:
  Listener(HttpServerOptions options, HttpHandlers handlers)
      : options(std::move(options)), handlers(std::move(handlers)), acceptor(context), signals(context),
        drainTimer(context) {}

  Status listen();
  void run();
  void drain();

  HttpServerOptions options;
  HttpHandlers handlers;
  asio::io_context context{1};
  tcp::acceptor acceptor;
  std::atomic<bool> draining = false;

private:
  asio::awaitable<void> acceptConnections();
  asio::awaitable<void> serveConnection(std::list<Connection>::iterator connection);
  asio::awaitable<bool> serveRequest(Connection &connection);
  asio::awaitable<bool> readBody(Connection &connection, Parser &parser);
  asio::awaitable<void> writeAnswer(Connection &connection, ConnectionExchange &exchange);
  asio::awaitable<void> watchClient(Connection &connection, ConnectionExchange &exchange);
  asio::awaitable<void> refuse(Connection &connection, const HttpRequest &request, HttpResponse response);
  asio::awaitable<bool> refuseUnreadable(Connection &connection, const Parser &parser, ErrorCode error);
  void waitForSignal();
  void stopWhenDrained();

  asio::signal_set signals;
  asio::steady_timer drainTimer;
  std::list<Connection> connections;
  uint32_t numUploads = 0;  // large bodies that are being read
};

Status HttpServer::Listener::listen() {
  ErrorCode error;
  auto address = asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
  if (error)
    return invalidArgument("host \"" + options.host + "\" is not an IP address; for instance 127.0.0.1, or 0.0.0.0 for every interface");
  tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), error);
  if (!error)
    acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error)
    acceptor.bind(endpoint, error);
  if (!error)
    acceptor.listen(asio::socket_base::max_listen_connections, error);
  std::string place = options.host + ":" + std::to_string(options.port);
  if (error == asio::error::address_in_use)
    return unavailable("port " + std::to_string(options.port) + " of " + options.host +
                       " is taken by another process; choose another with --port, or 0 for any free one");
  if (error)
    return unavailable("cannot listen on " + place + ": " + error.message());
  return {};
}

void HttpServer::Listener::run() {
  if (options.drainOnSignals) {
    signals.add(SIGTERM);
    signals.add(SIGINT);
    waitForSignal();
  }
  asio::co_spawn(context, acceptConnections(), asio::detached);
  context.run();
}

void HttpServer::Listener::waitForSignal() {
  signals.async_wait([this](ErrorCode error, int) {
    if (error)
      return;
    if (draining)
      return context.stop();
    drain();
    waitForSignal();
  });
}

void HttpServer::Listener::drain() {
  if (draining.exchange(true))
    return;
  if (handlers.drainBegins)
    handlers.drainBegins();
  ErrorCode ignored;
  acceptor.close(ignored);
  for (Connection &connection : connections)
    if (connection.isIdle)
      connection.stream.cancel();
  drainTimer.expires_after(options.drainTimeout);
  drainTimer.async_wait([this](ErrorCode error) {
    if (!error)
      context.stop();
  });
  stopWhenDrained();
}

void HttpServer::Listener::stopWhenDrained() {
  if (draining && connections.empty())
    context.stop();
}

asio::awaitable<void> HttpServer::Listener::acceptConnections() {
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(kAwait);
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
      co_return;
    if (error) {  // out of file descriptors: connections that end will free some
      asio::steady_timer pause(context, std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
      continue;
    }
    ErrorCode ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    connections.emplace_back(std::move(socket));
    asio::co_spawn(context, serveConnection(std::prev(connections.end())), asio::detached);
  }
}

asio::awaitable<void> HttpServer::Listener::serveConnection(std::list<Connection>::iterator connection) {
  if (connections.size() > options.limits.maxConnections) {
    HttpRequest nobody;
    nobody.requestId = makeRequestId({});
    co_await refuse(*connection, nobody, handlers.refuse(503, "the server has " + std::to_string(options.limits.maxConnections) + " connections open already; retry later"));
  } else {
    // Whatever a request throws (memory above all) ends its connection and no other.
    try {
      while (co_await serveRequest(*connection) && !draining) {
      }
    } catch (const std::exception &) {
    }
  }
  ErrorCode ignored;
  connection->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
  connections.erase(connection);
  stopWhenDrained();
}

// Reads one request and sees its answer out. True when the connection can carry another one.
asio::awaitable<bool> HttpServer::Listener::serveRequest(Connection &connection) {
  auto &[stream, buffer, isIdle] = connection;
  if (buffer.size() == 0) {
    isIdle = true;
    stream.expires_after(options.limits.idleTimeout);
    auto [error, numBytes] = co_await stream.async_read_some(buffer.prepare(4096), kAwait);
    isIdle = false;
    if (error)
      co_return false;
    buffer.commit(numBytes);
  }

  Parser parser;
  parser.header_limit(static_cast<uint32_t>(options.limits.maxHeaderBytes));
  parser.body_limit(std::max(options.limits.maxBodyBytes, options.limits.maxUploadBytes));
  stream.expires_after(options.limits.headerTimeout);
  auto [headError, numHeadBytes] = co_await http::async_read_header(stream, buffer, parser, kAwait);
  if (headError)
    co_return co_await refuseUnreadable(connection, parser, headError);

  HttpRequest request = describeRequest(parser.get());
  if (auto refusal = handlers.screen(request)) {
    co_await refuse(connection, request, std::move(*refusal));
    co_return false;
  }
  size_t bodyLimit = handlers.bodyLimit ? handlers.bodyLimit(request) : options.limits.maxBodyBytes;
  if (parser.content_length().value_or(0) > bodyLimit)
    co_return co_await refuseUnreadable(connection, parser, http::error::body_limit);
  // One whose length is not declared may be as large as any.
  bool isUpload = parser.content_length().value_or(bodyLimit) > options.limits.maxBodyBytes;
  if (isUpload && numUploads > 0) {
    co_await refuse(connection, request, handlers.refuse(503, "another upload is being read; retry when it has ended"));
    co_return false;
  }
  parser.body_limit(bodyLimit);
  {
    struct UploadScope {
      uint32_t &numUploads;
      const bool isUpload;
      ~UploadScope() { numUploads -= isUpload; }
    } scope{numUploads, isUpload};
    numUploads += isUpload;
    if (!co_await readBody(connection, parser))
      co_return false;
  }
  request.body = std::move(parser.get().body());

  ConnectionExchange::Form form;
  form.chunked = parser.get().version() >= 11;
  form.keepAlive = form.chunked && parser.get().keep_alive() && !draining;
  form.headOnly = request.method == "HEAD";
  if (handlers.headersFor)
    form.headers = handlers.headersFor(request);
  auto exchange = std::make_shared<ConnectionExchange>(stream.get_executor(), std::move(request), std::move(form),
                                                       options.limits.maxPendingBytes);
  handlers.handle(exchange);
  // The writer ends with the answer, the watcher with the client; whichever is first ends the other.
  co_await (writeAnswer(connection, *exchange) || watchClient(connection, *exchange));
  co_return exchange->keepsConnection();
}

// False when the connection is to be closed: the body was refused, or stopped coming.
asio::awaitable<bool> HttpServer::Listener::readBody(Connection &connection, Parser &parser) {
  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    connection.stream.expires_after(options.limits.writeTimeout);
    auto [error, numBytes] = co_await asio::async_write(
        connection.stream, asio::buffer(std::string_view("HTTP/1.1 100 Continue\r\n\r\n")), kAwait);
    if (error)
      co_return false;
  }
  while (!parser.is_done()) {
    connection.stream.expires_after(options.limits.bodyIdleTimeout);
    auto [error, numBytes] = co_await http::async_read_some(connection.stream, connection.buffer, parser, kAwait);
    if (error) {
      co_await refuseUnreadable(connection, parser, error);
      co_return false;
    }
  }
  co_return true;
}

asio::awaitable<void> HttpServer::Listener::writeAnswer(Connection &connection, ConnectionExchange &exchange) {
  asio::steady_timer wake(context);
  struct WaiterScope {
    ConnectionExchange &exchange;
    ~WaiterScope() { exchange.setWaiter(nullptr); }
  } scope{exchange};
  exchange.setWaiter(&wake);
  while (!exchange.isFinished()) {
    std::string bytes = exchange.takePending();
    if (bytes.empty()) {
      wake.expires_after(options.limits.pingInterval);
      auto [error] = co_await wake.async_wait(kAwait);
      if (!error && exchange.isStreaming())
        exchange.sendPing();
      continue;
    }
    connection.stream.expires_after(options.limits.writeTimeout);
    auto [error, numBytes] = co_await asio::async_write(connection.stream, asio::buffer(bytes), kAwait);
    if (error)
      exchange.markClientGone();
  }
}

asio::awaitable<void> HttpServer::Listener::watchClient(Connection &connection, ConnectionExchange &exchange) {
  auto &socket = connection.stream.socket();
  asio::steady_timer pause(context);
  for (;;) {
    auto [error] = co_await socket.async_wait(tcp::socket::wait_read, kAwait);
    if (error == asio::error::operation_aborted)
      co_return;
    if (error || peerClosed(socket.native_handle())) {
      exchange.markClientGone();
      co_return;
    }
    // Bytes of a pipelined request would make the wait return at once, again and again.
    pause.expires_after(std::chrono::milliseconds(100));
    co_await pause.async_wait(kAwait);
  }
}

// Answers without having read the body, then reads what still comes: closing with unread bytes resets the connection,
// and the client would see that instead of the answer.
asio::awaitable<void> HttpServer::Listener::refuse(Connection &connection, const HttpRequest &request,
                                                   HttpResponse response) {
  auto &stream = connection.stream;
  std::string bytes = responseHead(response, request, false,
                                   "content-length: " + std::to_string(response.body.size()) + "\r\n");
  if (request.method != "HEAD")
    bytes += response.body;
  stream.expires_after(options.limits.writeTimeout);
  auto [error, numBytes] = co_await asio::async_write(stream, asio::buffer(bytes), kAwait);
  ErrorCode ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> discarded(64 * 1024);
  auto end = std::chrono::steady_clock::now() + kMaxDiscardTime;
  connection.isIdle = true;  // a drain need not wait for this
  for (size_t numDiscarded = 0; !error && numDiscarded < kMaxDiscardedBytes && !draining; numDiscarded += numBytes) {
    stream.expires_at(std::min(end, std::chrono::steady_clock::now() + kDiscardIdleTime));
    std::tie(error, numBytes) = co_await stream.async_read_some(asio::buffer(discarded), kAwait);
  }
}

asio::awaitable<bool> HttpServer::Listener::refuseUnreadable(Connection &connection, const Parser &parser,
                                                             ErrorCode error) {
  HttpRequest request = describeRequest(parser.get());
  if (error == http::error::body_limit)
    co_await refuse(connection, request, handlers.refuse(413, "the request's body is larger than the " + std::to_string(handlers.bodyLimit ? handlers.bodyLimit(request) : options.limits.maxBodyBytes) + " bytes that this server accepts"));
  else if (error == http::error::header_limit || error == http::error::buffer_overflow)
    co_await refuse(connection, request, handlers.refuse(431, "the request's headers are larger than the " + std::to_string(options.limits.maxHeaderBytes) + " bytes that this server accepts"));
  else if (error.category() == http::make_error_code(http::error::bad_method).category() && error != http::error::end_of_stream && error != http::error::partial_message)
    co_await refuse(connection, request, handlers.refuse(400, "the request is not HTTP/1.1: " + error.message()));
  co_return false;
}

HttpServer::HttpServer(std::unique_ptr<Listener> listener) : listener(std::move(listener)) {}
HttpServer::~HttpServer() = default;

Expected<std::unique_ptr<HttpServer>> HttpServer::create(HttpServerOptions options, HttpHandlers handlers) {
  auto listener = std::make_unique<Listener>(std::move(options), std::move(handlers));
  GIRIH_TRY(listener->listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(listener)));
}

uint16_t HttpServer::port() const {
  ErrorCode error;
  auto endpoint = listener->acceptor.local_endpoint(error);
  return error ? listener->options.port : endpoint.port();
}

bool HttpServer::isDraining() const { return listener->draining; }
void HttpServer::run() { listener->run(); }
void HttpServer::drain() {
  asio::post(listener->context, [this] { listener->drain(); });
}
void HttpServer::stop() { listener->context.stop(); }

}  // namespace girih::server
