// SPDX-License-Identifier: Apache-2.0
// The table of endpoints, and what is decided before an endpoint runs: route, method and key.
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

struct Route {
  std::string_view method;
  std::string_view path;  // ends with '/' and a name in braces where one more segment is part of the route
  bool needsKey;
  void (*answer)(Service &, std::shared_ptr<Exchange>);
};

// Probes of an orchestrator carry no key, so /health says nothing worth one. Everything else is behind it.
constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", true, answerChatCompletions},
    {"POST", "/v1/completions", true, answerCompletions},
    {"GET", "/v1/models", true, answerModels},
    {"GET", "/v1/models/{model}", true, answerModels},
    {"GET", "/health", false, answerHealth},
    {"GET", "/metrics", true, answerMetrics},
};

bool matches(std::string_view pattern, std::string_view path) {
  size_t brace = pattern.find('{');
  if (brace == std::string_view::npos)
    return pattern == path;
  return path.size() > brace && path.substr(0, brace) == pattern.substr(0, brace);
}

const Route *findRoute(std::string_view path) {
  for (const Route &route : kRoutes)
    if (matches(route.path, path))
      return &route;
  return nullptr;
}

// Compares every byte whatever differs first, so that the time says nothing about the key.
bool equalsInConstantTime(std::string_view offered, std::string_view expected) {
  unsigned difference = offered.size() == expected.size() ? 0 : 1;
  for (size_t index = 0; index < expected.size(); ++index)
    difference |= static_cast<unsigned char>(expected[index]) ^
                  (index < offered.size() ? static_cast<unsigned char>(offered[index]) : 0xFFu);
  return difference == 0;
}

bool isAuthorized(const HttpRequest &request, const std::string &apiKey) {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view offered = request.authorization;
  if (offered.size() < kScheme.size())
    return apiKey.empty();
  for (size_t index = 0; index < kScheme.size(); ++index)
    if ((offered[index] | 0x20) != (kScheme[index] | 0x20))
      return apiKey.empty();
  return apiKey.empty() || equalsInConstantTime(offered.substr(kScheme.size()), apiKey);
}

std::optional<ApiError> findRefusal(const Service &service, const HttpRequest &request) {
  const Route *route = findRoute(request.path);
  bool needsKey = !route || route->needsKey;
  if (needsKey && !isAuthorized(request, service.options().apiKey))
    return ApiError{401, "authentication_error", "invalid_api_key", "the request's API key is missing or wrong; send `Authorization: Bearer KEY`", ""};
  if (!route) {
    std::string known;
    for (const Route &row : kRoutes)
      known += (known.empty() ? "" : ", ") + std::string(row.path);
    return ApiError{404, "invalid_request_error", "unknown_url", "there is nothing at " + request.path.substr(0, 100) + "; this server answers " + known, ""};
  }
  bool methodFits = request.method == route->method || (request.method == "HEAD" && route->method == "GET");
  if (!methodFits)
    return ApiError{405, "invalid_request_error", "method_not_allowed", std::string(route->path) + " takes " + std::string(route->method) + ", not " + request.method.substr(0, 20), ""};
  return std::nullopt;
}

HttpResponse refusalOf(int status, std::string_view message) {
  const char *code = status == 413 ? "request_too_large" : status == 431 ? "headers_too_large" : status == 503 ? "overloaded" : "invalid_http";
  return errorResponse({status, status == 503 ? "unavailable_error" : "invalid_request_error", code, std::string(message), ""});
}

}  // namespace

std::string_view routeName(std::string_view path) {
  const Route *route = findRoute(path);
  return route ? route->path : "other";
}

HttpHandlers makeHandlers(Service &service) {
  HttpHandlers handlers;
  handlers.screen = [&service](const HttpRequest &request) -> std::optional<HttpResponse> {
    auto refusal = findRefusal(service, request);
    if (!refusal)
      return std::nullopt;
    service.countAnswer(request, refusal->status);
    return errorResponse(*refusal);
  };
  handlers.handle = [&service](std::shared_ptr<Exchange> exchange) {
    findRoute(exchange->request().path)->answer(service, std::move(exchange));  // screen() let it pass
  };
  handlers.refuse = refusalOf;
  handlers.drainBegins = [&service] { service.isDraining = true; };
  return handlers;
}

void prepare(Service &service, const std::shared_ptr<Exchange> &exchange, std::function<void()> task) {
  if (exchange->request().body.size() > service.options().largeBodyBytes)
    service.preparer().post(std::move(task));
  else
    task();
}

}  // namespace girih::server
