// SPDX-License-Identifier: Apache-2.0
// The whole ladder: the only place where stages are joined.
#pragma once

#include "mlir/Pass/PassManager.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::compiler {

struct LadderOptions {
  std::string kvElement = "f16";                        // "f32" or "f16": how the cache stores K and V
  std::vector<int64_t> maxTokens = {1, 8, 512};         // one step function for each: rows it is made for at most
  bool givesHidden = false;                             // and one that gives hidden states in place of logits
};

// From the imported graph to step functions: what holds for every machine.
void buildMachineFreeLadder(mlir::OpPassManager &pipeline, const LadderOptions &options);
// From step functions to a scheduled step for the module's `girih.machine`.
void buildMachineLadder(mlir::OpPassManager &pipeline);

// Passes that only make a program faster: what may be left out of a ladder to see what they buy. All others establish
// what a later one, or the program's loader, relies on.
llvm::ArrayRef<llvm::StringRef> optionalPasses();

}  // namespace girih::compiler
