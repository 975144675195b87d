// SPDX-License-Identifier: Apache-2.0
// What a dispatch on buffers reads and writes: which memory, and whether a unit keeps to its own row of it.
#pragma once

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <optional>

namespace girih::compiler {

struct Access {
  mlir::Value memory;  // the allocation or argument that views lead to; null: a KV cache
  bool isWrite;
  bool isOwnRow;  // unit i touches row i alone
};

// The memory that a view is of. What a loop hands on to its next iteration is the loop's argument in both.
mlir::Value memoryOf(mlir::Value view);

// Everything that the units touch but their own temporaries; nothing when an operation's effects are not known.
std::optional<llvm::SmallVector<Access>> accessesOf(mlir::scf::ForallOp dispatch);

// The dispatch that follows in the same block with only views and allocations in between; null if there is none.
mlir::scf::ForallOp nextDispatch(mlir::scf::ForallOp dispatch);

// `extent` traced to where it comes from, through the first dimensions of views and loop arguments.
mlir::OpFoldResult originOf(mlir::OpFoldResult extent);

}  // namespace girih::compiler
