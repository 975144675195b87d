// SPDX-License-Identifier: Apache-2.0
// GraphBench records every step before it is submitted, so that the last record is the one that failed, crashed or hung.
// Entries are named by their extents, which a case takes back as --shape.
#include "tests/backends/conformance/reduce.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace girih::conformance {
namespace {

namespace fs = std::filesystem;

using Extents = std::vector<int64_t>;

// Of the recorded entry's name: "e5x17", "m2n16k33". Empty: it has none.
Extents extentsOf(const std::string &folder) {
  std::ifstream file(folder + "/entry");
  std::string name, number;
  std::getline(file, name);
  Extents extents;
  for (char c : name + " ") {
    if (c >= '0' && c <= '9') {
      number += c;
    } else if (!number.empty()) {
      extents.push_back(std::strtoll(number.c_str(), nullptr, 10));
      number.clear();
    }
  }
  return extents;
}

std::string textOf(const Extents &extents) {
  std::string text;
  for (int64_t extent : extents)
    text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text;
}

class Reduction {
public:
  Reduction(const Case &check, const Options &asked) : check(check), options(asked) { options.record = asked.reduce; }

  Result run() {
    Result result = runCase(check, options);
    wanted = result.finding.outcome;
    return result;
  }

  // One extent after the other, until none can be made smaller.
  Extents shrink(Extents extents) {
    for (bool isSmaller = true; isSmaller;) {
      isSmaller = false;
      for (int64_t &extent : extents) {
        int64_t before = extent;
        extent = leastFailing(extents, extent);
        isSmaller |= extent < before;
      }
    }
    return extents;
  }
  // And at these extents: a case that takes no shape fails at its own, whatever is asked for.
  bool stillFails(const Extents &extents) {
    options.shape = textOf(extents);
    return runCase(check, options).finding.outcome == wanted && extentsOf(options.record) == extents;
  }

private:
  // 1, or by halving what lies between one that passes and one that fails. `extent` is one of `all`.
  int64_t leastFailing(const Extents &all, int64_t &extent) {
    int64_t passes = 0, fails = extent;
    while (fails - passes > 1) {
      extent = passes == 0 ? 1 : passes + (fails - passes) / 2;
      (stillFails(all) ? fails : passes) = extent;
    }
    return fails;
  }

  const Case &check;
  Options options;
  Outcome wanted = Outcome::Pass;
};

void explain(const Case &check, const Options &options, const std::string &shape, const Finding &finding) {
  std::string again = "girih-conformance --backend " + options.backend + " --only " + check.level + "/" + check.name +
                      (shape.empty() ? "" : " --shape " + shape) + (options.compiler.empty() ? "" : " --compiler " + options.compiler) +
                      (options.models.empty() ? "" : " --models " + options.models);
  std::ofstream file(options.reduce + "/README");
  file << check.level << "/" << check.name << ": " << nameOf(finding.outcome) << "\n" << finding.text << "\n\nAgain: " << again << "\n";
  if (fs::exists(options.reduce + "/entry"))
    file << "\nThe step: its text is in `step`, the entry's name and the step's tokens in `entry`; what its bindings held before it "
            "is in weights, kv_pool, arena and logits.\n";
  std::printf("%s/%s: %s%s: %s\n%s\n", check.level, check.name, nameOf(finding.outcome), shape.empty() ? "" : (" at " + shape).c_str(),
              finding.text.c_str(), again.c_str());
}

} // namespace

int reduce(const Case &check, const Options &options) {
  std::error_code error;
  fs::create_directories(options.reduce, error);
  if (error || !fs::is_empty(options.reduce)) {
    std::fprintf(stderr, "girih-conformance: %s is no empty folder\n", options.reduce.c_str());
    return EXIT_FAILURE;
  }
  Reduction reduction(check, options);
  Result result = reduction.run();
  if (result.finding.outcome == Outcome::Pass || result.finding.outcome == Outcome::Unsupported) {
    std::printf("%s/%s: %s; there is nothing to reduce\n", check.level, check.name, nameOf(result.finding.outcome));
    return EXIT_SUCCESS;
  }
  Options last = options;
  last.record = options.reduce;
  Extents extents = extentsOf(options.reduce);
  if (!extents.empty() && reduction.stillFails(extents))
    last.shape = textOf(reduction.shrink(extents));
  result = runCase(check, last); // so that the smallest is the one that is recorded
  explain(check, options, last.shape, result.finding);
  return EXIT_SUCCESS;
}

} // namespace girih::conformance
