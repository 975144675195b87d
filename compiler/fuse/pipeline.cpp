// SPDX-License-Identifier: Apache-2.0
// Stage `fuse`: the order of its passes.
#include "compiler/fuse/passes.h"

#include "mlir/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

namespace girih::compiler {

#define GEN_PASS_REGISTRATION
#include "compiler/fuse/passes.h.inc"

void buildFusePipeline(mlir::OpPassManager &pipeline) {
  pipeline.addPass(createRollLayers());
  // Layouts are chosen where all uses of a weight stand in one function, hence after inlining.
  pipeline.addPass(createPlanLayouts());
  pipeline.addPass(mlir::createCanonicalizerPass());
  pipeline.addPass(mlir::createCSEPass());
  pipeline.addPass(createFuseElementwise());
  pipeline.addPass(createNarrowLastLayer());
  pipeline.addPass(mlir::createCSEPass());
  // Last: it turns inputs into destinations, which hides them from fusion.
  pipeline.addPass(createReuseOperands());
}

void registerFuseStage() {
  registerGirih_fusePasses();
  mlir::PassPipelineRegistration<>("girih-fuse", "stage fuse: layers as loops, weights in their layouts, elementwise chains fused",
                                   [](mlir::OpPassManager &pipeline) { buildFusePipeline(pipeline); });
}

}  // namespace girih::compiler
