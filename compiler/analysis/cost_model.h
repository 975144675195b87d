// SPDX-License-Identifier: Apache-2.0
// The cost model: how long a dispatch takes on a machine, from its bytes, its operations and nothing else.
#pragma once

#include "dialects/machine/dialect.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

#include <string>

namespace girih::compiler {

struct DispatchCost {
  double operations = 0;      // multiplies and adds
  double computeSeconds = 0;  // that they take, each on the unit for its elements
  double bytes = 0;           // read and written once: weights, caches, activations
  double footprintBytes = 0;  // of one unit of work: what must stay near while it runs
  double rereadBytes = 0;     // read more than once because tiles are no larger
  std::string level;          // the nearest memory level that holds the footprint
  double seconds = 0;         // the slower of memory and compute, what is read again, and one barrier
  bool isMemoryBound = false;
};

// For `loop`, a dispatch of a step of `numTokens` tokens. The weights stream from the level that holds a whole step
// only by luck, so they are charged at the last level's rate; activations at the level of their size.
DispatchCost estimateDispatch(mlir::scf::ForallOp loop, int64_t numTokens, machine::DescriptionAttr machine);

}  // namespace girih::compiler
