// SPDX-License-Identifier: Apache-2.0
// The endpoints: one row each in the table of endpoints.cpp, one file each in endpoints/.
#pragma once

#include "runtime/server/service.h"

#include <span>

namespace girih::server {

// Answer now, or keep the exchange and answer later. Called on the sockets' thread.
void answerChatCompletions(Service &service, std::shared_ptr<Exchange> exchange);
void answerCompletions(Service &service, std::shared_ptr<Exchange> exchange);
void answerMessages(Service &service, std::shared_ptr<Exchange> exchange);
void answerCountTokens(Service &service, std::shared_ptr<Exchange> exchange);
void answerTokenize(Service &service, std::shared_ptr<Exchange> exchange);
void answerDetokenize(Service &service, std::shared_ptr<Exchange> exchange);
void answerApplyTemplate(Service &service, std::shared_ptr<Exchange> exchange);
void answerTokenizerInfo(Service &service, std::shared_ptr<Exchange> exchange);
void answerResponses(Service &service, std::shared_ptr<Exchange> exchange);
void answerStoredResponse(Service &service, std::shared_ptr<Exchange> exchange);
void answerInputItems(Service &service, std::shared_ptr<Exchange> exchange);
void answerEmbeddings(Service &service, std::shared_ptr<Exchange> exchange);
void answerFiles(Service &service, std::shared_ptr<Exchange> exchange);
void answerFile(Service &service, std::shared_ptr<Exchange> exchange);
void answerFileContent(Service &service, std::shared_ptr<Exchange> exchange);
void answerBatches(Service &service, std::shared_ptr<Exchange> exchange);
void answerBatch(Service &service, std::shared_ptr<Exchange> exchange);
void answerLedger(Service &service, std::shared_ptr<Exchange> exchange);
void answerClearCache(Service &service, std::shared_ptr<Exchange> exchange);
void answerDocs(Service &service, std::shared_ptr<Exchange> exchange);
void answerOpenApi(Service &service, std::shared_ptr<Exchange> exchange);
void answerModels(Service &service, std::shared_ptr<Exchange> exchange);
void answerHealth(Service &service, std::shared_ptr<Exchange> exchange);
void answerMetrics(Service &service, std::shared_ptr<Exchange> exchange);

// What /v1/models says of one.
struct ModelFacts {
  std::string name;
  int64_t createdSeconds = 0; // Unix time
  uint32_t contextTokens = 0;
};
struct UnknownName {
  std::string name;
};
// The list, or the one that the path names.
std::variant<std::string, UnknownName> describeModels(std::span<const ModelFacts> models,
                                                      std::string_view path);

// What /metrics says of a model.
struct ModelFigures {
  std::string name;
  engine::EngineStats stats;
  uint64_t numActive = 0, numClientsGone = 0, numRejected = 0;
};
// Requires: the service has a model and is not shut down.
ModelFigures figuresOf(Service &service);

// And of several.
struct ModelLoad {
  std::string name;
  size_t numWaiting = 0;               // requests, until it is loaded
  std::optional<ModelFigures> figures; // where it is
};
struct FleetCounters {
  uint64_t numLoads = 0, numUnloads = 0, numFailedLoads = 0, numBytes = 0;
};
std::string fleetMetrics(Service &front, const FleetCounters &counters, std::span<const ModelLoad> models);

struct Route {
  std::string_view method;
  std::string_view path; // a name in braces stands for a part of any text
  bool needsKey;
  bool generates; // tokens: asks for room in the queue first
  void (*answer)(Service &, std::shared_ptr<Exchange>);
  std::string_view summary;
  std::string_view fields;       // of the body, for /openapi.json
  std::string_view example = {}; // a body
  std::string_view bodyType = "application/json";
};
std::span<const Route> allRoutes();

// The table's name of a path ("/v1/models/{model}"), or "other".
std::string_view routeName(std::string_view path);

// Routing, authorization and refusals, for HttpServer. `service` must outlive the server's run().
HttpHandlers makeHandlers(Service &service);
// The same for the operator's own port, which asks for no key and must listen on this machine alone.
HttpHandlers makeAdminHandlers(Service &service);
// The largest body of any route, for HttpLimits::maxUploadBytes.
inline constexpr size_t kMaxUploadBytes = kMaxFileBytes + 64 * 1024;

// True for the routes that a batch's lines may name.
bool isBatchEndpoint(std::string_view path);
// A line of a batch: routed, but neither screened nor counted against the queue. Requires: isBatchEndpoint().
void answerInternally(Service &service, std::shared_ptr<Exchange> exchange);

// True for what only a model can answer.
bool isOfOneModel(const HttpRequest &request);
// What HttpHandlers::handle does with a screened request, and with a line of a batch. Requires: routed.
void answerRequest(Service &service, std::shared_ptr<Exchange> exchange);

// Runs `task` at once for small bodies, else on the preparer's thread: a long prompt must not hold up other streams.
void prepare(Service &service, const std::shared_ptr<Exchange> &exchange, std::function<void()> task);

} // namespace girih::server
