// SPDX-License-Identifier: Apache-2.0
// ModelFleet: several models behind one server, each loaded when it is asked for, as many at a time as memory holds.
#pragma once

#include "runtime/server/endpoints.h"

#include <deque>

namespace girih::server {

// One that can be loaded.
struct FleetModel {
  std::string name;
  std::string programId;      // ServedModel::programId
  int64_t createdSeconds = 0; // Unix time
  uint32_t contextTokens = 0;
  uint64_t numBytes = 0; // that it takes when it is loaded: weights and KV
};

struct FleetOptions {
  ServiceOptions service;
  uint64_t memoryBytes = 0; // of all that are loaded; one alone is loaded whatever it takes; 0: no bound
  size_t maxWaiting = 1024; // requests for models that are not loaded; more are answered with 429
  // A model stays at least so many times what loading it took before another that is waited for takes its place, and a busy
  // one so long: two that are asked for by turns share the time and do not spend it on being loaded.
  double leastStayPerLoad = 4.0;
  std::chrono::milliseconds leastStay{2000};
};

struct FleetCounts {
  uint64_t numLoads = 0, numUnloads = 0, numFailedLoads = 0;
  size_t numWaiting = 0;
  uint64_t numBytes = 0;
};

// What is no model's (files, batches, responses, the ledger, counts of answers) is kept by one service without a model,
// the front; each loaded model has a service of its own behind it. A request holds its model until it is answered: one
// that is held is never unloaded. Requests for a model that is not there wait for it, in order; among models the one goes
// first whose request waits longest. Where room is needed, the idle one goes that was used longest ago; where none is idle,
// the least recently used one takes no new requests and goes when it has answered its last.
// Thread-safe. Must outlive the HttpServer whose exchanges it answers, and be shut down before that is destroyed.
class ModelFleet {
public:
  // Called on a thread of the fleet.
  using Loader = std::function<Expected<ServedModel>(const FleetModel &)>;
  // Requires: names differ, and there is one at least.
  ModelFleet(std::vector<FleetModel> models, Loader loader, FleetOptions options);
  ~ModelFleet();

  HttpHandlers handlers();
  HttpHandlers adminHandlers();
  Service &front() { return *frontService; }
  FleetCounts counts() const;
  bool isLoaded(std::string_view name) const;
  // Answers who waits, ends who runs. Nothing is loaded any more.
  void shutDown();

private:
  struct Member;
  struct Waiting {
    std::shared_ptr<Exchange> exchange;
    std::chrono::steady_clock::time_point since;
  };
  void answer(std::shared_ptr<Exchange> exchange);
  void answerByName(const std::shared_ptr<Exchange> &exchange);
  ApiResult<Member *> memberFor(const HttpRequest &request);
  ApiError noSuchModel(const std::string &name) const;
  void enter(Member &member, std::shared_ptr<Exchange> exchange);
  std::shared_ptr<Service> leaseOf(Member &member);
  void release(Member &member);
  void answerModels(Exchange &exchange) const;
  void answerMetrics(Exchange &exchange);
  void clearCaches(Exchange &exchange);
  void work();
  Member *longestWaiting();
  Member *nextToGo();
  bool hasRoomFor(const Member &member) const;
  void load(std::unique_lock<std::mutex> &lock, Member &member);
  void unload(std::unique_lock<std::mutex> &lock, Member &member);

  const Loader loader;
  const FleetOptions options;
  std::vector<std::unique_ptr<Member>> members;
  mutable std::mutex mutex; // guards the members and all below
  std::condition_variable changed;
  FleetCounts counters;
  bool isStopping = false;
  std::unique_ptr<Service> frontService;
  std::thread thread;
};

} // namespace girih::server
