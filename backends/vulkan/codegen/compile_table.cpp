// SPDX-License-Identifier: Apache-2.0
// The compile table, behind the same query as any vendor's.
#include "backends/vulkan/codegen/compile_table.h"

#include "backends/vulkan/codegen/backend.h"
#include "dialects/machine/json.h"
#include "dialects/register.h"

#include "mlir/Dialect/SPIRV/IR/SPIRVDialect.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include <cstdio>

using namespace mlir;

struct girih_artifact {
  girih::vulkan::StepImage image;
  std::vector<const char *> symbols;
  std::string features;
};

namespace {

girih_code fail(const girih::Status &status, girih_message *message) {
  if (message && message->capacity_bytes > 0)
    std::snprintf(message->text, message->capacity_bytes, "%.*s", int(status.message().size()), status.message().data());
  return girih_code(status.code());
}

girih::Status unknownProfile(StringRef name) {
  return girih::notFound("Vulkan profile \"" + name.str() + "\" is not known; there are: " + girih::vulkan::profileNames());
}

// "vulkan:portable" -> "portable", which is also what "vulkan" means.
StringRef profileOf(const char *target) {
  StringRef name = StringRef(target).split(':').second;
  return name.empty() ? "portable" : name;
}

girih_code describe(const char *target, const char **machineJson, girih_message *message) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<girih::machine::MachineDialect>();
  auto described = girih::vulkan::describeMachine(&context, profileOf(target));
  if (!described)
    return fail(unknownProfile(profileOf(target)), message);
  thread_local std::string json;
  json = girih::machine::printJson(described);
  *machineJson = json.c_str();
  return 0;
}

girih_code supports(const char *, const girih_op *, uint64_t numOps, girih_verdict *verdicts, girih_message *) {
  // What has no shader is told by compile, with its name.
  for (uint64_t op = 0; op < numOps; ++op) {
    verdicts[op].code = 0;
    verdicts[op].reason = "";
  }
  return 0;
}

girih_code variants(const char *target, const char *, const char **names, girih_message *message) {
  StringRef profile = profileOf(target);
  if (!llvm::is_contained(llvm::split(girih::vulkan::profileNames(), ','), profile))
    return fail(unknownProfile(profile), message);
  thread_local std::string name;
  // Without a profile: all, of which the device takes the last that it has the features for.
  name = StringRef(target).contains(':') ? profile.str() : girih::vulkan::profileNames();
  *names = name.c_str();
  return 0;
}

girih_code compile(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                   girih_message *message) {
  if (compilation->level != GIRIH_LEVEL_MLIR)
    return fail(girih::unimplemented("level " + std::to_string(compilation->level) +
                                     " was offered; the Vulkan backend takes level 4, MLIR bytecode"),
                message);
  // A context of its own: several compilations may run at the same time.
  DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  registry.insert<spirv::SPIRVDialect>();
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
  auto image = girih::vulkan::compileStepModule(*module, profileOf(compilation->target));
  if (!image.isOk())
    return fail(image.status(), message);
  auto made = std::make_unique<girih_artifact>();
  made->image = std::move(image).value();
  made->features = girih::vulkan::requiredFeatures(profileOf(compilation->target));
  for (const std::string &entry : made->image.entries)
    made->symbols.push_back(entry.c_str());
  info->bytes = made->image.bytes.data();
  info->size_bytes = made->image.bytes.size();
  info->format = girih::vulkan::kImageFormat;
  info->entry_symbols = made->symbols.data();
  info->num_entries = made->symbols.size();
  info->arena_bytes = made->image.arenaBytes;
  info->scratch_bytes_per_thread = 0;
  info->required_features = made->features.c_str();
  *artifact = made.release();
  return 0;
}

void release(girih_artifact *artifact) { delete artifact; }

}  // namespace

extern "C" const girih_backend *girih_vulkan_compile_query(const girih_host *host) {
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
    b.name = "vulkan";
    b.sanitizer = "";
    b.compile = &table;
    b.levels = GIRIH_LEVEL_BIT(GIRIH_LEVEL_MLIR);
    return b;
  }();
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &backend : nullptr;
}
