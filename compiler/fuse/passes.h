// SPDX-License-Identifier: Apache-2.0
// Stage `fuse`: its passes and its pipeline.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/fuse/passes.h.inc"

// Appends the stage to `pipeline`, a pass manager on modules.
void buildFusePipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-fuse` known by name.
void registerFuseStage();

}  // namespace girih::compiler
