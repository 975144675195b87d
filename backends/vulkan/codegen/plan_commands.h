// SPDX-License-Identifier: Apache-2.0
// A step function's host part, run when the model is compiled: what is left is a list of dispatches with constants.
#pragma once

#include "backends/vulkan/codegen/lower_dispatch.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <array>
#include <map>

namespace girih::vulkan {

// A number of workgroups: the least of these expressions, whose symbols are the step's extents (image.h).
using GroupCount = llvm::SmallVector<mlir::AffineExpr>;

struct PlannedDispatch {
  uint32_t kernel = 0, grid = 0;
  std::vector<std::pair<uint64_t, uint64_t>> weights; // offset and bytes
  std::vector<uint32_t> words;
};

struct PlannedEntry {
  std::string name;
  uint32_t maxTokens = 0;
  std::vector<std::array<GroupCount, 3>> grids;
  std::vector<PlannedDispatch> dispatches;
};

// Walks the function as a thread of a team would: loops over layers are unrolled, addresses are numbers, and each
// scf.forall is a kernel (appended to `kernels`) the first time and a dispatch every time. Fails: Unimplemented.
Expected<PlannedEntry> planCommands(mlir::func::FuncOp function, ShaderTraits traits,
                                    std::vector<Kernel> &kernels);

} // namespace girih::vulkan
