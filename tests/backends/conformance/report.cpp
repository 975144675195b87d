// SPDX-License-Identifier: Apache-2.0
// Both reports hold the same rows: level, case, outcome, seconds, what was seen.
#include "tests/backends/conformance/report.h"

#include "runtime/base/json.h"

#include <fstream>

namespace girih::conformance {
namespace {

std::string escaped(const std::string &text) {
  std::string html;
  for (char c : text)
    html += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return html;
}

} // namespace

void writeJson(const std::string &path, const Options &options, const std::vector<Result> &results) {
  JsonWriter writer;
  writer.beginObject().member("backend", options.backend).key("cases").beginArray();
  for (const Result &result : results)
    writer.beginObject().member("level", result.check->level).member("name", result.check->name)
        .member("outcome", nameOf(result.finding.outcome))
        .member("text", result.finding.text).member("seconds", result.seconds).endObject();
  std::ofstream(path) << writer.endArray().endObject().take() << "\n";
}

void writeHtml(const std::string &path, const Options &options, const std::vector<Result> &results) {
  std::ofstream file(path);
  file << "<!doctype html><meta charset=utf-8><title>girih-conformance</title><h1>" << escaped(options.backend)
       << "</h1>\n<table border=1><tr><th>level<th>case<th>outcome<th>seconds<th>what was seen\n";
  for (const Result &result : results)
    file << "<tr><td>" << result.check->level << "<td>" << result.check->name << "<td>"
         << nameOf(result.finding.outcome) << "<td>" << result.seconds << "<td>"
         << escaped(result.finding.text) << "\n";
  file << "</table>\n";
}

} // namespace girih::conformance
