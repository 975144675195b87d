// SPDX-License-Identifier: Apache-2.0
// A graph of a batch of sequences as the graph of one.
#pragma once

#include "mlir/IR/BuiltinOps.h"

namespace girih::compiler {

// Makes `@main`, when its tokens are [B, S] with B dynamic or 1, a function of one sequence: tokens [S] of
// i32, logits [S, V]. A graph that is right for every B is right for B = 1, and the step serves many
// sequences by itself. Leaves casts and reshapes at the ends, to be folded into the graph. Returns whether
// there was a batch.
bool dropBatch(mlir::ModuleOp module);

// Folds extents of 1, and the casts and reshapes that dropBatch left, into the operations between them.
mlir::LogicalResult foldUnitExtents(mlir::ModuleOp module);

} // namespace girih::compiler
