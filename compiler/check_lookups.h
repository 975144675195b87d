// SPDX-License-Identifier: Apache-2.0
// checkLookups: every token and every position that a step may hold has its row in the tables it is looked up in.
#pragma once

#include "runtime/base/status.h"

#include "mlir/IR/BuiltinOps.h"

namespace girih::compiler {

// Looks at what is known of a raised module: tables indexed by the steps' tokens or positions as they are. Where an index
// is computed nothing is known, and the kernel stays within the table (girih.gather_rows).
// Fails: InvalidArgument, with both numbers and the place.
Status checkLookups(mlir::ModuleOp module, int64_t vocabSize, int64_t maxPositions);

}  // namespace girih::compiler
