// SPDX-License-Identifier: Apache-2.0
// Stage `import`: its passes and its pipeline.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::compiler {

#define GEN_PASS_DECL
#include "compiler/import/passes.h.inc"

// Checks the imported module, makes one function of like layers, brings the graph to its normal form.
void buildImportPipeline(mlir::OpPassManager &pipeline);

// Makes the stage's passes and its pipeline `girih-import` known by name.
void registerImportStage();

} // namespace girih::compiler
