// SPDX-License-Identifier: Apache-2.0
// Stage tile, in order.
#include "compiler/tile/passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

void girih::tile::buildPipeline(mlir::OpPassManager &pm) {
  // Sizes first: the loops are cut by them.
  pm.addPass(createSelectStrategy());
  pm.addPass(createTileDispatches());
  pm.addPass(mlir::createCanonicalizerPass());
  pm.addPass(mlir::createCSEPass());
}
