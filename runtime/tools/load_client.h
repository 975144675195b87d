// SPDX-License-Identifier: Apache-2.0
// LoadClient: one blocking HTTP/1.1 connection that asks for streamed answers and notes when each piece came.
#pragma once

#include "runtime/base/expected.h"

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::tools {

struct Endpoint {
  std::string host; // an address or name
  std::string port;
  std::string path; // what stands before "/v1/...": usually empty
  std::string apiKey;
};

// "http://127.0.0.1:8080". Fails: InvalidArgument.
Expected<Endpoint> parseUrl(const std::string &url);

using LoadClock = std::chrono::steady_clock;

// What became of one request.
struct Outcome {
  int status = 0;    // 0: no answer
  std::string error; // empty: none
  LoadClock::time_point sent;
  std::vector<LoadClock::time_point> pieces; // when text came
  LoadClock::time_point ended;
  std::string text;
  uint64_t numPromptTokens = 0, numCachedTokens = 0, numOutputTokens = 0; // as the server counts them
};

// Keeps its connection between requests where the server does. Thread-compatible.
class LoadClient {
public:
  explicit LoadClient(Endpoint endpoint) : endpoint(std::move(endpoint)) {}
  ~LoadClient();
  LoadClient(const LoadClient &) = delete;
  LoadClient &operator=(const LoadClient &) = delete;

  // POSTs a JSON body and reads its stream of events to the end.
  Outcome post(std::string_view path, const std::string &body);
  // GETs a page; empty when it cannot be had.
  std::string get(std::string_view path);

private:
  bool connect(std::string &error);
  void close();
  bool sendAll(std::string_view bytes);
  bool readMore();
  // A line without its end; false at the end of the connection.
  bool readLine(std::string &line);
  struct Head {
    int status = 0;
    bool isChunked = false, closes = false;
    long long contentLength = -1;
  };
  bool readHead(Head &head);
  // Calls `take` with each part of the body. False when it broke off.
  bool readBody(const Head &head, const std::function<void(std::string_view)> &take);
  bool request(const std::string &head, std::string_view body, Head &answer, std::string &error);

  const Endpoint endpoint;
  int socket = -1;
  std::string buffer; // received and not consumed
};

} // namespace girih::tools
