// SPDX-License-Identifier: Apache-2.0
// girih-opt: reads IR, runs any pass or stage of the ladder, prints IR.
#include "backends/cpu/codegen/passes.h"
#include "compiler/allocate/passes.h"
#include "compiler/fuse/passes.h"
#include "compiler/place/passes.h"
#include "compiler/import/passes.h"
#include "compiler/raise/passes.h"
#include "compiler/specialize/passes.h"
#include "compiler/tile/passes.h"
#include "dialects/register.h"

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  girih::compiler::registerImportStage();
  girih::compiler::registerRaiseStage();
  girih::compiler::registerSpecializeStage();
  girih::compiler::registerFuseStage();
  girih::compiler::registerPlaceStage();
  girih::compiler::registerTileStage();
  girih::compiler::registerAllocateStage();
  girih::cpu::registerCpuDialects(registry);
  girih::cpu::registerCpuCodegen();
  // Upstream passes that are handy when reading a stage's output: -canonicalize, -cse, -inline, -symbol-dce.
  mlir::registerTransformsPasses();
  mlir::registerLinalgPasses();
  mlir::bufferization::registerBufferizationPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Girih's optimizer driver\n", registry));
}
