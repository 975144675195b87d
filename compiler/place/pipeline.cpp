// SPDX-License-Identifier: Apache-2.0
// Stage `place`: the order of its passes.
#include "compiler/place/passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace girih::compiler {

#define GEN_PASS_REGISTRATION
#include "compiler/place/passes.h.inc"

void buildPlacePipeline(mlir::OpPassManager &pipeline) {
  pipeline.addPass(createSplitStep());
  // Parts are made with whatever their operations ask for, several times over.
  pipeline.addPass(mlir::createCSEPass());
}

void registerPlaceStage() {
  registerGirih_placePasses();
  mlir::PassPipelineRegistration<>("girih-place", "stage place: a step that its backend takes in part, cut into parts for two",
                                   [](mlir::OpPassManager &pipeline) { buildPlacePipeline(pipeline); });
}

}  // namespace girih::compiler
