// SPDX-License-Identifier: Apache-2.0
// The CPU backend's compile table, behind the same query as any vendor's.
#include "backends/cpu/codegen/compile_table.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/describe.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "dialects/machine/json.h"
#include "dialects/register.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"

#include <cstdio>

using namespace mlir;

struct girih_artifact {
  girih::cpu::StepImage image;
  std::vector<const char *> symbols;
  std::vector<girih_dispatch_work> work;
  std::string features, format;
};

namespace {

girih_code fail(const girih::Status &status, girih_message *message) {
  if (message && message->capacity_bytes > 0)
    std::snprintf(message->text, message->capacity_bytes, "%.*s", int(status.message().size()),
                  status.message().data());
  return girih_code(status.code());
}

// "cpu:avx2" -> "avx2"; "cpu" -> "native".
std::string isaOf(const char *target) {
  StringRef isa = StringRef(target).split(':').second;
  return isa.empty() ? "native" : isa.str();
}

girih_code describe(const char *target, const char **machineJson, girih_message *message) {
  auto isa = girih::cpu::cpuTarget(isaOf(target));
  if (!isa.isOk())
    return fail(isa.status(), message);
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<girih::machine::MachineDialect>();
  thread_local std::string json;
  json = girih::machine::printJson(girih::cpu::describeMachine(&context, isa->isa));
  *machineJson = json.c_str();
  return 0;
}

// Of graph.h's operations, those that the shared reader of graphs lowers to what this backend takes, over elements that it
// can load: weights in blocks come to it packed, as whole models have them.
girih_code supports(const char *, const girih_op *ops, uint64_t numOps, girih_verdict *verdicts, girih_message *) {
  for (uint64_t op = 0; op < numOps; ++op) {
    StringRef name = ops[op].name;
    bool isKnown = llvm::is_contained({"copy", "add", "mul", "matmul", "rms_norm", "softmax", "swiglu", "rope", "kv_append",
                                       "attention"}, name);
    SmallVector<StringRef> values;
    StringRef(ops[op].signature ? ops[op].signature : "").split(values, ' ', -1, /*KeepEmpty=*/false);
    bool isPlain = llvm::all_of(values, [](StringRef value) {
      StringRef type = value.split('[').first;
      return llvm::is_contained({"f32", "f16", "bf16", "i8", "i32", "kv:f32", "kv:f16", "kv:i8"}, type) || type.starts_with("p16:");
    });
    verdicts[op].code = isKnown && isPlain ? GIRIH_OK : GIRIH_UNIMPLEMENTED;
    verdicts[op].reason = isKnown && isPlain ? "" : isKnown ? "weights in blocks are taken packed alone" : "it is not lowered for CPUs";
  }
  return 0;
}

// Tiles round in their own way: only `fast` uses them, elsewhere their variant would be the one before it again.
girih_code variants(const char *target, const char *numerics, const char **names, girih_message *message) {
  StringRef name = StringRef(target).split(':').second;
  std::vector<std::string> found = girih::cpu::variantsOf(name, StringRef(numerics) == "fast");
  if (found.empty())
    return fail(girih::invalidArgument("--target names \"" + name.str() + "\"; after `cpu:` come " + girih::cpu::isaNames() +
                                       ", native, or all of " + girih::cpu::architectureNames()),
                message);
  thread_local std::string joined;
  joined = llvm::join(found, ",");
  *names = joined.c_str();
  return 0;
}

int64_t integer(ModuleOp module, StringRef name) {
  auto attribute = module->getAttrOfType<IntegerAttr>(name);
  return attribute ? attribute.getInt() : 0;
}

girih_dispatch_work rowOf(const girih::cpu::DispatchWork &dispatch, const girih::cpu::Work &work, int64_t contextTokens) {
  return {dispatch.entry.c_str(), dispatch.dispatch.c_str(), uint64_t(contextTokens), work.units, work.vectorBytes,
          work.tileProducts, work.loadBytes, work.storeBytes};
}

girih_code compile(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                   girih_message *message) {
  if (compilation->level != GIRIH_LEVEL_MLIR)
    return fail(girih::unimplemented("level " + std::to_string(compilation->level) +
                                     " was offered; the CPU backend takes level 4, MLIR bytecode"),
                message);
  auto target = girih::cpu::cpuTarget(isaOf(compilation->target));
  if (!target.isOk())
    return fail(target.status(), message);
  // A context of its own: several compilations may run at the same time.
  DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  ScopedDiagnosticHandler diagnostics(&context, [&](Diagnostic &diagnostic) {
    std::string text;
    llvm::raw_string_ostream(text) << diagnostic.getLocation() << ": " << diagnostic.str();
    if (compilation->diagnose)
      compilation->diagnose(compilation->diagnose_context, diagnostic.getSeverity() == DiagnosticSeverity::Error ? 2 : 0,
                            text.c_str());
    return success();
  });
  StringRef bytes(reinterpret_cast<const char *>(compilation->bytes), compilation->size_bytes);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(bytes, &context, "scheduled step");
  if (!module)
    return fail(girih::invalidArgument("the scheduled step is no MLIR module of this LLVM version"), message);
  int64_t scratch = integer(*module, "girih.scratch_bytes") + girih::cpu::kernelScratchBytes(*module);
  scratch = llvm::alignTo(scratch, 64);
  (*module)->setAttr("girih.scratch_bytes", Builder(&context).getI64IntegerAttr(scratch));
  auto image = girih::cpu::compileStepModule(*module, *target);
  if (!image.isOk())
    return fail(image.status(), message);
  auto made = std::make_unique<girih_artifact>();
  made->image = std::move(image).value();
  for (const std::string &entry : made->image.entries)
    made->symbols.push_back(entry.c_str());
  for (const girih::cpu::DispatchWork &dispatch : made->image.work) {
    made->work.push_back(rowOf(dispatch, dispatch.first, 0));
    made->work.push_back(rowOf(dispatch, dispatch.later, girih::cpu::kCountedContext));
  }
  for (const std::string &feature : target->required)
    made->features += (made->features.empty() ? "" : ",") + feature;
  made->format = target->imageFormat;
  info->bytes = made->image.bytes.data();
  info->size_bytes = made->image.bytes.size();
  info->format = made->format.c_str();
  info->entry_symbols = made->symbols.data();
  info->num_entries = made->symbols.size();
  info->arena_bytes = uint64_t(integer(*module, "girih.arena_bytes"));
  info->scratch_bytes_per_thread = uint64_t(scratch);
  info->required_features = made->features.c_str();
  if (info->struct_size >= sizeof *info) {
    info->work = made->work.data();
    info->num_work = made->work.size();
  }
  *artifact = made.release();
  return 0;
}

void release(girih_artifact *artifact) { delete artifact; }

}  // namespace

extern "C" const girih_backend *girih_cpu_compile_query(const girih_host *host) {
  static const girih_compile_table table = [] {
    girih_compile_table t{};
    t.struct_size = sizeof t;
    t.describe = describe;
    t.supports = supports;
    t.compile = compile;
    t.release = release;
    t.variants = variants;
    return t;
  }();
  static const girih_backend backend = [] {
    girih_backend b{};
    b.struct_size = sizeof b;
    b.abi_major = GIRIH_BACKEND_ABI_MAJOR;
    b.abi_minor = GIRIH_BACKEND_ABI_MINOR;
    b.name = "cpu";
    b.sanitizer = "";
    b.compile = &table;
    b.levels = GIRIH_LEVEL_BIT(GIRIH_LEVEL_MLIR);
    return b;
  }();
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &backend : nullptr;
}
