// SPDX-License-Identifier: Apache-2.0
// The table of endpoints, and what is decided before an endpoint runs: route, method and key.
#include "runtime/server/endpoints.h"

#include <algorithm>
#include <cctype>

namespace girih::server {
namespace {

// What all generating routes read, and what the two older ones of OpenAI have in common.
#define GIRIH_SAMPLING_FIELDS                                                                                          \
  "model stream temperature top_p top_k min_p repetition_penalty seed cache_salt prompt_cache_retention "              \
  "prompt_cache_options service_tier store "
#define GIRIH_RULE_FIELDS "presence_penalty frequency_penalty min_tokens logit_bias "
#define GIRIH_COMPLETION_FIELDS                                                                                        \
  GIRIH_SAMPLING_FIELDS GIRIH_RULE_FIELDS                                                                              \
  "stop stop_token_ids ignore_eos stream_options n best_of max_tokens max_completion_tokens logprobs response_format " \
  "structured_outputs "

// Probes of an orchestrator carry no key, so /health, /live and /ready say nothing worth one. Everything else is behind it.
constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", true, true, answerChatCompletions, "Answer a conversation",
     GIRIH_COMPLETION_FIELDS "messages tools tool_choice parallel_tool_calls top_logprobs chat_template_kwargs add_generation_prompt",
     R"({"messages": [{"role": "user", "content": "Hello!"}]})"},
    {"POST", "/v1/completions", true, true, answerCompletions, "Continue a text or token ids", GIRIH_COMPLETION_FIELDS "prompt echo suffix",
     R"({"prompt": "Once upon a time", "max_tokens": 32})"},
    {"POST", "/v1/responses", true, true, answerResponses, "Answer items, and keep the response",
     GIRIH_SAMPLING_FIELDS GIRIH_RULE_FIELDS "input instructions previous_response_id prompt max_output_tokens text tools tool_choice parallel_tool_calls metadata",
     R"({"input": "Hello!", "max_output_tokens": 64})"},
    {"GET", "/v1/responses/{id}/input_items", true, false, answerInputItems, "The input of a stored response", ""},
    {"GET", "/v1/responses/{id}", true, false, answerStoredResponse, "A stored response", ""},
    {"DELETE", "/v1/responses/{id}", true, false, answerStoredResponse, "Forget a stored response", ""},
    {"POST", "/v1/messages", true, true, answerMessages, "Answer a conversation in Anthropic's shape",
     GIRIH_SAMPLING_FIELDS "messages system max_tokens stop_sequences tools tool_choice output_config thinking cache_control metadata",
     R"({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64})"},
    {"POST", "/v1/messages/count_tokens", true, false, answerCountTokens, "How many tokens such a conversation has",
     "model messages system tools tool_choice", R"({"messages": [{"role": "user", "content": "Hello!"}]})"},
    {"POST", "/v1/files", true, false, answerFiles, "Keep a file", "file purpose", "", "multipart/form-data"},
    {"GET", "/v1/files", true, false, answerFiles, "The files of this key", ""},
    {"GET", "/v1/files/{id}/content", true, false, answerFileContent, "What is in a file", ""},
    {"GET", "/v1/files/{id}", true, false, answerFile, "A file", ""},
    {"DELETE", "/v1/files/{id}", true, false, answerFile, "Forget a file", ""},
    {"POST", "/v1/batches", true, false, answerBatches, "Answer a file of requests within a day",
     "input_file_id endpoint completion_window metadata"},
    {"GET", "/v1/batches", true, false, answerBatches, "The batches of this key", ""},
    {"POST", "/v1/batches/{id}/cancel", true, false, answerBatch, "End a batch; what was answered is kept", ""},
    {"GET", "/v1/batches/{id}", true, false, answerBatch, "A batch", ""},
    {"POST", "/v1/embeddings", true, true, answerEmbeddings, "Texts as vectors", "model input encoding_format dimensions",
     R"({"input": "Hello!"})"},
    {"POST", "/tokenize", true, false, answerTokenize, "Tokens of a text or of messages",
     "model prompt add_special_tokens return_token_strs messages tools", R"({"prompt": "Hello!"})"},
    {"POST", "/detokenize", true, false, answerDetokenize, "The text of tokens", "model tokens", R"({"tokens": [72, 105]})"},
    {"POST", "/apply-template", true, false, answerApplyTemplate, "Messages as the chat template writes them",
     "model messages tools tool_choice chat_template_kwargs add_generation_prompt", R"({"messages": [{"role": "user", "content": "Hello!"}]})"},
    {"GET", "/tokenizer_info", true, false, answerTokenizerInfo, "The tokenizer, for clients that render themselves", ""},
    {"GET", "/v1/models", true, false, answerModels, "The models that are served", ""},
    {"GET", "/v1/models/{model}", true, false, answerModels, "One of them", ""},
    {"GET", "/health", false, false, answerHealth, "Whether requests are taken", ""},
    {"GET", "/live", false, false, answerHealth, "Whether steps are made", ""},
    {"GET", "/ready", false, false, answerHealth, "Whether requests are taken", ""},
    {"GET", "/metrics", true, false, answerMetrics, "Counters, gauges and histograms for Prometheus", ""},
    {"GET", "/docs", true, false, answerDocs, "This list as a page", ""},
    {"GET", "/openapi.json", true, false, answerOpenApi, "This description", ""},
};

