// SPDX-License-Identifier: Apache-2.0
// Stage `raise`: its passes and its pipeline.
#pragma once

#include "dialects/girih/dialect.h"

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/raise/passes.h.inc"

// Finds attention in the imported graph and merges the projections of one input.
void buildRaisePipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-raise` known by name.
void registerRaiseStage();

} // namespace girih::compiler
