// SPDX-License-Identifier: Apache-2.0
// Stage `tile`: the order of its passes.
#include "compiler/tile/passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

namespace girih::compiler {

// A dispatch of one unit is still a dispatch: outside of its loop every thread of the team would run it.
static const std::vector<std::string> kKeepDispatches = {
    "(anonymous namespace)::ForallOpSingleOrZeroIterationDimsFolder"};

#define GEN_PASS_REGISTRATION
#include "compiler/tile/passes.h.inc"

void buildTilePipeline(mlir::OpPassManager &pipeline) {
  // Sizes follow from the arithmetic, and the loops are cut by them.
  pipeline.addPass(createChooseArithmetic());
  pipeline.addPass(createSelectStrategy());
  pipeline.addPass(createSplitAttention());
  pipeline.addPass(createTileDispatches());
  // On the tiles themselves, before anything else sees them.
  pipeline.addPass(createVerifyFootprints());
  pipeline.addPass(mlir::createCanonicalizerPass({}, kKeepDispatches));
  pipeline.addPass(mlir::createCSEPass());
}

void registerTileStage() {
  registerGirih_tilePasses();
  mlir::PassPipelineRegistration<>("girih-tile", "stage tile: tile sizes from #machine, one parallel loop a dispatch",
                                   [](mlir::OpPassManager &pipeline) { buildTilePipeline(pipeline); });
}

}  // namespace girih::compiler
