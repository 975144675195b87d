// SPDX-License-Identifier: Apache-2.0
// The cost model: how long a dispatch takes on a machine, from its bytes, its instructions and nothing else.
#pragma once

#include "dialects/machine/dialect.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

#include <optional>
#include <string>

namespace girih::compiler {

// The step that a prediction is for: sequences of the same number of tokens, all at the same place of their context.
struct BatchShape {
  int64_t numTokens = 1, numSequences = 1;
  int64_t contextTokens = 0;  // positions that each sequence has in the cache already
};

// What the code of a dispatch runs, over all of its units: counted by the backend that made it.
struct CountedWork {
  double units = 1;         // that threads share
  double vectorBytes = 0;   // arithmetic: the width of each instruction's registers, more for those that take longer
  double tileProducts = 0;  // instructions of a matrix unit
  double loadBytes = 0, storeBytes = 0;
};

struct DispatchCost {
  double operations = 0;      // multiplies and adds
  double computeSeconds = 0;  // that instructions take with all operands near
  double bytes = 0;           // read and written once: weights, caches, activations
  double memorySeconds = 0;   // that they take from where they lie
  double footprintBytes = 0;  // of one unit of work: what must stay near while it runs
  double rereadBytes = 0;     // read more than once because tiles are no larger
  std::string level;          // the nearest memory level that holds the footprint
  double seconds = 0;         // the slower of memory and compute, and one barrier
  bool isMemoryBound = false;
};

// For `loop`, a dispatch of a step. Weights and caches pass by once a step, so they come from the nearest level that
// holds all of the module's; activations from the nearest that all cores share. Without `counted`, instructions are
// estimated from operations.
DispatchCost estimateDispatch(mlir::scf::ForallOp loop, const BatchShape &batch, machine::DescriptionAttr machine,
                              const std::optional<CountedWork> &counted = std::nullopt);

}  // namespace girih::compiler
