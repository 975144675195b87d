// SPDX-License-Identifier: Apache-2.0
// Service: the model that is served and the threads that do its text work; what every endpoint is given.
#pragma once

#include "runtime/engine/engine.h"
#include "runtime/server/api_keys.h"
#include "runtime/server/api_types.h"
#include "runtime/server/file_store.h"
#include "runtime/server/grammar_store.h"
#include "runtime/server/ledger.h"
#include "runtime/server/named_prompts.h"
#include "runtime/server/request_log.h"
#include "runtime/server/response_store.h"
#include "runtime/server/serial_worker.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tool_format.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

namespace girih::server {

class BatchRunner;

// Of what nobody waits for: below whatever a key may be granted.
inline constexpr int32_t kBackgroundPriority = -1000;

struct ServedModel {
  std::vector<std::string> names;  // what `model` may say; the first one is reported. At least one
  int64_t createdSeconds = 0;      // Unix time
  std::optional<Tokenizer> tokenizer;        // absent: only prompts of token ids, and answers without text
  std::optional<ChatTemplate> chatTemplate;  // absent: no chat completions
  std::string templateText;  // its source, for clients that render themselves
  std::string bosText, eosText;
  ToolFormat toolFormat;  // found by the service
  std::vector<int32_t> stopTokens;
  std::string programId;  // whose tokens are stored: the program's digest
  program::GenerationDefaults generation;
  std::unique_ptr<engine::Engine> engine;
};

class Service;

struct ServiceOptions {
  ApiKeys keys;  // none: nobody is asked for one
  size_t maxActiveRequests = 1024;  // waiting and running; more are answered with 429
  uint64_t maxQueuedTokens = 0;  // of prompts that wait, estimated from their bytes before they are read; 0: no bound
  std::chrono::milliseconds requestTimeout{0};  // from the first byte of a body to the last token; 0: none
  uint32_t maxKeepSeconds = 24 * 3600;  // longest time that a request may ask its prompt to be kept
  std::vector<std::string> allowedHosts;    // names besides those of this machine that `Host` may say; "*": any
  std::vector<std::string> allowedOrigins;  // pages whose scripts may ask; "*": any
  size_t maxBatchRequests = 64;  // of batches, that wait or run at a time
  std::shared_ptr<StateFolder> state;  // null: what is stored ends with the process
  std::FILE *logFile = nullptr;  // a line for each generation; null: none
  bool vllmMetricNames = false;  // /metrics says the main figures under vLLM's names too
  // Where there are several models (ModelFleet): of a model's service the one that keeps what is no model's. Outlives it.
  Service *front = nullptr;
  // And of that one, which has no model itself, who answers the lines of batches.
  std::function<void(std::shared_ptr<Exchange>)> dispatch;
  size_t largeBodyBytes = 32 * 1024;  // larger bodies are parsed and tokenized off the sockets' thread
};

// What a client is told of an end that is no answer; nothing: it is one.
std::optional<ApiError> errorOf(engine::FinishReason reason, const Status &status);

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
  GrammarStore &grammars() { return grammarStore; }
  ResponseStore &responses() { return keeper().responseStore; }
  NamedPrompts &prompts() { return namedPrompts; }
  FileStore &files() { return keeper().fileStore; }
  BatchRunner &batches() { return *keeper().batchRunner; }
  const Ledger &ledger() const { return *keeper().usedLedger; }
  // Into the ledger, before the answer is given.
  void meter(const Client &client, UsedBy by, const Used &used) { keeper().usedLedger->add(client.identity, by, used); }
  // What the cache kept for each client since the last time. Does nothing once the engine is gone.
  void meterRetained();
  // By name; of keys that are no longer served by a part of their digest.
  std::vector<std::pair<std::string, UsedInAll>> usedByClient() const;
  // Runs the task on the thread that compiles grammars; false: too many wait for it.
  bool compileLater(std::function<void()> task);

  // Null when `name` is served (an empty name is), else the 404 that lists what is.
  std::optional<ApiError> checkModelName(const std::string &name) const;

  // Who asks. Requires: screened, so that a key that is asked for is one of ours.
  const Client &clientOf(const HttpRequest &request) const;
  // How long the request may take; 0: as long as it likes.
  std::chrono::milliseconds timeFor(const HttpRequest &request) const;
  // An engine's request without its prompt: for whom, how urgent, in which part of the cache, and until when.
  engine::Request requestOf(const HttpRequest &request, engine::Clock::time_point received) const;
  // Room for a generation whose body has so many bytes, before any of them is looked at: null, or the 429.
  std::optional<ApiError> findOverload(size_t bodyBytes);
  // A 429 that says when the queue will have moved.
  ApiError overloaded(std::string message) const;
  void log(const HttpRequest &request, const GenerationRecord &record) { keeper().requestLog.write(request, record); }

  // True when there is something to do and no step has ended for a long time.
  bool isStuck() const;

  // Answers and counts the answer.
  void answer(Exchange &exchange, HttpResponse response);
  void answerError(Exchange &exchange, const ApiError &error) { answer(exchange, errorResponse(error, exchange.request())); }
  void countAnswer(const HttpRequest &request, int status);
  std::map<std::pair<std::string, int>, uint64_t> answerCounts() const;

  std::atomic<bool> isDraining = false;
  std::atomic<uint64_t> numActive = 0;        // generations between submit and their end
  std::atomic<uint64_t> numClientsGone = 0;   // generations that their client left
  std::atomic<uint64_t> numRejected = 0;      // answered with 429 before they were read
  std::atomic<uint64_t> preparingTokens = 0;  // of accepted bodies that are not in the engine yet, by estimate

  // Cancels every generation and waits until each has been answered or dropped.
  void shutDown();

private:
  Service &keeper() { return serviceOptions.front ? *serviceOptions.front : *this; }
  const Service &keeper() const { return serviceOptions.front ? *serviceOptions.front : *this; }
  // Null for a service that keeps nothing of its own.
  std::shared_ptr<StateFolder> ownState() const { return serviceOptions.front ? nullptr : serviceOptions.state; }
  std::vector<int32_t> warmPrompt(const NamedPrompt &prompt);
  void watchRetained();

  ServedModel served;
  const ServiceOptions serviceOptions;
  std::shared_mutex engineMutex;  // cancel() against shutDown()
  mutable std::mutex countMutex;
  std::map<std::pair<std::string, int>, uint64_t> counts;  // by path and status
  RequestLog requestLog;
  SerialWorker speakingWorker;
  SerialWorker preparingWorker;
  GrammarStore grammarStore;
  ResponseStore responseStore;
  NamedPrompts namedPrompts;
  FileStore fileStore;
  std::unique_ptr<Ledger> usedLedger;
  std::mutex retainedMutex;  // guards the four below
  std::vector<uint64_t> meteredByteSeconds;  // by client
  std::condition_variable retainedChanged;
  bool isStopping = false;
  std::thread retainedThread;
  std::atomic<uint32_t> numCompiling = 0;
  SerialWorker compilingWorker;
  std::unique_ptr<BatchRunner> batchRunner;
};

}  // namespace girih::server
