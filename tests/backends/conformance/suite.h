// SPDX-License-Identifier: Apache-2.0
// The suite's words: a case, what it finds, and what it may ask of the backend under test.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"
#include "runtime/hal/device.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace girih::conformance {

// How a case ended. The runner adds the last three, which a case cannot say of itself: `Expected` is known not to pass.
enum class Outcome { Pass, Fail, Unsupported, Crash, Hang, Expected };

struct Finding {
  Outcome outcome = Outcome::Pass;
  std::string text; // observed; rule
};
Finding pass();
Finding fail(std::string text);
// The backend declares that it does not do this: not a failure, and counted.
Finding unsupported(std::string text);
// Pass when OK; unsupported when Unimplemented; else fail.
Finding findingOf(const Status &status);
// Ends a case when the Status is not OK.
#define GIRIH_TRY_FINDING(expr)                                              \
  do {                                                                         \
    if (::girih::Status girihStatus = (expr); !girihStatus.isOk())             \
      return ::girih::conformance::findingOf(girihStatus);                     \
  } while (false)

// The backend under test, loaded in the process of one case.
struct Subject {
  std::string path;                 // of its library, or a built-in name
  girih_backend_query_fn query;     // null for built-in ones
  const girih_backend *backend;     // adopted
  std::string compiler = {};        // a program that makes images of graphs, for backends that take none; "": none
  std::string models = {};          // a folder of .girih files that were compiled for it; "": none
  std::string shape = {};           // "5x17": takes the place of a case's own; "": none does
  std::string record = {};          // a folder for what is submitted, the last step alone; "": nowhere
  const girih_run_table &run() const { return *backend->run; }
};

struct Case {
  const char *level; // "abi", "memory", "execution", "ops", "fused", "machine", "models"
  const char *name;
  Finding (*check)(const Subject &subject);
};
const std::vector<Case> &abiCases();
const std::vector<Case> &memoryCases();
const std::vector<Case> &executionCases();
const std::vector<Case> &opsCases();
const std::vector<Case> &fusedCases();
const std::vector<Case> &attentionCases(); // of level "fused", as those of packed weights
const std::vector<Case> &packedCases();
const std::vector<Case> &machineCases();
const std::vector<Case> &modelsCases();

} // namespace girih::conformance
