// SPDX-License-Identifier: Apache-2.0
// girih-conformance: runs the cases that are asked for, and reports what became of each.
#include "tests/backends/conformance/reduce.h"
#include "tests/backends/conformance/report.h"

#include "runtime/hal/probe_backend.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

namespace girih::conformance {
namespace {

constexpr int kUsage = 2;

// "abi", "abi/messages_fit" or nothing: everything.
bool isWanted(const Case &check, const std::string &only) {
  return only.empty() || only == check.level || only == std::string(check.level) + "/" + check.name;
}

// Lines of a case and why it is known not to pass: "ops/adds_i32 no integers yet".
std::map<std::string, std::string> readExpected(const std::string &path) {
  std::map<std::string, std::string> reasons;
  std::ifstream file(path);
  for (std::string name, reason; file >> name && std::getline(file >> std::ws, reason);)
    reasons[name] = reason;
  return reasons;
}

bool isBad(Outcome outcome) { return outcome == Outcome::Fail || outcome == Outcome::Crash || outcome == Outcome::Hang; }

// What is known to fail is expected, and nothing else of it: it is told when it passes.
Finding judgeKnown(Finding finding, const std::string &reason) {
  if (isBad(finding.outcome))
    return {Outcome::Expected, reason + "; " + finding.text};
  return finding.outcome == Outcome::Pass ? fail("it passes, and is expected not to: " + reason) : finding;
}

int run(const Options &options) {
  std::vector<Result> results;
  std::map<Outcome, int> counts;
  std::map<std::string, std::string> known = readExpected(options.expected);
  for (const Case *check : allCases()) {
    if (!isWanted(*check, options.only))
      continue;
    results.push_back(runCase(*check, options));
    Finding &finding = results.back().finding;
    if (auto reason = known.find(std::string(check->level) + "/" + check->name); reason != known.end())
      finding = judgeKnown(std::move(finding), reason->second);
    ++counts[finding.outcome];
    std::printf("%-12s %s/%s%s%s\n", nameOf(finding.outcome), check->level, check->name, finding.text.empty() ? "" : ": ",
                finding.text.c_str());
  }
  if (!options.jsonPath.empty())
    writeJson(options.jsonPath, options, results);
  if (!options.htmlPath.empty())
    writeHtml(options.htmlPath, options, results);
  int numBad = counts[Outcome::Fail] + counts[Outcome::Crash] + counts[Outcome::Hang];
  std::printf("%s: %d pass, %d unsupported, %d expected, %d fail, %d crash, %d hang\n", options.backend.c_str(), counts[Outcome::Pass],
              counts[Outcome::Unsupported], counts[Outcome::Expected], counts[Outcome::Fail], counts[Outcome::Crash], counts[Outcome::Hang]);
  return numBad || results.empty() ? EXIT_FAILURE : EXIT_SUCCESS;
}

int reduceWanted(const Options &options) {
  for (const Case *check : allCases())
    if (options.only == std::string(check->level) + "/" + check->name)
      return reduce(*check, options);
  std::fprintf(stderr, "girih-conformance: --reduce wants --only LEVEL/CASE; \"%s\" names no case\n", options.only.c_str());
  return kUsage;
}

// A library that crashes or hangs before any case could say so.
bool isLoadable(const Options &options) {
  if (options.backend.find('/') == std::string::npos)
    return true;
  Status status = hal::probeBackend(options.backend, options.limitSeconds);
  if (status.isOk() || status.code() == StatusCode::Unimplemented) // what is not written yet, its cases tell
    return true;
  std::fprintf(stderr, "girih-conformance: %s\n", std::string(status.message()).c_str());
  return false;
}

int usage(FILE *out) {
  std::fprintf(out, R"(girih-conformance --backend path/lib.so [--compiler FILE] [--models FOLDER] [--only LEVEL[/CASE]] [--shape EXTENTS]
                  [--expected FILE] [--limit SECONDS] [--json FILE] [--html FILE] [--reduce FOLDER]

Runs every case in a process of its own.
--compiler names a program that makes images of graphs, for a backend that takes none: girih-compile-graph.
--models names a folder of programs that `girih compile --backend path/lib.so` made, for level `models`.
--shape (5x17; of products MxNxK) takes the place of a case's own shapes.
--expected names a file of lines `LEVEL/CASE why`: what is known not to pass.
--reduce writes the smallest step at which the case of --only fails into an empty folder.
Exit status: 0 nothing fails, crashes or hangs; 1 something does; 2 wrong usage.
)");
  return out == stdout ? EXIT_SUCCESS : kUsage;
}

int main(int argc, char **argv) {
  Options options;
  const std::map<std::string, std::string *> texts = {
      {"--backend", &options.backend}, {"--compiler", &options.compiler}, {"--models", &options.models},
      {"--only", &options.only},       {"--shape", &options.shape},       {"--expected", &options.expected},
      {"--reduce", &options.reduce},   {"--json", &options.jsonPath},     {"--html", &options.htmlPath}};
  for (int index = 1; index < argc; index += 2) {
    std::string flag = argv[index];
    if (flag == "--help")
      return usage(stdout);
    auto text = texts.find(flag);
    if (index + 1 == argc || (text == texts.end() && flag != "--limit"))
      return usage(stderr);
    if (flag == "--limit")
      options.limitSeconds = std::atof(argv[index + 1]);
    else
      *text->second = argv[index + 1];
  }
  if (options.backend.empty() || options.limitSeconds <= 0)
    return usage(stderr);
  if (!isLoadable(options))
    return EXIT_FAILURE;
  return options.reduce.empty() ? run(options) : reduceWanted(options);
}

} // namespace
} // namespace girih::conformance

int main(int argc, char **argv) { return girih::conformance::main(argc, argv); }
