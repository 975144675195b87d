// SPDX-License-Identifier: Apache-2.0
// Stage `tile`: its passes and its pipeline.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/tile/passes.h.inc"

// Appends the stage to `pipeline`, a pass manager on modules.
void buildTilePipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-tile` known by name.
void registerTileStage();

}  // namespace girih::compiler
