// SPDX-License-Identifier: Apache-2.0
// BatchRun: one file of requests through a service, each answered exactly once, whatever ends the process meanwhile.
#pragma once

#include "runtime/base/mapped_file.h"
#include "runtime/server/service.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <set>

namespace girih::server {

inline constexpr size_t kMaxBatchRequests = 50'000;

// What is wrong with a line of the input, for the batch's `errors`.
struct BatchFault {
  uint64_t line = 0; // from 1 on
  std::string code, message;
};

struct BatchCounts {
  uint64_t total = 0, completed = 0, failed = 0;
};

// The input: JSONL of {custom_id, method, url, body}. Answers go to one file and what is no answer to another, a line
// each, in the order in which they end. A line is its own record of progress: at the start both are read, half a line at
// an end is cut off, and what they have is not asked again. Requests go in the order of their prompts' text, which
// is a walk through the tree of their prefixes: those that share the most run together, and what they share stays in
// the cache as long as it is needed. Used by one thread.
class BatchRun {
public:
  struct Options {
    std::string inputPath, outputPath, errorPath;
    std::string endpoint;    // that every line names; empty: any that generates
    uint32_t client = 0;     // on whose behalf
    size_t maxInFlight = 64; // requests that wait or run
  };
  BatchRun(Service &service, Options options) : service(service), options(std::move(options)) {}

  // Reads input and progress. Faults, at most kMaxFaults of them: the file is refused as a whole. Fails: Unavailable
  // (a file cannot be read or written).
  Status open(std::vector<BatchFault> &faults);
  // Asks what is left. `mayGoOn` is asked now and then; once it says no, what runs is cancelled and asked again next
  // time. Fails: Unavailable when a file cannot be written. True: every line has its answer.
  Expected<bool> run(const std::function<bool(const BatchCounts &)> &mayGoOn);
  // Gives every line that is left this error.
  Status failRest(std::string_view code, std::string_view message);
  const BatchCounts &counts() const { return numbers; }

  static constexpr size_t kMaxFaults = 20;

private:
  class LineExchange;
  struct Line {
    std::string customId;
    size_t begin = 0, numBytes = 0; // of the input
  };
  struct Ended {
    size_t line = 0;
    HttpResponse response;
    std::string requestId;
  };
  void readLine(std::string_view text, size_t begin, uint64_t number, std::vector<BatchFault> &faults);
  Status readProgress(const std::string &path, uint64_t &count);
  void orderByPrefix(std::vector<std::string> prompts);
  void ask(size_t line);
  void abandon();
  Status record(const Ended &ended);
  Status append(const std::string &path, const std::string &text);
  std::string_view textOf(const Line &line) const;

  Service &service;
  const Options options;
  MappedFile input;
  std::vector<Line> lines;
  std::vector<std::string> prompts; // of the lines, until they are ordered
  std::vector<size_t> todo;         // lines, the next one last
  std::set<std::string, std::less<>> done;
  BatchCounts numbers;

  std::mutex mutex; // guards what exchanges tell
  std::condition_variable changed;
  std::vector<Ended> ended;
  std::map<size_t, std::function<void()>> cancels; // of lines in flight
  std::atomic<bool> isAbandoned = false;
};

} // namespace girih::server
