// SPDX-License-Identifier: Apache-2.0
// RequestLog: a line of JSON for each generation: who, how much and how long, never what was said.
#pragma once

#include "runtime/server/http_server.h"

#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>

namespace girih::server {

struct GenerationRecord {
  std::string_view client;
  int status = 200;
  std::string_view finishReason; // or the code of the error
  bool isStream = false;
  uint32_t numChoices = 0;
  uint32_t numPromptTokens = 0;
  uint32_t numCachedTokens = 0;
  uint32_t numOutputTokens = 0;
  double queueSeconds = 0.0;
  double prefillSeconds = 0.0;
  double totalSeconds = 0.0;
};

// The line, without its end. Everything in it is a number, a name of ours or an id that was checked.
std::string logLine(const HttpRequest &request, const GenerationRecord &record, double unixSeconds);

// Thread-safe.
class RequestLog {
public:
  // Null: nothing is written. Requires: the file outlives the log.
  explicit RequestLog(std::FILE *file) : file(file) {}
  void write(const HttpRequest &request, const GenerationRecord &record);

private:
  std::FILE *const file;
  std::mutex mutex;
};

} // namespace girih::server
