// SPDX-License-Identifier: Apache-2.0
// MLIR's own conversions to SPIR-V, joined; then an entry point, capabilities, and words.
#include "backends/vulkan/codegen/emit_spirv.h"

#include "mlir/Conversion/ArithToSPIRV/ArithToSPIRV.h"
#include "mlir/Conversion/FuncToSPIRV/FuncToSPIRV.h"
#include "mlir/Conversion/MathToSPIRV/MathToSPIRV.h"
#include "mlir/Conversion/SCFToSPIRV/SCFToSPIRV.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SPIRV/IR/TargetAndABI.h"
#include "mlir/Dialect/SPIRV/Transforms/Passes.h"
#include "mlir/Dialect/SPIRV/Transforms/SPIRVConversion.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/SPIRV/Serialization.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace girih::vulkan {
namespace {

// What every device of Vulkan 1.1 runs, and what a profile may require; a shader declares what it uses.
spirv::TargetEnvAttr targetOf(MLIRContext *context) {
  auto triple =
      spirv::VerCapExtAttr::get(spirv::Version::V_1_3,
                                {spirv::Capability::Shader, spirv::Capability::GroupNonUniform,
                                 spirv::Capability::GroupNonUniformBallot, spirv::Capability::SampledBuffer},
                                {spirv::Extension::SPV_KHR_storage_buffer_storage_class}, context);
  return spirv::TargetEnvAttr::get(triple, spirv::getDefaultResourceLimits(context), spirv::ClientAPI::Vulkan,
                                   spirv::Vendor::Unknown, spirv::DeviceType::Unknown,
                                   spirv::TargetEnvAttr::kUnknownDeviceID);
}

LogicalResult convert(spirv::ModuleOp module, spirv::TargetEnvAttr target) {
  MLIRContext *context = module.getContext();
  std::unique_ptr<ConversionTarget> legal = SPIRVConversionTarget::get(target);
  SPIRVTypeConverter types(target);
  ScfToSPIRVContext loops;
  RewritePatternSet patterns(context);
  populateSCFToSPIRVPatterns(types, loops, patterns);
  arith::populateArithToSPIRVPatterns(types, patterns);
  populateMathToSPIRVPatterns(types, patterns);
  populateBuiltinFuncToSPIRVPatterns(types, patterns);
  populateFuncToSPIRVPatterns(types, patterns);
  return applyFullConversion(SmallVector<Operation *>(llvm::make_pointer_range(*module.getBody())), *legal,
                             std::move(patterns));
}

void addEntryPoint(spirv::ModuleOp module, int64_t invocations) {
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  SmallVector<Attribute> interface;
  for (auto variable : module.getOps<spirv::GlobalVariableOp>())
    if (cast<spirv::PointerType>(variable.getType()).getStorageClass() == spirv::StorageClass::Input)
      interface.push_back(FlatSymbolRefAttr::get(variable.getSymNameAttr()));
  auto main = *module.getOps<spirv::FuncOp>().begin();
  spirv::EntryPointOp::create(b, module.getLoc(), spirv::ExecutionModel::GLCompute, main, interface);
  spirv::ExecutionModeOp::create(b, module.getLoc(), main, spirv::ExecutionMode::LocalSize,
                                 ArrayRef<int32_t>{int32_t(invocations), 1, 1});
}

} // namespace

Expected<std::vector<uint32_t>> emitSpirv(spirv::ModuleOp module, int64_t invocations) {
  MLIRContext *context = module.getContext();
  spirv::TargetEnvAttr target = targetOf(context);
  module->setAttr(spirv::getTargetEnvAttrName(), target);
  PassManager tidy(context, spirv::ModuleOp::getOperationName());
  tidy.enableVerifier(false); // the module is a mixture until it is converted
  tidy.addPass(createCSEPass());
  if (failed(tidy.run(module)) || failed(convert(module, target)))
    return unimplemented("a kernel has an operation without SPIR-V");
  addEntryPoint(module, invocations);
  PassManager finish(context, spirv::ModuleOp::getOperationName());
  finish.addPass(spirv::createSPIRVUpdateVCEPass());
  SmallVector<uint32_t> words;
  if (failed(finish.run(module)) || failed(verify(module)) || failed(spirv::serialize(module, words)))
    return unimplemented("a kernel needs more of a device than Vulkan 1.1 grants");
  return std::vector<uint32_t>(words.begin(), words.end());
}

} // namespace girih::vulkan
