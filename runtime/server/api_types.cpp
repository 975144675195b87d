// SPDX-License-Identifier: Apache-2.0
// OpenAI error bodies and the table from Status codes to HTTP.
#include "runtime/server/api_types.h"

#include "runtime/base/json.h"

namespace girih::server {
namespace {

struct HttpMeaning {
  StatusCode status;
  int httpStatus;
  const char *type;
  const char *code;
};

// OutOfRange is what the engine says of a prompt beyond the context, ResourceExhausted of a full queue.
constexpr HttpMeaning kHttpMeanings[] = {
    {StatusCode::InvalidArgument, 400, "invalid_request_error", "invalid_value"},
    {StatusCode::NotFound, 404, "invalid_request_error", "not_found"},
    {StatusCode::FailedPrecondition, 400, "invalid_request_error", "failed_precondition"},
    {StatusCode::OutOfRange, 400, "invalid_request_error", "context_length_exceeded"},
    {StatusCode::ResourceExhausted, 429, "rate_limit_error", "queue_full"},
    {StatusCode::Unimplemented, 400, "invalid_request_error", "unsupported"},
    {StatusCode::Unavailable, 503, "unavailable_error", "unavailable"},
    {StatusCode::Cancelled, 503, "unavailable_error", "cancelled"},
    {StatusCode::DataLoss, 500, "server_error", "data_loss"},
    {StatusCode::Internal, 500, "server_error", "internal_error"},
};

// What Anthropic calls the errors of a status.
std::string_view anthropicErrorType(int status) {
  switch (status) {
  case 401: return "authentication_error";
  case 403: return "permission_error";
  case 404: return "not_found_error";
  case 408: return "timeout_error";
  case 413: return "request_too_large";
  case 429: return "rate_limit_error";
  case 503: return "overloaded_error";
  default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

void textOrNull(JsonWriter &writer, std::string_view name, const std::string &text) {
  writer.key(name);
  if (text.empty())
    writer.null();
  else
    writer.value(text);
}

}  // namespace

ApiError invalidField(std::string param, std::string message, std::string code) {
  return {400, "invalid_request_error", std::move(code), std::move(message), std::move(param), 1};
}

ApiError apiErrorOf(const Status &status) {
  for (const HttpMeaning &meaning : kHttpMeanings)
    if (meaning.status == status.code())
      return {meaning.httpStatus, meaning.type, meaning.code, std::string(status.message()), "", 1};
  return {500, "server_error", "internal_error", std::string(status.message()), "", 1};
}

std::string errorBody(const ApiError &error) {
  JsonWriter writer;
  writer.beginObject().key("error").beginObject();
  writer.member("message", error.message).member("type", error.type);
  textOrNull(writer, "param", error.param);
  textOrNull(writer, "code", error.code);
  writer.endObject().endObject();
  return writer.take();
}

std::string anthropicErrorBody(const ApiError &error, const std::string &requestId) {
  JsonWriter writer;
  writer.beginObject().member("type", "error").key("error").beginObject();
  writer.member("type", anthropicErrorType(error.status)).member("message", error.message).endObject();
  textOrNull(writer, "request_id", requestId);
  return writer.endObject().take();
}

bool isAnthropicPath(std::string_view path) { return path == "/v1/messages" || path.starts_with("/v1/messages/"); }

HttpHeaders ignoredHeaders(const std::vector<std::string> &ignoredNames) {
  std::string joined;
  for (const std::string &name : ignoredNames)
    joined += (joined.empty() ? "" : ",") + name;
  return joined.empty() ? HttpHeaders() : HttpHeaders{{"x-girih-ignored", joined}};
}

HttpResponse errorResponse(const ApiError &error, const HttpRequest &request) {
  HttpResponse response;
  response.status = error.status;
  response.body = isAnthropicPath(request.path) ? anthropicErrorBody(error, request.requestId) : errorBody(error);
  if (error.status == 429 || error.status == 503)
    response.headers = {{"retry-after", std::to_string(error.retryAfterSeconds)}};
  else if (error.status >= 500 || error.status == 408)
    response.headers = {{"x-should-retry", "false"}};  // the same request would fail the same way
  if (error.status == 401)
    response.headers.emplace_back("www-authenticate", "Bearer");
  return response;
}

}  // namespace girih::server
