// SPDX-License-Identifier: Apache-2.0
// LoadClient over a plain socket: only what a load generator needs of HTTP, and nothing that costs time.
#include "runtime/tools/load_client.h"

#include "runtime/base/json_reader.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace girih::tools {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr int kTimeoutSeconds = 600;

std::string lowered(std::string_view text) {
  std::string result(text);
  for (char &letter : result)
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return result;
}

uint64_t countAt(JsonValue object, std::string_view name) {
  auto value = object.find(name);
  if (!value)
    return 0;
  auto number = value->asInteger();
  return number.isOk() && *number > 0 ? static_cast<uint64_t>(*number) : 0;
}

// What one event of a stream, or a whole answer, says.
void takeEvent(std::string_view json, Outcome &outcome) {
  auto document = JsonDocument::parse(json);
  if (!document.isOk())
    return;
  JsonValue root = document->root();
  if (auto error = root.find("error"); error && error->isObject()) {
    auto message = error->find("message");
    outcome.error =
        message && message->isString() ? std::string(*message->asString()) : "the server reports an error";
  }
  if (auto usage = root.find("usage"); usage && usage->isObject()) {
    outcome.numPromptTokens = countAt(*usage, "prompt_tokens");
    outcome.numOutputTokens = countAt(*usage, "completion_tokens");
    if (auto details = usage->find("prompt_tokens_details"); details && details->isObject())
      outcome.numCachedTokens = countAt(*details, "cached_tokens");
  }
  auto choices = root.find("choices");
  if (!choices || choices->elements().empty())
    return;
  auto delta = choices->elements().front().find("delta");
  auto content = delta ? delta->find("content") : std::nullopt;
  if (!content || !content->isString() || content->asString()->empty())
    return;
  outcome.text += *content->asString();
  outcome.pieces.push_back(LoadClock::now());
}

} // namespace

Expected<Endpoint> parseUrl(const std::string &url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme))
    return invalidArgument("the URL is \"" + url + "\"; it must begin with http://");
  std::string rest = url.substr(kScheme.size());
  size_t slash = std::min(rest.find('/'), rest.size());
  Endpoint endpoint;
  endpoint.path = rest.substr(slash);
  if (endpoint.path.ends_with("/"))
    endpoint.path.pop_back();
  std::string place = rest.substr(0, slash);
  size_t colon = place.rfind(':');
  endpoint.host = place.substr(0, colon);
  endpoint.port = colon == place.npos ? "80" : place.substr(colon + 1);
  if (endpoint.host.empty() || endpoint.port.empty())
    return invalidArgument("the URL is \"" + url + "\"; it must name a host, and a port after a colon");
  return endpoint;
}

LoadClient::~LoadClient() { close(); }

void LoadClient::close() {
  if (socket >= 0)
    ::close(socket);
  socket = -1;
  buffer.clear();
}

bool LoadClient::connect(std::string &error) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (int code = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found); code != 0) {
    error = "cannot find " + endpoint.host + ": " + gai_strerror(code);
    return false;
  }
  for (addrinfo *address = found; address && socket < 0; address = address->ai_next) {
    socket = ::socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (socket >= 0 && ::connect(socket, address->ai_addr, address->ai_addrlen) != 0)
      close();
  }
  freeaddrinfo(found);
  if (socket < 0) {
    error = "cannot connect to " + endpoint.host + ":" + endpoint.port + ": " + std::strerror(errno);
    return false;
  }
  int one = 1;
  timeval limit{kTimeoutSeconds, 0};
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return true;
}

bool LoadClient::sendAll(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0)
      return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

bool LoadClient::readMore() {
  size_t before = buffer.size();
  buffer.resize(before + kReadBytes);
  ssize_t count = ::recv(socket, buffer.data() + before, kReadBytes, 0);
  buffer.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
  return count > 0;
}

bool LoadClient::readLine(std::string &line) {
  size_t end;
  while ((end = buffer.find('\n')) == buffer.npos)
    if (!readMore())
      return false;
  line = buffer.substr(0, end);
  if (line.ends_with('\r'))
    line.pop_back();
  buffer.erase(0, end + 1);
  return true;
}

