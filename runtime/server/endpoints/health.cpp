// SPDX-License-Identifier: Apache-2.0
// GET /health: 200 while requests are taken, 503 while draining.
#include "runtime/server/endpoints.h"

namespace girih::server {

void answerHealth(Service &service, std::shared_ptr<Exchange> exchange) {
  HttpResponse response;
  response.status = service.isDraining ? 503 : 200;
  response.body = service.isDraining ? R"({"status":"draining"})" : R"({"status":"ok"})";
  service.answer(*exchange, std::move(response));
}

}  // namespace girih::server
