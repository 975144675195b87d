// SPDX-License-Identifier: Apache-2.0
// The pipeline of the CPU target, from a scheduled step to the LLVM dialect; the one place its passes are joined.
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/passes.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/ConvertToLLVM/ToLLVMPass.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/ValueBoundsOpInterfaceImpl.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
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
  pipeline.addPass(createLowerQuantizeRows());
  pipeline.addPass(createLowerQMatmul({isa.str()}));
  pipeline.addPass(createLowerAttention({isa.str()}));
  pipeline.addPass(createLowerElementwise());
  pipeline.addPass(createExpandMath({isa.str()}));
  // All instructions are there, and dispatches are still loops over units.
  pipeline.addPass(createCountWork({isa.str()}));
  pipeline.addPass(createDistribute());
  pipeline.addPass(createLowerAddresses());
  // From here on upstream: structure first, since every conversion to LLVM expects its operands converted too.
  pipeline.addPass(createLowerAffinePass());
  pipeline.addPass(memref::createExpandStridedMetadataPass());
  pipeline.addPass(createLowerAffinePass());  // strided metadata is computed by affine.apply
  pipeline.addPass(createCanonicalizerPass());
  pipeline.addPass(createCSEPass());
  pipeline.addPass(createSCFToControlFlowPass());
  // Without instructions that round to bf16 LLVM would call a function, and an image calls none.
  bool roundsToBF16 = findIsa(isa)->features.contains("bf16");
  if (!roundsToBF16) {
    arith::ArithEmulateUnsupportedFloatsOptions floats;
    floats.sourceTypeStrs = {"bf16"};
    pipeline.addPass(arith::createArithEmulateUnsupportedFloats(floats));
  }
  arith::ArithExpandOpsPassOptions expansion;
  expansion.includeBf16 = !roundsToBF16;
  pipeline.addPass(arith::createArithExpandOpsPass(expansion));
  // One walk with the patterns of all dialects; a conversion each would cost as much every time.
  pipeline.addPass(createConvertToLLVMPass());
  pipeline.addPass(createReconcileUnrealizedCastsPass());
}

void registerCpuCodegen() {
  registerGirihCpuPasses();
  struct Options : PassPipelineOptions<Options> {
    Option<std::string> isa{*this, "isa", llvm::cl::desc("avx2, avx512 or amx"), llvm::cl::init("avx512")};
  };
  PassPipelineRegistration<Options> pipeline(
      "girih-cpu", "From a scheduled step to the LLVM dialect",
      [](OpPassManager &manager, const Options &options) { buildLoweringPipeline(manager, options.isa); });
}

void registerCpuDialects(DialectRegistry &registry) {
  registry.insert<affine::AffineDialect, index::IndexDialect>();
  arith::registerConvertArithToLLVMInterface(registry);
  cf::registerConvertControlFlowToLLVMInterface(registry);
  registerConvertFuncToLLVMInterface(registry);
  index::registerConvertIndexToLLVMInterface(registry);
  registerConvertMathToLLVMInterface(registry);
  registerConvertMemRefToLLVMInterface(registry);
  vector::registerConvertVectorToLLVMInterface(registry);
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

}  // namespace girih::cpu