// The operator's, on a port of their own.
constexpr Route kAdminRoutes[] = {
    {"GET", "/ledger", false, false, answerLedger, "What each key used, in all runs", ""},
    {"POST", "/cache/clear", false, false, answerClearCache, "Forget all KV in memory that no sequence holds", ""},
    {"GET", "/metrics", false, false, answerMetrics, "Counters, gauges and histograms for Prometheus", ""},
    {"GET", "/health", false, false, answerHealth, "Whether requests are taken", ""},
    {"GET", "/live", false, false, answerHealth, "Whether steps are made", ""},
};

bool matches(std::string_view pattern, std::string_view path) {
  size_t brace = pattern.find('{');
  if (brace == std::string_view::npos)
    return pattern == path;
  std::string_view before = pattern.substr(0, brace), behind = pattern.substr(pattern.find('}') + 1);
  return path.size() > before.size() + behind.size() && path.starts_with(before) && path.ends_with(behind);
}

// The route of that method, or else any of the path; null: none.
const Route *findRoute(std::span<const Route> routes, std::string_view path, std::string_view method = {}) {
  const Route *found = nullptr;
  for (const Route &route : routes)
    if (matches(route.path, path)) {
      if (method.empty() || route.method == method || (method == "HEAD" && route.method == "GET"))
        return &route;
      found = found ? found : &route;
    }
  return found;
}

bool isAuthorized(const Service &service, const HttpRequest &request) {
  const ApiKeys &keys = service.options().keys;
  return !keys.areAskedFor() || keys.find(offeredKey(request));
}

// "name:port", "[::1]:port" and bare names; lower-case.
std::string hostName(std::string_view host) {
  size_t end = host.starts_with('[') ? host.find(']') : host.find(':');
  std::string name(host.substr(host.starts_with('[') ? 1 : 0, end == host.npos ? host.npos : end - (host.starts_with('[') ? 1 : 0)));
  for (char &letter : name)
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return name;
}

bool isListed(const std::vector<std::string> &list, std::string_view name) {
  return std::any_of(list.begin(), list.end(), [&](const std::string &entry) { return entry == "*" || entry == name; });
}

// A page elsewhere can make a browser ask this machine, under a name of its own (DNS rebinding) or its own origin. Addresses are no
// names, so they pass; programs send no origin.
std::optional<ApiError> findForeign(const ServiceOptions &options, const HttpRequest &request) {
  std::string host = hostName(request.host);
  bool isAddress = !host.empty() && host.find_first_not_of(host.find(':') == host.npos ? "0123456789." : "0123456789abcdef:.") == host.npos;
  if (!host.empty() && !isAddress && host != "localhost" && !isListed(options.allowedHosts, host))
    return ApiError{421, "invalid_request_error", "foreign_host", "this server does not answer to the name `" + host.substr(0, 100) + "`; start it with --allow-host to let it", "", 1};
  size_t scheme = request.origin.find("://");
  bool isOwn = scheme != request.origin.npos && request.origin.substr(scheme + 3) == request.host;
  if (!request.origin.empty() && !isOwn && !isListed(options.allowedOrigins, request.origin))
    return ApiError{403, "invalid_request_error", "foreign_origin", "scripts of " + request.origin.substr(0, 100) + " may not ask this server; start it with --cors-origin to let them", "", 1};
  return std::nullopt;
}

bool isAllowedOrigin(const ServiceOptions &options, const HttpRequest &request) {
  return !request.origin.empty() && isListed(options.allowedOrigins, request.origin);
}

// What a browser asks before a script of an allowed page may ask.
HttpResponse preflightAnswer(const HttpRequest &request) {
  HttpResponse response;
  response.status = 204;
  response.headers = {{"access-control-allow-origin", request.origin},
                      {"access-control-allow-methods", "GET, POST, DELETE"},
                      {"access-control-allow-headers", "authorization, content-type, x-api-key, anthropic-version"},
                      {"access-control-max-age", "3600"},
                      {"vary", "origin"}};
  return response;
}

bool isOfType(std::string_view contentType, std::string_view wanted) {
  std::string_view kind = contentType.substr(0, contentType.find(';'));
  while (kind.ends_with(' '))
    kind.remove_suffix(1);
  return kind == wanted;
}

