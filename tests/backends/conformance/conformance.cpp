// SPDX-License-Identifier: Apache-2.0
// girih-conformance: runs each case in a process of its own with a time limit, and reports what became of it.
#include "tests/backends/conformance/suite.h"

#include "runtime/base/json.h"
#include "runtime/hal/backend_library.h"
#include "runtime/hal/probe_backend.h"
#include "runtime/hal/registry.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <map>
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

namespace {

constexpr const char *kOutcomeNames[] = {"pass", "fail", "unsupported", "crash", "hang"};
constexpr int kUsage = 2;

struct Options {
  std::string backend, compiler, models, only, jsonPath, htmlPath;
  double limitSeconds = 20;
};

struct Result {
  const Case *check;
  Finding finding;
  double seconds = 0;
};

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
  }
  Finding finding = subject.isOk() ? (subject->backend->run ? check.check(*subject) : unsupported("no run table"))
                                   : fail(std::string(subject.status().message()));
  std::string record(1, static_cast<char>('0' + static_cast<int>(finding.outcome)));
  record += finding.text.substr(0, 4000);
  (void)!::write(pipe, record.data(), record.size());
  ::_exit(0);
}

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

std::string escaped(const std::string &text) {
  std::string html;
  for (char c : text)
    html += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return html;
}

void writeJson(const std::string &path, const Options &options, const std::vector<Result> &results) {
  JsonWriter writer;
  writer.beginObject().member("backend", options.backend).key("cases").beginArray();
  for (const Result &result : results)
    writer.beginObject().member("level", result.check->level).member("name", result.check->name)
        .member("outcome", kOutcomeNames[static_cast<int>(result.finding.outcome)])
        .member("text", result.finding.text).member("seconds", result.seconds).endObject();
  std::ofstream(path) << writer.endArray().endObject().take() << "\n";
}

void writeHtml(const std::string &path, const Options &options, const std::vector<Result> &results) {
  std::ofstream file(path);
  file << "<!doctype html><meta charset=utf-8><title>girih-conformance</title><h1>" << escaped(options.backend)
       << "</h1>\n<table border=1><tr><th>level<th>case<th>outcome<th>seconds<th>what was seen\n";
  for (const Result &result : results)
    file << "<tr><td>" << result.check->level << "<td>" << result.check->name << "<td>"
         << kOutcomeNames[static_cast<int>(result.finding.outcome)] << "<td>" << result.seconds << "<td>"
         << escaped(result.finding.text) << "\n";
  file << "</table>\n";
}

// "abi", "abi/messages_fit" or nothing: everything.
bool isWanted(const Case &check, const std::string &only) {
  return only.empty() || only == check.level || only == std::string(check.level) + "/" + check.name;
}

int run(const Options &options) {
  if (options.backend.find('/') != std::string::npos)
    if (Status status = hal::probeBackend(options.backend, options.limitSeconds);
        !status.isOk() && status.code() != StatusCode::Unimplemented) { // what is not written yet, its cases tell
      std::fprintf(stderr, "girih-conformance: %s\n", std::string(status.message()).c_str());
      return EXIT_FAILURE;
    }
  std::vector<Result> results;
  std::map<Outcome, int> counts;
  for (const auto *cases : {&abiCases(), &memoryCases(), &executionCases(), &opsCases(), &fusedCases(), &attentionCases(),
                            &packedCases(), &machineCases(), &modelsCases()})
    for (const Case &check : *cases) {
      if (!isWanted(check, options.only))
        continue;
      results.push_back(runCase(check, options));
      const Finding &finding = results.back().finding;
      ++counts[finding.outcome];
      std::printf("%-12s %s/%s%s%s\n", kOutcomeNames[static_cast<int>(finding.outcome)], check.level, check.name,
                  finding.text.empty() ? "" : ": ", finding.text.c_str());
    }
  if (!options.jsonPath.empty())
    writeJson(options.jsonPath, options, results);
  if (!options.htmlPath.empty())
    writeHtml(options.htmlPath, options, results);
  int numBad = counts[Outcome::Fail] + counts[Outcome::Crash] + counts[Outcome::Hang];
  std::printf("%s: %d pass, %d unsupported, %d fail, %d crash, %d hang\n", options.backend.c_str(), counts[Outcome::Pass],
              counts[Outcome::Unsupported], counts[Outcome::Fail], counts[Outcome::Crash], counts[Outcome::Hang]);
  return numBad || results.empty() ? EXIT_FAILURE : EXIT_SUCCESS;
}

int usage(FILE *out) {
  std::fprintf(out, R"(girih-conformance --backend path/lib.so [--compiler FILE] [--models FOLDER] [--only LEVEL[/CASE]]
                  [--limit SECONDS] [--json FILE] [--html FILE]

Runs every case in a process of its own.
--compiler names a program that makes images of graphs, for a backend that takes none: girih-compile-graph.
--models names a folder of programs that `girih compile --backend path/lib.so` made, for level `models`.
Exit status: 0 nothing fails, crashes or hangs; 1 something does; 2 wrong usage.
)");
  return out == stdout ? EXIT_SUCCESS : kUsage;
}

int main(int argc, char **argv) {
  Options options;
  for (int index = 1; index < argc; index += 2) {
    std::string flag = argv[index];
    if (flag == "--help")
      return usage(stdout);
    if (index + 1 == argc)
      return usage(stderr);
    if (flag == "--limit")
      options.limitSeconds = std::atof(argv[index + 1]);
    else if (std::string *text = flag == "--backend" ? &options.backend
                                 : flag == "--compiler" ? &options.compiler
                                 : flag == "--models" ? &options.models
                                 : flag == "--only"  ? &options.only
                                 : flag == "--json"  ? &options.jsonPath
                                 : flag == "--html"  ? &options.htmlPath
                                                     : nullptr)
      *text = argv[index + 1];
    else
      return usage(stderr);
  }
  return options.backend.empty() || options.limitSeconds <= 0 ? usage(stderr) : run(options);
}

} // namespace
} // namespace girih::conformance

int main(int argc, char **argv) { return girih::conformance::main(argc, argv); }
