// SPDX-License-Identifier: Apache-2.0
// Stage `place`: its passes and its pipeline.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/place/passes.h.inc"

// Appends the stage to `pipeline`, a pass manager on modules.
void buildPlacePipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-place` known by name.
void registerPlaceStage();

}  // namespace girih::compiler
