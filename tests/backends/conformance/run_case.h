// SPDX-License-Identifier: Apache-2.0
// runCase: one case in a process of its own, with a time limit.
#pragma once

#include "tests/backends/conformance/suite.h"

#include <vector>

namespace girih::conformance {

// How an outcome is printed: "pass".
const char *nameOf(Outcome outcome);

struct Result {
  const Case *check;
  Finding finding;
  double seconds = 0;
};

// Every case of every level, in their order.
std::vector<const Case *> allCases();

// What a run is told of its subject; see Subject.
struct Options {
  std::string backend, compiler, models, only, shape, record, expected, reduce, jsonPath, htmlPath;
  double limitSeconds = 20;
};

Result runCase(const Case &check, const Options &options);

} // namespace girih::conformance
