// SPDX-License-Identifier: Apache-2.0
// Stage `allocate`: its passes and its pipeline.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/allocate/passes.h.inc"

// Appends the stage to `pipeline`, a pass manager on modules.
void buildAllocatePipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-allocate` known by name.
void registerAllocateStage();

}  // namespace girih::compiler
