// SPDX-License-Identifier: Apache-2.0
// Status: how a runtime function says that it failed, with a code, a message and the context each layer added.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace girih {

// Meanings are absl's. Internal is always our own bug; Unavailable: this machine is not here;
// Unimplemented: declared as not supported. The numbers are part of the C ABI (runtime/abi/girih.h).
enum class StatusCode : int {
  Ok = 0,
  InvalidArgument = 1,
  NotFound = 2,
  FailedPrecondition = 3,
  OutOfRange = 4,
  ResourceExhausted = 5,
  Unimplemented = 6,
  Unavailable = 7,
  Cancelled = 8,
  DataLoss = 9,
  Internal = 10,
};

// "data loss", "not found", ...
std::string_view statusCodeName(StatusCode code);

// One pointer, null when OK. Movable, not copyable. Thread-compatible.
class [[nodiscard]] Status {
public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message);

  bool isOk() const { return !payload; }
  explicit operator bool() const = delete;  // ambiguous: write isOk()
  StatusCode code() const { return payload ? payload->code : StatusCode::Ok; }
  // The message with the context of every layer, outermost first: `loading "x.gguf": tensor "a": ...`.
  std::string_view message() const { return payload ? std::string_view(payload->message) : std::string_view(); }
  // Puts "context: " in front of the message; does nothing when OK. Each layer adds context at most once.
  Status withContext(std::string_view context) &&;

private:
  struct Payload {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Payload> payload;
};

Status invalidArgument(std::string message);
Status notFound(std::string message);
Status failedPrecondition(std::string message);
Status outOfRange(std::string message);
Status resourceExhausted(std::string message);
Status unimplemented(std::string message);
Status unavailable(std::string message);
Status cancelled(std::string message);
Status dataLoss(std::string message);
Status internalError(std::string message);

// Prints and aborts: a broken invariant of our own, never reachable from a file or a request.
[[noreturn]] void checkFailed(const char *file, int line, const char *condition);

}  // namespace girih

#define GIRIH_CHECK(condition) \
  ((condition) ? (void)0 : ::girih::checkFailed(__FILE__, __LINE__, #condition))
