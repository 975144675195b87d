// SPDX-License-Identifier: Apache-2.0
// GET /health and /ready: 200 while requests are taken, 503 while draining. GET /live: 200 while steps are made.
#include "runtime/server/endpoints.h"

namespace girih::server {

void answerHealth(Service &service, std::shared_ptr<Exchange> exchange) {
  bool asksForLife = exchange->request().path == "/live";
  HttpResponse response;
  std::string_view state = "ok";
  if (asksForLife && service.isStuck())
    state = "stuck";
  else if (!asksForLife && service.isDraining)
    state = "draining";
  response.status = state == "ok" ? 200 : 503;
  response.body = "{\"status\":\"" + std::string(state) + "\"}";
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
