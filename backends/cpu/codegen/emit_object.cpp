// SPDX-License-Identifier: Apache-2.0
// LLVM dialect -> LLVM IR -> parts -> optimised objects. Floating point stays as written: no contraction or reassociation.
#include "backends/cpu/codegen/emit_object.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/IPO/AlwaysInliner.h"
#include "llvm/Transforms/IPO/SCCP.h"
#include "llvm/Transforms/Utils/SplitModule.h"

#include <atomic>
#include <mutex>
#include <thread>

namespace girih::cpu {

namespace {

// Parts of a step that are compiled at the same time. Fixed, so that an image is the same wherever it was made; more than
// processors, so that one long function does not hold up all.
constexpr unsigned kNumParts = 8;

// Kernels shorter than this are worth looking into from where they are called.
constexpr unsigned kFewInstructions = 1000;

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

// Entries stay visible; all else is internal, so that nothing is kept or called through a table. A long kernel is compiled
// apart from who calls it, since LLVM's time grows faster than a function does; a short one called once becomes part of it.
void setAttributes(llvm::Module &module, const CpuTarget &target, const std::vector<std::string> &entries) {
  std::string vectorBits = std::to_string(findIsa(target.isa)->registerLanes * 32);
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    bool isEntry = llvm::is_contained(entries, function.getName());
    function.setLinkage(isEntry ? llvm::GlobalValue::ExternalLinkage : llvm::GlobalValue::InternalLinkage);
    if (!isEntry)
      function.addFnAttr(function.hasOneUse() && function.getInstructionCount() < kFewInstructions
                             ? llvm::Attribute::AlwaysInline
                             : llvm::Attribute::NoInline);
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

// LLVM's passes over one module, with what they ask of each other.
class Pipeline {
public:
  Pipeline(const llvm::Module &module, llvm::TargetMachine *machine)
      : builder(machine, tuning()), library(module.getTargetTriple()) {
    // No loop may become memset or memcpy: there is no library to call.
    library.disableAllFunctions();
    functions.registerPass([&] { return llvm::TargetLibraryAnalysis(library); });
    builder.registerModuleAnalyses(modules);
    builder.registerCGSCCAnalyses(graphs);
    builder.registerFunctionAnalyses(functions);
    builder.registerLoopAnalyses(loops);
    builder.crossRegisterProxies(loops, functions, graphs, modules);
  }

  void optimize(llvm::Module &module) {
    builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(module, modules);
  }

  // What needs to see callers and callees together.
  void optimizeCalls(llvm::Module &module) {
    llvm::ModulePassManager passes;
    passes.addPass(llvm::AlwaysInlinerPass(/*InsertLifetime=*/false));
    passes.addPass(llvm::IPSCCPPass());
    passes.run(module, modules);
  }

private:
  static llvm::PipelineTuningOptions tuning() {
    llvm::PipelineTuningOptions tuning;
    // Kernels are written as vectors and unrolled on purpose; more of either only costs registers and code.
    tuning.LoopVectorization = false;
    tuning.SLPVectorization = false;
    tuning.LoopInterleaving = false;
    tuning.LoopUnrolling = false;
    return tuning;
  }

  llvm::PassBuilder builder;
  llvm::TargetLibraryInfoImpl library;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
};

Expected<std::unique_ptr<llvm::TargetMachine>> targetMachine(const CpuTarget &target) {
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = makeTargetMachine(target, error);
  if (!machine)
    return internalError("LLVM has no target " + target.triple + ": " + error);
  return machine;
}

Expected<std::unique_ptr<llvm::Module>> translate(mlir::ModuleOp module, const CpuTarget &target,
                                                  const std::vector<std::string> &entries,
                                                  llvm::LLVMContext &context) {
  std::unique_ptr<llvm::Module> translated = mlir::translateModuleToLLVMIR(module, context);
  if (!translated)
    return internalError(
        "the step does not translate to LLVM IR; an operation was left outside the LLVM dialect");
  GIRIH_ASSIGN(auto machine, targetMachine(target));
  translated->setTargetTriple(llvm::Triple(target.triple));
  translated->setDataLayout(machine->createDataLayout());
  setAttributes(*translated, target, entries);
  Pipeline(*translated, machine.get()).optimizeCalls(*translated);
  return translated;
}

using Bytes = llvm::SmallVector<char, 0>;

Expected<Bytes> generate(llvm::Module &module, const CpuTarget &target, llvm::CodeGenFileType type) {
  GIRIH_ASSIGN(auto machine, targetMachine(target));
  Pipeline(module, machine.get()).optimize(module);
  Bytes bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, stream, nullptr, type))
    return internalError("LLVM cannot emit code for " + target.isa);
  codegen.run(module);
  return bytes;
}

// A context belongs to one thread, so a part changes hands as bitcode.
std::vector<Bytes> splitIntoBitcode(llvm::Module &module) {
  std::vector<Bytes> parts;
  llvm::SplitModule(
      module, kNumParts,
      [&](std::unique_ptr<llvm::Module> part) {
        if (llvm::all_of(*part, [](const llvm::Function &function) { return function.isDeclaration(); }) &&
            llvm::all_of(part->globals(),
                         [](const llvm::GlobalVariable &global) { return global.isDeclaration(); }))
          return; // fewer functions than parts
        llvm::raw_svector_ostream stream(parts.emplace_back());
        llvm::WriteBitcodeToFile(*part, stream);
      },
      /*PreserveLocals=*/false, /*RoundRobin=*/true);
  return parts;
}

Expected<Bytes> compileBitcode(const Bytes &bitcode, const CpuTarget &target) {
  llvm::LLVMContext context;
  auto part = llvm::parseBitcodeFile(
      llvm::MemoryBufferRef(llvm::StringRef(bitcode.data(), bitcode.size()), "part"), context);
  if (!part)
    return internalError("a part of the step is not read back: " + llvm::toString(part.takeError()));
  return generate(**part, target, llvm::CodeGenFileType::ObjectFile);
}

} // namespace

Expected<std::string> emitAssembly(mlir::ModuleOp module, const CpuTarget &target,
                                   const std::vector<std::string> &entries) {
  llvm::LLVMContext context;
  GIRIH_ASSIGN(auto translated, translate(module, target, entries, context));
  GIRIH_ASSIGN(Bytes text, generate(*translated, target, llvm::CodeGenFileType::AssemblyFile));
  return std::string(text.begin(), text.end());
}

Expected<std::vector<std::vector<uint8_t>>> emitObjects(mlir::ModuleOp module, const CpuTarget &target,
                                                        const std::vector<std::string> &entries) {
  std::vector<Bytes> parts;
  {
    llvm::LLVMContext context;
    GIRIH_ASSIGN(auto translated, translate(module, target, entries, context));
    parts = splitIntoBitcode(*translated);
  }
  std::vector<std::vector<uint8_t>> objects(parts.size());
  std::vector<Status> failures(parts.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t index; (index = next.fetch_add(1)) < parts.size();)
      if (auto object = compileBitcode(parts[index], target); object.isOk())
        objects[index].assign(object->begin(), object->end());
      else
        failures[index] = std::move(object).status();
  };
  {
    std::vector<std::jthread> helpers;
    for (size_t thread = 1; thread < std::min<size_t>(parts.size(), std::thread::hardware_concurrency());
         ++thread)
      helpers.emplace_back(work);
    work();
  }
  for (Status &failure : failures)
    GIRIH_TRY(std::move(failure));
  return objects;
}

} // namespace girih::cpu
