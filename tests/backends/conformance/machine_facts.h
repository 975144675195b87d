// SPDX-License-Identifier: Apache-2.0
// MachineFacts: what a backend's description says of its machine, as far as the suite holds it to that.
#pragma once

#include "tests/backends/conformance/suite.h"

namespace girih::conformance {

// A unit that multiplies tiles, by the name that kernels in C call; "": there is none.
struct MatrixFacts {
  std::string builtin, element;
  int64_t rows = 0, columns = 0, depth = 0;
};

struct MachineFacts {
  int64_t cores = 0, nearestBytes = 0;
  uint64_t farthestBytes = 0;
  std::string barrier, dmaIn, dmaOut; // builtins; "": there is none, and loads reach all memory
  MatrixFacts matrix;
};
// Of the machine that the subject describes for its own name. Fails: DataLoss, with what the schema (machine.schema.json)
// asks for and the description lacks.
Expected<MachineFacts> readMachine(const Subject &subject);

} // namespace girih::conformance
