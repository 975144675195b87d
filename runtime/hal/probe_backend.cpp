// SPDX-License-Identifier: Apache-2.0
// The child tells through a pipe which call comes next; the parent turns what became of it into a sentence.
#include "runtime/hal/probe_backend.h"

#include "runtime/base/whole_io.h"
#include "runtime/hal/backend_library.h"
#include "runtime/hal/call.h"
#include "runtime/hal/device.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace girih::hal {
namespace {

constexpr char kStage = 's', kFailure = 'f', kDone = 'd'; // a record: one of these, its text, a zero

void send(int pipe, char kind, const std::string &text) {
  std::string record = kind + text;
  record += '\0';
  (void)writeWhole(pipe, record); // whoever reads it knows an end without a record
}

// Writes, reads back and compares a few bytes.
Status moveBytes(std::shared_ptr<Device> device) {
  std::array<uint8_t, 64> sent, received = {};
  for (size_t index = 0; index < sent.size(); ++index)
    sent[index] = static_cast<uint8_t>(index * 7 + 1);
  GIRIH_ASSIGN(Buffer buffer, Buffer::allocate(device, sent.size()));
  GIRIH_TRY(buffer.write(0, sent));
  GIRIH_TRY(buffer.read(0, received));
  return sent == received ? Status() : dataLoss("bytes that were written come back as others");
}

// What runs in the child; `next` is told before each call into the library.
template <typename Next> Status askEverything(const std::string &libraryPath, const Next &next) {
  next("loading it and girih_backend_query");
  GIRIH_ASSIGN(const girih_backend *backend, loadBackend(libraryPath));
  if (backend->run) {
    next("device_count");
    Call call;
    uint64_t count = 0;
    GIRIH_TRY(call.status(backend->run->device_count(&count, call.message())));
    for (uint64_t index = 0; index < count; ++index) {
      next("device_info");
      if (auto facts = describeDevice(*backend, index); !facts.isOk())
        return std::move(facts).status();
    }
    if (count > 0) {
      next("open");
      GIRIH_ASSIGN(auto device, Device::open(*backend, 0, {1}));
      next("alloc, write, read and free");
      GIRIH_TRY(moveBytes(device));
      next("close");
      device.reset();
    }
  }
  if (backend->compile) {
    next("describe");
    const char *json = nullptr;
    Call call;
    GIRIH_TRY(call.status(backend->compile->describe(backend->name, &json, call.message())));
    if (!json || *json != '{')
      return dataLoss("the description is no JSON object");
  }
  return {};
}

[[noreturn]] void runChild(const std::string &libraryPath, int pipe) {
  // A crash is the parent's to tell: not by handlers that this process inherited.
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP})
    ::signal(number, SIG_DFL);
  std::string stage;
  Status status = askEverything(libraryPath, [&](const char *next) { send(pipe, kStage, stage = next); });
  if (status.isOk())
    send(pipe, kDone, "");
  else
    send(pipe, kFailure,
         static_cast<char>('0' + static_cast<int>(status.code())) +
             (stage + ": " + std::string(status.message())));
  ::_exit(0); // no destructors: they belong to the parent
}

struct Told {
  std::string stage = "loading it";
  bool isDone = false;
  Status failure;
};

// Takes whole records out of `bytes`.
void readRecords(std::string &bytes, Told &told) {
  for (size_t end; (end = bytes.find('\0')) != std::string::npos; bytes.erase(0, end + 1)) {
    std::string text = bytes.substr(1, end - 1);
    if (bytes[0] == kStage)
      told.stage = text;
    told.isDone |= bytes[0] == kDone;
    if (bytes[0] == kFailure && !text.empty())
      told.failure = Status(static_cast<StatusCode>(text[0] - '0'), text.substr(1));
  }
}

// False when the time is over before the child closed its end.
bool listen(int pipe, double limitSeconds, Told &told) {
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(limitSeconds);
  std::string bytes;
  while (true) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      return false;
    pollfd waiting = {pipe, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count()) + 1) <= 0)
      continue;
    char chunk[4096];
    ssize_t count = ::read(pipe, chunk, sizeof chunk);
    if (count == 0)
      return true;
    if (count > 0)
      bytes.append(chunk, static_cast<size_t>(count));
    readRecords(bytes, told);
  }
}

} // namespace

Status probeBackend(const std::string &libraryPath, double limitSeconds) {
  int ends[2];
  if (::pipe(ends) != 0)
    return resourceExhausted("cannot probe \"" + libraryPath + "\": " + std::strerror(errno));
  pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    runChild(libraryPath, ends[1]);
  }
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    return resourceExhausted("cannot probe \"" + libraryPath + "\": " + std::strerror(errno));
  }
  Told told;
  bool hasEnded = listen(ends[0], limitSeconds, told);
  ::close(ends[0]);
  if (!hasEnded)
    ::kill(child, SIGKILL);
  int how = 0;
  while (::waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  std::string who = "backend \"" + libraryPath + "\"";
  if (!told.failure.isOk())
    return std::move(told.failure).withContext(who + " fails in");
  if (!hasEnded)
    return unavailable(who + " hangs in " + told.stage + ": it has not returned after " +
                       std::to_string(static_cast<int>(limitSeconds)) + " s");
  if (WIFSIGNALED(how))
    return unavailable(who + " crashes in " + told.stage + " (" + ::strsignal(WTERMSIG(how)) + ")");
  if (!told.isDone)
    return unavailable(who + " ends the process in " + told.stage + " (exit status " +
                       std::to_string(WEXITSTATUS(how)) + "); a backend never does");
  return {};
}

} // namespace girih::hal
