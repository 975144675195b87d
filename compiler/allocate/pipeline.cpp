// SPDX-License-Identifier: Apache-2.0
// Stage `allocate`: the order of its passes.
#include "compiler/allocate/passes.h"

#include "mlir/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

namespace girih::compiler {

// A dispatch of one unit is still a dispatch: outside of its loop every thread of the team would run it.
static const std::vector<std::string> kKeepDispatches = {
    "(anonymous namespace)::ForallOpSingleOrZeroIterationDimsFolder"};

#define GEN_PASS_REGISTRATION
#include "compiler/allocate/passes.h.inc"

void buildAllocatePipeline(mlir::OpPassManager &pipeline) {
  pipeline.addPass(createBindMemory());
  pipeline.addPass(mlir::createCanonicalizerPass({}, kKeepDispatches));
  pipeline.addPass(createBufferizeStep());
  pipeline.addPass(mlir::createCanonicalizerPass({}, kKeepDispatches));
  pipeline.addPass(mlir::createCSEPass());
  // Where what a dispatch touches is known to the row. Merged first: what is left is weighed as a whole.
  pipeline.addPass(createMergeRowDispatches());
  pipeline.addPass(createRepeatCheapDispatches());
  pipeline.addPass(createPlanMemory());
  pipeline.addPass(mlir::createCSEPass());
  // Views that became equal: a tile copied onto itself goes.
  pipeline.addPass(mlir::createCanonicalizerPass({}, kKeepDispatches));
}

void registerAllocateStage() {
  registerGirih_allocatePasses();
  mlir::PassPipelineRegistration<>("girih-allocate", "stage allocate: buffers at offsets known when the program is written",
                                   [](mlir::OpPassManager &pipeline) { buildAllocatePipeline(pipeline); });
}

}  // namespace girih::compiler
