// SPDX-License-Identifier: Apache-2.0
// Stage `raise`: the order of its passes.
#include "compiler/raise/passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace girih::compiler {

#define GEN_PASS_REGISTRATION
#include "compiler/raise/passes.h.inc"

void buildRaisePipeline(mlir::OpPassManager &pipeline) {
  // While the graph is as the importer wrote it: merged projections would hide whose heads are whose.
  pipeline.addPass(createRaiseAttention());
  pipeline.addPass(createMergeProjections());
  // The reshapes that attention's operands were given fold with those that were there.
  pipeline.addPass(mlir::createCanonicalizerPass());
  pipeline.addPass(mlir::createCSEPass());
}

void registerRaiseStage() {
  registerGirih_raisePasses();
  mlir::PassPipelineRegistration<>("girih-raise", "stage raise: attention found, projections merged",
                                   [](mlir::OpPassManager &pipeline) { buildRaisePipeline(pipeline); });
}

} // namespace girih::compiler
