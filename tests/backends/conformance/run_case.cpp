// SPDX-License-Identifier: Apache-2.0
// The child runs the case and writes what it found to a pipe; the parent waits no longer than the limit.
#include "tests/backends/conformance/run_case.h"

#include "runtime/hal/backend_library.h"
#include "runtime/hal/registry.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace girih::conformance {

Finding pass() { return {}; }
Finding fail(std::string text) { return {Outcome::Fail, std::move(text)}; }
Finding unsupported(std::string text) { return {Outcome::Unsupported, std::move(text)}; }
Finding findingOf(const Status &status) {
  if (status.isOk())
    return pass();
  std::string text(status.message());
  return status.code() == StatusCode::Unimplemented ? unsupported(text) : fail(text);
}

const char *nameOf(Outcome outcome) {
  constexpr const char *kNames[] = {"pass", "fail", "unsupported", "crash", "hang", "expected"};
  return kNames[static_cast<int>(outcome)];
}

std::vector<const Case *> allCases() {
  std::vector<const Case *> all;
  for (const auto *cases : {&abiCases(), &memoryCases(), &executionCases(), &opsCases(), &fusedCases(), &attentionCases(),
                            &packedCases(), &machineCases(), &modelsCases()})
    for (const Case &check : *cases)
      all.push_back(&check);
  return all;
}

namespace {

Expected<Subject> open(const std::string &path) {
  if (path.find('/') == std::string::npos) {
    GIRIH_ASSIGN(const girih_backend *backend, hal::findBackend(path));
    return Subject{path, nullptr, backend};
  }
  GIRIH_ASSIGN(const girih_backend *backend, hal::loadBackend(path));
  void *library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  auto query = reinterpret_cast<girih_backend_query_fn>(::dlsym(library, GIRIH_BACKEND_QUERY_SYMBOL));
  return Subject{path, query, backend};
}

// The child's half: a byte for the outcome, then the text.
[[noreturn]] void runChild(const Case &check, const Options &options, int pipe) {
  auto subject = open(options.backend);
  if (subject.isOk()) {
    subject->compiler = options.compiler;
    subject->models = options.models;
    subject->shape = options.shape;
    subject->record = options.record;
  }
  Finding finding = subject.isOk() ? (subject->backend->run ? check.check(*subject) : unsupported("no run table"))
                                   : fail(std::string(subject.status().message()));
  std::string record(1, static_cast<char>('0' + static_cast<int>(finding.outcome)));
  record += finding.text.substr(0, 4000);
  (void)!::write(pipe, record.data(), record.size());
  ::_exit(0);
}

} // namespace

Result runCase(const Case &check, const Options &options) {
  auto begin = std::chrono::steady_clock::now();
  auto secondsSince = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  int ends[2];
  if (::pipe(ends) != 0)
    return {&check, {Outcome::Crash, "no pipe for the case's process"}};
  std::fflush(nullptr);
  pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    runChild(check, options, ends[1]);
  }
  ::close(ends[1]);
  std::string record;
  bool isOver = false;
  while (!isOver && secondsSince() < options.limitSeconds) {
    pollfd waiting = {ends[0], POLLIN, 0};
    char chunk[4096];
    if (::poll(&waiting, 1, 100) <= 0)
      continue;
    ssize_t count = ::read(ends[0], chunk, sizeof chunk);
    isOver = count == 0;
    if (count > 0)
      record.append(chunk, static_cast<size_t>(count));
  }
  ::close(ends[0]);
  if (!isOver)
    ::kill(child, SIGKILL);
  int how = 0;
  ::waitpid(child, &how, 0);
  Result result{&check, {}, secondsSince()};
  if (!isOver)
    result.finding = {Outcome::Hang, "has not ended after " + std::to_string(options.limitSeconds) + " s"};
  else if (WIFSIGNALED(how))
    result.finding = {Outcome::Crash, ::strsignal(WTERMSIG(how))};
  else if (record.empty())
    result.finding = {Outcome::Crash, "the process ended with exit status " + std::to_string(WEXITSTATUS(how))};
  else
    result.finding = {static_cast<Outcome>(record[0] - '0'), record.substr(1)};
  return result;
}

} // namespace girih::conformance