std::optional<ApiError> findRefusal(const Service &service, std::span<const Route> routes, const HttpRequest &request) {
  if (auto foreign = findForeign(service.options(), request))
    return foreign;
  const Route *route = findRoute(routes, request.path, request.method);
  bool needsKey = !route || route->needsKey;
  if (needsKey && !isAuthorized(service, request))
    return ApiError{401, "authentication_error", "invalid_api_key", "the request's API key is missing or wrong; send `Authorization: Bearer KEY`", "", 1};
  if (!route) {
    std::string known;
    for (const Route &row : routes)
      known += (known.empty() ? "" : ", ") + std::string(row.path);
    return ApiError{404, "invalid_request_error", "unknown_url", "there is nothing at " + request.path.substr(0, 100) + "; this server answers " + known, "", 1};
  }
  bool methodFits = request.method == route->method || (request.method == "HEAD" && route->method == "GET");
  if (!methodFits)
    return ApiError{405, "invalid_request_error", "method_not_allowed", std::string(route->path) + " takes " + std::string(route->method) + ", not " + request.method.substr(0, 20), "", 1};
  // A form of a foreign page can be sent without asking, but not as JSON.
  if (route->method == "POST" && !request.contentType.empty() && !isOfType(request.contentType, route->bodyType))
    return ApiError{415, "invalid_request_error", "unsupported_media_type", "the body is declared as `" + request.contentType.substr(0, 100) + "`; this route takes " + std::string(route->bodyType), "", 1};
  return std::nullopt;
}

HttpResponse refusalOf(int status, std::string_view message) {
  const char *code = status == 413 ? "request_too_large" : status == 431 ? "headers_too_large" : status == 503 ? "overloaded" : "invalid_http";
  return errorResponse({status, status == 503 ? "unavailable_error" : "invalid_request_error", code, std::string(message), "", 1}, {});
}

}  // namespace

std::span<const Route> allRoutes() { return kRoutes; }

std::string_view routeName(std::string_view path) {
  const Route *route = findRoute(kRoutes, path);
  return route ? route->path : "other";
}

namespace {

void answerAt(std::span<const Route> routes, Service &service, std::shared_ptr<Exchange> exchange) {
  const HttpRequest &request = exchange->request();
  const Route *route = findRoute(routes, request.path, request.method);  // screen() let it pass
  // The body has been read, so that the client sees the answer; it has not been looked at.
  if (route->generates && !request.batchClient)
    if (auto overload = service.findOverload(request.body.size())) {
      ++service.numRejected;
      return service.answerError(*exchange, *overload);
    }
  route->answer(service, std::move(exchange));
}

HttpHandlers handlersOf(Service &service, std::span<const Route> routes) {
  HttpHandlers handlers;
  handlers.screen = [&service, routes](const HttpRequest &request) -> std::optional<HttpResponse> {
    auto refusal = findRefusal(service, routes, request);
    if (request.method == "OPTIONS" && isAllowedOrigin(service.options(), request) && !findForeign(service.options(), request))
      return preflightAnswer(request);
    if (!refusal)
      return std::nullopt;
    service.countAnswer(request, refusal->status);
    return errorResponse(*refusal, request);
  };
  handlers.handle = [&service, routes](std::shared_ptr<Exchange> exchange) { answerAt(routes, service, std::move(exchange)); };
  handlers.refuse = refusalOf;
  handlers.headersFor = [&service](const HttpRequest &request) -> HttpHeaders {
    if (!isAllowedOrigin(service.options(), request))
      return {};
    return {{"access-control-allow-origin", request.origin}, {"access-control-expose-headers", "x-request-id, x-girih-ignored, retry-after"}, {"vary", "origin"}};
  };
  return handlers;
}

}  // namespace

HttpHandlers makeHandlers(Service &service) {
  HttpHandlers handlers = handlersOf(service, kRoutes);
  handlers.bodyLimit = [](const HttpRequest &request) { return request.path == "/v1/files" ? kMaxUploadBytes : HttpLimits().maxBodyBytes; };
  handlers.drainBegins = [&service] { service.isDraining = true; };
  return handlers;
}

HttpHandlers makeAdminHandlers(Service &service) { return handlersOf(service, kAdminRoutes); }

bool isBatchEndpoint(std::string_view path) {
  const Route *route = findRoute(kRoutes, path, "POST");
  return route && route->path == path && route->generates;
}

void answerInternally(Service &service, std::shared_ptr<Exchange> exchange) {
  if (service.options().dispatch)
    return service.options().dispatch(std::move(exchange));
  answerRequest(service, std::move(exchange));
}

void answerRequest(Service &service, std::shared_ptr<Exchange> exchange) { answerAt(kRoutes, service, std::move(exchange)); }

// Bodies of these routes name one; what was stored is forgotten where it was computed.
bool isOfOneModel(const HttpRequest &request) {
  const Route *route = findRoute(kRoutes, request.path, request.method);
  return route && (route->fields.starts_with("model ") || route->answer == answerTokenizerInfo ||
                   (route->answer == answerStoredResponse && request.method == "DELETE"));
}

void prepare(Service &service, const std::shared_ptr<Exchange> &exchange, std::function<void()> task) {
  uint64_t numBytes = exchange->request().body.size();
  if (numBytes <= service.options().largeBodyBytes)
    return task();
  // Counted until it is in the engine's queue: many large bodies at once must not all be let in.
  service.preparingTokens += estimateTokens(numBytes);
  service.preparer().post([&service, numBytes, task = std::move(task)] {
    task();
    service.preparingTokens -= estimateTokens(numBytes);
  });
}

}  // namespace girih::server