bool LoadClient::readHead(Head &head) {
  std::string line;
  if (!readLine(line) || line.size() < 12)
    return false;
  std::from_chars(line.data() + 9, line.data() + 12, head.status);
  while (readLine(line)) {
    if (line.empty())
      return true;
    std::string lower = lowered(line);
    if (lower.starts_with("content-length:"))
      head.contentLength = std::atoll(lower.c_str() + 15);
    head.isChunked |= lower.starts_with("transfer-encoding:") && lower.find("chunked") != lower.npos;
    head.closes |= lower.starts_with("connection:") && lower.find("close") != lower.npos;
  }
  return false;
}

bool LoadClient::readBody(const Head &head, const std::function<void(std::string_view)> &take) {
  auto takeBytes = [&](size_t count) {
    while (count > 0) {
      if (buffer.empty() && !readMore())
        return false;
      size_t part = std::min(count, buffer.size());
      take(std::string_view(buffer).substr(0, part));
      buffer.erase(0, part);
      count -= part;
    }
    return true;
  };
  if (!head.isChunked)
    return takeBytes(static_cast<size_t>(std::max(head.contentLength, 0ll)));
  for (std::string line; readLine(line);) {
    size_t count = 0;
    std::from_chars(line.data(), line.data() + line.size(), count, 16);
    if (count == 0)
      return readLine(line);
    if (!takeBytes(count) || !readLine(line))
      return false;
  }
  return false;
}

bool LoadClient::request(const std::string &head, std::string_view body, Head &answer, std::string &error) {
  // A kept connection may have been closed meanwhile: one more try on a fresh one.
  for (bool isFresh = false; !isFresh;) {
    isFresh = socket < 0;
    if (isFresh && !connect(error))
      return false;
    if (sendAll(head) && sendAll(body) && readHead(answer))
      return true;
    close();
  }
  error = "the server closed the connection without an answer";
  return false;
}

Outcome LoadClient::post(std::string_view path, const std::string &body) {
  std::string head = "POST " + endpoint.path + std::string(path) + " HTTP/1.1\r\nhost: " + endpoint.host +
                     ":" + endpoint.port;
  head += "\r\ncontent-type: application/json\r\ncontent-length: " + std::to_string(body.size());
  if (!endpoint.apiKey.empty())
    head += "\r\nauthorization: Bearer " + endpoint.apiKey;
  Outcome outcome;
  outcome.sent = LoadClock::now();
  Head answer;
  if (request(head + "\r\n\r\n", body, answer, outcome.error)) {
    outcome.status = answer.status;
    std::string events;
    bool isWhole = readBody(answer, [&](std::string_view bytes) {
      events += bytes;
      if (answer.status != 200)
        return;
      for (size_t end; (end = events.find("\n\n")) != events.npos; events.erase(0, end + 2))
        if (std::string_view event = std::string_view(events).substr(0, end); event.starts_with("data: "))
          takeEvent(event.substr(6), outcome);
    });
    if (answer.status != 200)
      takeEvent(events, outcome);
    if (!isWhole && outcome.error.empty())
      outcome.error = "the answer broke off";
    if (!isWhole || answer.closes)
      close();
  }
  outcome.ended = LoadClock::now();
  return outcome;
}

std::string LoadClient::get(std::string_view path) {
  std::string head = "GET " + endpoint.path + std::string(path) + " HTTP/1.1\r\nhost: " + endpoint.host +
                     ":" + endpoint.port;
  if (!endpoint.apiKey.empty())
    head += "\r\nauthorization: Bearer " + endpoint.apiKey;
  Head answer;
  std::string error, page;
  if (!request(head + "\r\n\r\n", "", answer, error))
    return {};
  bool isWhole = readBody(answer, [&](std::string_view bytes) { page += bytes; });
  if (!isWhole || answer.closes)
    close();
  return isWhole && answer.status == 200 ? page : std::string();
}

} // namespace girih::tools
