// SPDX-License-Identifier: Apache-2.0
// The pipeline of the CPU target, from a scheduled step to the LLVM dialect; the one place its passes are joined.
#include "backends/cpu/codegen/passes.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/ValueBoundsOpInterfaceImpl.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace girih::cpu {

namespace {
#define GEN_PASS_REGISTRATION
#include "backends/cpu/codegen/passes.h.inc"
}  // namespace

void buildLoweringPipeline(OpPassManager &pipeline, llvm::StringRef isa) {
  pipeline.addPass(createLowerQMatmul({isa.str()}));
  pipeline.addPass(createLowerAttention({isa.str()}));
  pipeline.addPass(createLowerElementwise());
  pipeline.addPass(createDistribute());
  pipeline.addPass(createLowerAddresses());
  pipeline.addPass(createExpandMath());
  // From here on upstream: structure first, since every conversion to LLVM expects its operands converted too.
  pipeline.addPass(createLowerAffinePass());
  pipeline.addPass(memref::createExpandStridedMetadataPass());
  pipeline.addPass(createLowerAffinePass());  // strided metadata is computed by affine.apply
  pipeline.addPass(createCanonicalizerPass());
  pipeline.addPass(createCSEPass());
  pipeline.addPass(createSCFToControlFlowPass());
  pipeline.addPass(createConvertVectorToLLVMPass());
  pipeline.addPass(arith::createArithExpandOpsPass());
  pipeline.addPass(createConvertMathToLLVMPass());
  pipeline.addPass(createArithToLLVMConversionPass());
  pipeline.addPass(createFinalizeMemRefToLLVMConversionPass());
  pipeline.addPass(createConvertIndexToLLVMPass());
  pipeline.addPass(createConvertFuncToLLVMPass());
  pipeline.addPass(createConvertControlFlowToLLVMPass());
  pipeline.addPass(createReconcileUnrealizedCastsPass());
}

void registerCpuCodegen() {
  registerGirihCpuPasses();
  struct Options : PassPipelineOptions<Options> {
    Option<std::string> isa{*this, "isa", llvm::cl::desc("avx2 or avx512"), llvm::cl::init("avx512")};
  };
  PassPipelineRegistration<Options> pipeline(
      "girih-cpu", "From a scheduled step to the LLVM dialect",
      [](OpPassManager &manager, const Options &options) { buildLoweringPipeline(manager, options.isa); });
}

void registerCpuDialects(DialectRegistry &registry) {
  registry.insert<affine::AffineDialect>();
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

}  // namespace girih::cpu
