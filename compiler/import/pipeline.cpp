// SPDX-License-Identifier: Apache-2.0
// Stage `import`: the order of its passes.
#include "compiler/import/passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace girih::compiler {

#define GEN_PASS_REGISTRATION
#include "compiler/import/passes.h.inc"

void buildImportPipeline(mlir::OpPassManager &pipeline) {
  // First: whatever follows may rely on the form of an imported graph.
  pipeline.addPass(createVerifyImport());
  // Before canonicalization, so that thirty like layers are cleaned once.
  pipeline.addPass(createOutlineBlocks());
  pipeline.addPass(createCanonicalizeGraph());
}

void registerImportStage() {
  registerGirih_importPasses();
  mlir::PassPipelineRegistration<>("girih-import", "stage import: the imported graph in its normal form",
                                   [](mlir::OpPassManager &pipeline) { buildImportPipeline(pipeline); });
}

} // namespace girih::compiler
