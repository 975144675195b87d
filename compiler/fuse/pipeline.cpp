// SPDX-License-Identifier: Apache-2.0
// Stage fuse, in order.
#include "compiler/fuse/passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

void girih::fuse::buildPipeline(mlir::OpPassManager &pm) {
  pm.addPass(createRollLayers());
  // Layouts are chosen where all uses of a weight stand in one function, hence after inlining.
  pm.addPass(createPlanLayouts());
  pm.addPass(mlir::createCanonicalizerPass());
  pm.addPass(mlir::createCSEPass());
  pm.addPass(createFuseElementwise());
  pm.addPass(mlir::createCSEPass());
}
