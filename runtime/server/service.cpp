// SPDX-License-Identifier: Apache-2.0
// Service: names, counts and the order of shutting down.
#include "runtime/server/service.h"

#include "runtime/server/endpoints.h"

#include <algorithm>

namespace girih::server {

Service::Service(ServedModel model, ServiceOptions options) : served(std::move(model)), serviceOptions(std::move(options)) {
  GIRIH_CHECK(!served.names.empty() && served.engine);
}

Service::~Service() { shutDown(); }

std::optional<ApiError> Service::checkModelName(const std::string &name) const {
  if (name.empty() || std::find(served.names.begin(), served.names.end(), name) != served.names.end())
    return std::nullopt;
  std::string known;
  for (const std::string &servedName : served.names)
    known += (known.empty() ? "`" : ", `") + servedName + "`";
  return ApiError{404, "invalid_request_error", "model_not_found", "the model `" + name + "` does not exist here; this server has " + known, "model"};
}

void Service::answer(Exchange &exchange, HttpResponse response) {
  countAnswer(exchange.request(), response.status);
  exchange.respond(std::move(response));
}

void Service::countAnswer(const HttpRequest &request, int status) {
  // Paths that nobody serves share one row: a scanner must not grow the table.
  std::string path(routeName(request.path));
  std::lock_guard lock(countMutex);
  ++counts[{path, status}];
}

std::map<std::pair<std::string, int>, uint64_t> Service::answerCounts() const {
  std::lock_guard lock(countMutex);
  return counts;
}

void Service::cancel(engine::RequestId id) {
  std::shared_lock lock(engineMutex);
  if (served.engine)
    served.engine->cancel(id);
}

void Service::shutDown() {
  // Requests still being prepared are submitted (or refused) first; the engine then cancels all, and what it says
  // last is spoken before the speaker ends.
  preparingWorker.stop();
  std::unique_ptr<engine::Engine> endingEngine;
  {
    std::unique_lock lock(engineMutex);
    endingEngine = std::move(served.engine);
  }
  endingEngine.reset();
  speakingWorker.stop();
}

}  // namespace girih::server
