// SPDX-License-Identifier: Apache-2.0
// RequestLog: one write a line, so that lines of several processes do not mix.
#include "runtime/server/request_log.h"

#include "runtime/base/json.h"

#include <chrono>
#include <cmath>

namespace girih::server {
namespace {

double roundedMilliseconds(double seconds) { return std::round(seconds * 1e6) / 1e3; }

} // namespace

std::string logLine(const HttpRequest &request, const GenerationRecord &record, double unixSeconds) {
  JsonWriter writer;
  writer.beginObject().member("time", std::round(unixSeconds * 1e3) / 1e3);
  writer.member("request_id", request.requestId).member("path", request.path).member("client", record.client);
  writer.member("status", record.status).member("finish", record.finishReason).member("stream", record.isStream);
  writer.member("choices", record.numChoices).member("prompt_tokens", record.numPromptTokens);
  writer.member("cached_tokens", record.numCachedTokens).member("output_tokens", record.numOutputTokens);
  writer.member("queue_ms", roundedMilliseconds(record.queueSeconds));
  writer.member("prefill_ms", roundedMilliseconds(record.prefillSeconds));
  writer.member("total_ms", roundedMilliseconds(record.totalSeconds));
  return writer.endObject().take();
}

void RequestLog::write(const HttpRequest &request, const GenerationRecord &record) {
  if (!file)
    return;
  auto now = std::chrono::system_clock::now().time_since_epoch();
  std::string line = logLine(request, record, std::chrono::duration<double>(now).count()) + "\n";
  std::lock_guard lock(mutex);
  std::fwrite(line.data(), 1, line.size(), file);
  std::fflush(file);
}

} // namespace girih::server
