// SPDX-License-Identifier: Apache-2.0
// Status: codes, messages and context.
#include "runtime/base/status.h"

#include <cstdio>
#include <cstdlib>

namespace girih {

std::string_view statusCodeName(StatusCode code) {
  switch (code) {
  case StatusCode::Ok: return "ok";
  case StatusCode::InvalidArgument: return "invalid argument";
  case StatusCode::NotFound: return "not found";
  case StatusCode::FailedPrecondition: return "failed precondition";
  case StatusCode::OutOfRange: return "out of range";
  case StatusCode::ResourceExhausted: return "resource exhausted";
  case StatusCode::Unimplemented: return "unimplemented";
  case StatusCode::Unavailable: return "unavailable";
  case StatusCode::Cancelled: return "cancelled";
  case StatusCode::DataLoss: return "data loss";
  case StatusCode::Internal: return "internal";
  }
  return "unknown";
}

Status::Status(StatusCode code, std::string message) {
  if (code != StatusCode::Ok)
    payload = std::make_unique<Payload>(Payload{code, std::move(message)});
}

Status Status::withContext(std::string_view context) && {
  if (payload)
    payload->message = std::string(context) + ": " + payload->message;
  return std::move(*this);
}

Status invalidArgument(std::string message) { return {StatusCode::InvalidArgument, std::move(message)}; }
Status notFound(std::string message) { return {StatusCode::NotFound, std::move(message)}; }
Status failedPrecondition(std::string message) { return {StatusCode::FailedPrecondition, std::move(message)}; }
Status outOfRange(std::string message) { return {StatusCode::OutOfRange, std::move(message)}; }
Status resourceExhausted(std::string message) { return {StatusCode::ResourceExhausted, std::move(message)}; }
Status unimplemented(std::string message) { return {StatusCode::Unimplemented, std::move(message)}; }
Status unavailable(std::string message) { return {StatusCode::Unavailable, std::move(message)}; }
Status cancelled(std::string message) { return {StatusCode::Cancelled, std::move(message)}; }
Status dataLoss(std::string message) { return {StatusCode::DataLoss, std::move(message)}; }
Status internalError(std::string message) { return {StatusCode::Internal, std::move(message)}; }

void checkFailed(const char *file, int line, const char *condition) {
  std::fprintf(stderr, "girih: internal error at %s:%d: `%s` does not hold; please report this\n", file, line, condition);
  std::abort();
}

}  // namespace girih
