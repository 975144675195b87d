// SPDX-License-Identifier: Apache-2.0
// Service: the model that is served and the threads that do its text work; what every endpoint is given.
#pragma once

#include "runtime/engine/engine.h"
#include "runtime/server/api_types.h"
#include "runtime/server/serial_worker.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

namespace girih::server {

struct ServedModel {
  std::vector<std::string> names;  // what `model` may say; the first one is reported. At least one
  int64_t createdSeconds = 0;      // Unix time
  std::optional<Tokenizer> tokenizer;        // absent: only prompts of token ids, and answers without text
  std::optional<ChatTemplate> chatTemplate;  // absent: no chat completions
  std::vector<int32_t> stopTokens;
  program::GenerationDefaults generation;
  std::unique_ptr<engine::Engine> engine;
};

struct ServiceOptions {
  std::string apiKey;  // empty: none is asked for
  size_t maxActiveRequests = 1024;  // waiting and running; more are answered with 429
  size_t largeBodyBytes = 32 * 1024;  // larger bodies are parsed and tokenized off the sockets' thread
};

// Thread-safe. Must be shut down before the HttpServer whose exchanges it answers is destroyed.
class Service {
public:
  Service(ServedModel model, ServiceOptions options);
  ~Service();

  const ServedModel &model() const { return served; }
  // Requires: not shut down; called by a task of the preparer, or on the sockets' thread.
  engine::Engine &engine() { return *served.engine; }
  const ServiceOptions &options() const { return serviceOptions; }
  // Does nothing once the engine is gone, which ends every request itself.
  void cancel(engine::RequestId id);
  // Turns generated tokens into text and events.
  SerialWorker &speaker() { return speakingWorker; }
  // Parses and tokenizes large requests.
  SerialWorker &preparer() { return preparingWorker; }

  // Null when `name` is served (an empty name is), else the 404 that lists what is.
  std::optional<ApiError> checkModelName(const std::string &name) const;

  // Answers and counts the answer.
  void answer(Exchange &exchange, HttpResponse response);
  void answerError(Exchange &exchange, const ApiError &error) { answer(exchange, errorResponse(error)); }
  void countAnswer(const HttpRequest &request, int status);
  std::map<std::pair<std::string, int>, uint64_t> answerCounts() const;

  std::atomic<bool> isDraining = false;
  std::atomic<uint64_t> numActive = 0;        // generations between submit and their end
  std::atomic<uint64_t> numClientsGone = 0;   // generations that their client left

  // Cancels every generation and waits until each has been answered or dropped.
  void shutDown();

private:
  ServedModel served;
  const ServiceOptions serviceOptions;
  std::shared_mutex engineMutex;  // cancel() against shutDown()
  mutable std::mutex countMutex;
  std::map<std::pair<std::string, int>, uint64_t> counts;  // by path and status
  SerialWorker speakingWorker;
  SerialWorker preparingWorker;
};

}  // namespace girih::server
