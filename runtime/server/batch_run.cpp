// SPDX-License-Identifier: Apache-2.0
// BatchRun: lines in, exchanges through the endpoints, lines out.
#include "runtime/server/batch_run.h"

#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/state_folder.h"
#include "runtime/server/tool_use.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

namespace girih::server {
namespace {

constexpr size_t kMaxIdBytes = 512;
constexpr size_t kMaxLineBytes = size_t{16} << 20; // a body as large as one that is sent
constexpr std::chrono::milliseconds kPatience{200};

// The part of a body that its prefix is of.
std::string promptOf(JsonValue body) {
  for (std::string_view name : {"messages", "prompt", "input"})
    if (auto value = body.find(name))
      return value->print();
  return {};
}

} // namespace

// Takes an answer for one line; there is no client, so it never goes away but by abandon().
class BatchRun::LineExchange final : public Exchange {
public:
  LineExchange(BatchRun &run, size_t line, HttpRequest request)
      : run(run), line(line), httpRequest(std::move(request)) {}
  const HttpRequest &request() const override { return httpRequest; }
  void respond(HttpResponse response) override {
    std::lock_guard lock(run.mutex);
    run.ended.push_back({line, std::move(response), httpRequest.requestId});
    run.changed.notify_one();
  }
  // Streams were refused before they were asked for.
  void beginEvents(HttpHeaders) override {}
  void sendEvent(std::string_view, std::string_view) override {}
  void endEvents() override {}
  bool isClientGone() const override { return run.isAbandoned; }
  void onClientGone(std::function<void()> callback) override {
    std::unique_lock lock(run.mutex);
    if (!run.isAbandoned) {
      run.cancels[line] = std::move(callback);
      return;
    }
    lock.unlock();
    callback();
  }

private:
  BatchRun &run;
  const size_t line;
  const HttpRequest httpRequest;
};

std::string_view BatchRun::textOf(const Line &line) const {
  return std::string_view(reinterpret_cast<const char *>(input.bytes().data()), input.bytes().size())
      .substr(line.begin, line.numBytes);
}

void BatchRun::readLine(std::string_view text, size_t begin, uint64_t number,
                        std::vector<BatchFault> &faults) {
  auto fault = [&](std::string code, std::string message) {
    if (faults.size() < kMaxFaults)
      faults.push_back({number, std::move(code), std::move(message)});
  };
  if (text.size() > kMaxLineBytes)
    return fault("line_too_long", "the line has " + std::to_string(text.size()) + " bytes; at most " +
                                      std::to_string(kMaxLineBytes) + " are accepted");
  auto document = JsonDocument::parse(text, kMaxJsonDepth + 1);
  if (!document.isOk() || !document->root().isObject())
    return fault("invalid_json_line", "the line is no JSON object");
  auto textAt = [&](std::string_view name) {
    auto value = document->root().find(name);
    return value && value->isString() ? std::string(*value->asString()) : std::string();
  };
  std::string id = textAt("custom_id"), url = textAt("url");
  auto body = document->root().find("body");
  if (id.empty() || id.size() > kMaxIdBytes)
    return fault("missing_required_parameter", "`custom_id` must be a string of 1 to 512 bytes");
  if (textAt("method") != "POST")
    return fault("invalid_method", "`method` must be POST");
  if (options.endpoint.empty() ? !isBatchEndpoint(url) : url != options.endpoint)
    return fault("mismatched_url", "`url` is `" + url.substr(0, 100) + "`; it must be " +
                                       (options.endpoint.empty() ? "one that generates" : options.endpoint));
  if (!body || !body->isObject())
    return fault("missing_required_parameter", "`body` must be an object");
  if (auto stream = body->find("stream"); stream && stream->asBoolean().isOk() && *stream->asBoolean())
    return fault("invalid_value", "`body.stream` must not be true: an answer of a batch is one line");
  lines.push_back({std::move(id), begin, text.size()});
  prompts.push_back(promptOf(*body));
}

Status BatchRun::open(std::vector<BatchFault> &faults) {
  GIRIH_ASSIGN(input, MappedFile::open(options.inputPath));
  std::string_view all(reinterpret_cast<const char *>(input.bytes().data()), input.bytes().size());
  uint64_t number = 0;
  for (size_t begin = 0; begin < all.size() && faults.size() < kMaxFaults;) {
    std::string_view text = all.substr(begin, all.find('\n', begin) - begin);
    ++number;
    if (text.find_first_not_of(" \t\r") != text.npos) {
      if (lines.size() == kMaxBatchRequests) {
        faults.push_back(
            {number, "too_many_requests", "a batch has at most " + std::to_string(kMaxBatchRequests)});
        break;
      }
      readLine(text, begin, number, faults);
    }
    begin += text.size() + 1;
  }
  std::vector<std::string_view> ids;
  for (const Line &line : lines)
    ids.push_back(line.customId);
  std::sort(ids.begin(), ids.end());
  if (auto twice = std::adjacent_find(ids.begin(), ids.end()); twice != ids.end())
    faults.push_back(
        {0, "duplicate_custom_id", "the custom_id `" + std::string(*twice) + "` stands there twice"});
  if (lines.empty() && faults.empty())
    faults.push_back({0, "empty_file", "there is no request in the file"});
  if (!faults.empty())
    return {};
  numbers.total = lines.size();
  GIRIH_TRY(readProgress(options.outputPath, numbers.completed));
  GIRIH_TRY(readProgress(options.errorPath, numbers.failed));
  orderByPrefix(std::exchange(prompts, {}));
  return {};
}

// What was answered before. Whole lines count; what stands behind the last one was being written when it ended.
Status BatchRun::readProgress(const std::string &path, uint64_t &count) {
  auto bytes = readFile(path, size_t{1} << 34);
  if (!bytes.isOk())
    return bytes.status().code() == StatusCode::NotFound ? Status() : std::move(bytes).status();
  size_t end = bytes->rfind('\n') == bytes->npos ? 0 : bytes->rfind('\n') + 1;
  if (end < bytes->size() && ::truncate(path.c_str(), static_cast<off_t>(end)) != 0)
    return unavailable("cannot mend " + path + ": " + std::strerror(errno));
  for (std::string_view rest = std::string_view(*bytes).substr(0, end); !rest.empty();) {
    std::string_view text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(text.size() + 1);
    auto document = JsonDocument::parse(text);
    auto id = document.isOk() ? document->root().find("custom_id") : std::nullopt;
    if (id && id->isString() && done.emplace(*id->asString()).second)
      ++count;
  }
  return {};
}

void BatchRun::orderByPrefix(std::vector<std::string> texts) {
  for (size_t line = 0; line < lines.size(); ++line)
    if (!done.contains(lines[line].customId))
      todo.push_back(line);
  std::sort(todo.begin(), todo.end(),
            [&](size_t a, size_t b) { return texts[a] != texts[b] ? texts[a] > texts[b] : a > b; });
}

void BatchRun::ask(size_t number) {
  const Line &line = lines[number];
  auto document = JsonDocument::parse(textOf(line), kMaxJsonDepth + 1);
  HttpRequest request;
  request.method = "POST";
  request.path = *document->root().find("url")->asString();
  request.contentType = "application/json";
  request.requestId = makeId("batch_req_");
  request.body = document->root().find("body")->print();
  request.batchClient = options.client;
  answerInternally(service, std::make_shared<LineExchange>(*this, number, std::move(request)));
}

Status BatchRun::append(const std::string &path, const std::string &text) {
  int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  struct stat facts = {};
  bool isWritten = file >= 0 && ::fstat(file, &facts) == 0 &&
                   ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  int error = errno;
  if (file >= 0 && !isWritten)
    (void)!::ftruncate(file, facts.st_size); // a full disk: not half a line
  if (file >= 0)
    ::close(file);
  return isWritten ? Status() : unavailable("cannot write " + path + ": " + std::strerror(error));
}

Status BatchRun::record(const Ended &one) {
  bool isAnswer = one.response.status == 200;
  JsonWriter writer;
  writer.beginObject().member("id", one.requestId).member("custom_id", lines[one.line].customId);
  writer.key("response").beginObject().member("status_code", one.response.status);
  writer.member("request_id", one.requestId).key("body").raw(one.response.body).endObject();
  writer.key("error").null().endObject();
  GIRIH_TRY(append(isAnswer ? options.outputPath : options.errorPath, writer.take() + "\n"));
  ++(isAnswer ? numbers.completed : numbers.failed);
  return {};
}

Expected<bool> BatchRun::run(const std::function<bool(const BatchCounts &)> &mayGoOn) {
  size_t numInFlight = 0;
  bool goesOn = true;
  Status status;
  while (numInFlight > 0 || (goesOn && !todo.empty())) {
    goesOn = goesOn && status.isOk() && mayGoOn(numbers);
    for (; goesOn && numInFlight < options.maxInFlight && !todo.empty(); ++numInFlight) {
      size_t line = todo.back();
      todo.pop_back();
      ask(line);
    }
    if (!goesOn)
      abandon();
    std::vector<Ended> news;
    {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, kPatience, [this] { return !ended.empty(); });
      news.swap(ended);
      for (const Ended &one : news)
        cancels.erase(one.line);
    }
    for (const Ended &one : news) {
      --numInFlight;
      // Said of the server, not of the request: another time it is answered.
      bool isRefused = one.response.status == 429 || one.response.status == 503;
      if (isRefused || !status.isOk())
        todo.push_back(one.line);
      else if (status = record(one); !status.isOk())
        todo.push_back(one.line);
      if (isRefused && goesOn)
        std::this_thread::sleep_for(kPatience);
    }
  }
  {
    std::lock_guard lock(mutex);
    isAbandoned = false;
  }
  GIRIH_TRY(std::move(status));
  return todo.empty();
}

void BatchRun::abandon() {
  std::map<size_t, std::function<void()>> callbacks;
  {
    std::lock_guard lock(mutex);
    isAbandoned = true;
    callbacks.swap(cancels);
  }
  for (auto &[line, callback] : callbacks)
    callback();
}

Status BatchRun::failRest(std::string_view code, std::string_view message) {
  std::string text;
  for (size_t line : todo) {
    JsonWriter writer;
    writer.beginObject().member("id", makeId("batch_req_")).member("custom_id", lines[line].customId);
    writer.key("response").null().key("error").beginObject();
    writer.member("code", code).member("message", message).endObject().endObject();
    text += writer.take() + "\n";
  }
  if (!text.empty())
    GIRIH_TRY(append(options.errorPath, text));
  numbers.failed += todo.size();
  todo.clear();
  return {};
}

} // namespace girih::server
