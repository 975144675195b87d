// SPDX-License-Identifier: Apache-2.0
// LLVM dialect -> LLVM IR -> optimised -> object. Floating point stays as written: no contraction, no reassociation.
#include "backends/cpu/codegen/emit_object.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

#include <mutex>

namespace girih::cpu {

namespace {

std::unique_ptr<llvm::TargetMachine> makeTargetMachine(const CpuTarget &target, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    llvm::InitializeAllAsmParsers();
  });
  llvm::Triple triple(target.triple);
  const llvm::Target *row = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!row)
    return nullptr;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(
      row->createTargetMachine(triple, target.llvmCpu, target.llvmFeatures, options, llvm::Reloc::PIC_,
                               llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
}

// Entries stay visible; all else is internal, so that nothing is kept or called through a table.
void setAttributes(llvm::Module &module, const CpuTarget &target, const std::vector<std::string> &entries) {
  std::string vectorBits = std::to_string(findIsa(target.isa)->registerLanes * 32);
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    bool isEntry = llvm::is_contained(entries, function.getName());
    function.setLinkage(isEntry ? llvm::GlobalValue::ExternalLinkage : llvm::GlobalValue::InternalLinkage);
    function.setDSOLocal(true);
    function.addFnAttr("target-cpu", target.llvmCpu);
    function.addFnAttr("target-features", target.llvmFeatures);
    function.addFnAttr("tune-cpu", target.tuneCpu);
    function.addFnAttr("prefer-vector-width", vectorBits);
    function.addFnAttr("min-legal-vector-width", vectorBits);
    function.addFnAttr("no-builtins");
    function.addFnAttr(llvm::Attribute::NoUnwind);
  }
  for (llvm::GlobalVariable &global : module.globals())
    if (!global.isDeclaration())
      global.setLinkage(llvm::GlobalValue::PrivateLinkage);
}

void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  // Kernels are written as vectors and unrolled on purpose; more of either only costs registers and code.
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  tuning.LoopInterleaving = false;
  tuning.LoopUnrolling = false;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine, tuning);
  // No loop may become memset or memcpy: there is no library to call.
  llvm::TargetLibraryInfoImpl library(module.getTargetTriple());
  library.disableAllFunctions();
  functions.registerPass([&] { return llvm::TargetLibraryAnalysis(library); });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(module, modules);
}

}  // namespace

Expected<std::vector<uint8_t>> emitObject(mlir::ModuleOp module, const CpuTarget &target,
                                          const std::vector<std::string> &entries, bool assembly) {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> translated = mlir::translateModuleToLLVMIR(module, context);
  if (!translated)
    return internalError("the step does not translate to LLVM IR; an operation was left outside the LLVM dialect");
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = makeTargetMachine(target, error);
  if (!machine)
    return internalError("LLVM has no target " + target.triple + ": " + error);
  translated->setTargetTriple(llvm::Triple(target.triple));
  translated->setDataLayout(machine->createDataLayout());
  setAttributes(*translated, target, entries);
  optimize(*translated, *machine);

  llvm::SmallVector<char, 0> buffer;
  llvm::raw_svector_ostream stream(buffer);
  llvm::legacy::PassManager codegen;
  auto type = assembly ? llvm::CodeGenFileType::AssemblyFile : llvm::CodeGenFileType::ObjectFile;
  if (machine->addPassesToEmitFile(codegen, stream, nullptr, type))
    return internalError("LLVM cannot emit objects for " + target.isa);
  codegen.run(*translated);
  return std::vector<uint8_t>(buffer.begin(), buffer.end());
}

}  // namespace girih::cpu
