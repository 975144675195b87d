// SPDX-License-Identifier: Apache-2.0
// CompilingBackend: a backend's compile table (runtime/abi/backend.h) as the compiler uses it, wherever it comes from.
#include "compiler/backend.h"

#include "compiler/emit/emit_c99.h"
#include "dialects/machine/json.h"
#include "runtime/hal/call.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <dlfcn.h>

namespace girih::compiler {
namespace {

// A level that is not written yet joins here.
constexpr uint64_t kLevelsHandedOver = GIRIH_LEVEL_BIT(GIRIH_LEVEL_C99) | GIRIH_LEVEL_BIT(GIRIH_LEVEL_MLIR);

std::string levelNames(uint64_t levels) {
  constexpr const char *kNames[] = {"", "graphs", "C99 source", "LLVM bitcode", "MLIR bytecode"};
  std::string names;
  for (uint64_t level = GIRIH_LEVEL_GRAPH; level <= GIRIH_LEVEL_MLIR; ++level)
    if (levels & GIRIH_LEVEL_BIT(level))
      names += (names.empty() ? "" : ", ") + std::string(kNames[level]);
  return names.empty() ? "nothing that is known" : names;
}

void collectErrors(void *context, int32_t severity, const char *text) {
  auto &errors = *static_cast<std::string *>(context);
  if (severity >= 2)
    errors += (errors.empty() ? "" : "; ") + std::string(text);
}

// C says where buffers lie, but not how many bytes they are. Scratch memory is for the machine's cores, of which the host,
// that counts its own threads, knows nothing: it is part of the arena.
void addPlannedMemory(mlir::ModuleOp module, CompiledStep &step) {
  auto bytes = [&](llvm::StringRef name) {
    auto attribute = module->getAttrOfType<mlir::IntegerAttr>(name);
    return attribute ? uint64_t(attribute.getInt()) : 0;
  };
  auto machine = module->getAttrOfType<machine::DescriptionAttr>("girih.machine");
  step.arenaBytes += bytes("girih.arena_bytes") + bytes("girih.scratch_bytes") * uint64_t(machine ? machine.getCores() : 1);
}

}  // namespace

Expected<CompilingBackend> CompilingBackend::create(const girih_backend &backend) {
  std::string name = backend.name;
  if (!backend.compile)
    return failedPrecondition("backend \"" + name + "\" only runs; it has no compile table");
  if (backend.levels && !(backend.levels & kLevelsHandedOver))
    return unimplemented("backend \"" + name + "\" takes kernels as " + levelNames(backend.levels) +
                         "; this compiler hands over " + levelNames(kLevelsHandedOver));
  return CompilingBackend(&backend);
}

std::string CompilingBackend::file() const {
  Dl_info info = {}, ours = {};
  if (!::dladdr(reinterpret_cast<void *>(backend->compile->compile), &info) || !info.dli_fname)
    return "";
  // The program's own name is as it was called, which need not be a path.
  bool isOurs = ::dladdr(reinterpret_cast<void *>(&collectErrors), &ours) && ours.dli_fbase == info.dli_fbase;
  return isOurs ? "/proc/self/exe" : info.dli_fname;
}

Expected<machine::DescriptionAttr> CompilingBackend::describe(mlir::MLIRContext *context,
                                                              const std::string &target) const {
  hal::Call call;
  const char *json = nullptr;
  GIRIH_TRY(call.status(backend->compile->describe(target.c_str(), &json, call.message())));
  std::string error;
  machine::DescriptionAttr description = machine::parseJson(context, json ? json : "", error);
  if (!description)
    return dataLoss("backend \"" + name() + "\" describes " + target + " wrongly: " + error);
  return description;
}

Expected<std::vector<std::string>> CompilingBackend::variants(const std::string &target,
                                                              const std::string &numerics) const {
  if (!backend->compile->variants)
    return std::vector<std::string>{llvm::StringRef(target).split(':').second.str()};
  hal::Call call;
  const char *names = nullptr;
  GIRIH_TRY(call.status(backend->compile->variants(target.c_str(), numerics.c_str(), &names, call.message())));
  llvm::SmallVector<llvm::StringRef> parts;
  llvm::StringRef(names ? names : "").split(parts, ',');
  return std::vector<std::string>(parts.begin(), parts.end());
}

Expected<std::vector<std::string>> CompilingBackend::declines(const std::string &target,
                                                              const std::vector<AskedOperation> &operations) const {
  std::vector<std::string> reasons(operations.size());
  std::vector<girih_op> asked;
  for (const AskedOperation &operation : operations)
    asked.push_back({sizeof(girih_op), operation.name.c_str(), operation.signature.c_str()});
  std::vector<girih_verdict> verdicts(asked.size(), girih_verdict{sizeof(girih_verdict), 0, 0, nullptr});
  hal::Call call;
  GIRIH_TRY(call.status(
      backend->compile->supports(target.c_str(), asked.data(), asked.size(), verdicts.data(), call.message())));
  for (size_t index = 0; index < verdicts.size(); ++index)
    if (verdicts[index].code != GIRIH_OK)
      reasons[index] = verdicts[index].reason && *verdicts[index].reason ? verdicts[index].reason : "declined";
  return reasons;
}

// The module as its bytecode or as C, whichever the backend takes; bytecode keeps more, so it comes first.
Expected<std::string> CompilingBackend::write(mlir::ModuleOp module, uint64_t level) const {
  if (level == GIRIH_LEVEL_C99)
    return emitC99(module);
  std::string bytecode;
  llvm::raw_string_ostream stream(bytecode);
  if (mlir::failed(mlir::writeBytecodeToFile(module, stream)))
    return internalError("the scheduled step could not be written as bytecode");
  return bytecode;
}

Expected<CompiledStep> CompilingBackend::compile(mlir::ModuleOp module, const std::string &target) const {
  bool takesMlir = !backend->levels || (backend->levels & GIRIH_LEVEL_BIT(GIRIH_LEVEL_MLIR));
  uint64_t level = takesMlir ? GIRIH_LEVEL_MLIR : GIRIH_LEVEL_C99;
  GIRIH_ASSIGN(std::string written, write(module, level));
  std::string errors;
  girih_compilation compilation{};
  compilation.struct_size = sizeof compilation;
  compilation.target = target.c_str();
  compilation.level = level;
  compilation.bytes = reinterpret_cast<const uint8_t *>(written.data());
  compilation.size_bytes = written.size();
  compilation.diagnose = collectErrors;
  compilation.diagnose_context = &errors;
  hal::Call call;
  girih_artifact *artifact = nullptr;
  girih_artifact_info info{};
  info.struct_size = sizeof info;
  Status status = call.status(backend->compile->compile(&compilation, &artifact, &info, call.message()));
  if (!status.isOk())
    return errors.empty() ? std::move(status) : Status(status.code(), std::string(status.message()) + ": " + errors);
  if (!info.bytes || !info.format || !info.entry_symbols || info.num_entries == 0) {
    backend->compile->release(artifact);
    return dataLoss("backend \"" + name() + "\" gives an artifact without bytes, format or entries for " + target);
  }
  CompiledStep step;
  step.image.assign(info.bytes, info.bytes + info.size_bytes);
  step.format = info.format;
  step.entries.assign(info.entry_symbols, info.entry_symbols + info.num_entries);
  step.arenaBytes = info.arena_bytes;
  step.scratchBytesPerThread = info.scratch_bytes_per_thread;
  if (level == GIRIH_LEVEL_C99)
    addPlannedMemory(module, step);
  step.accumulateType = info.accumulate_type ? info.accumulate_type : "f32";
  step.activationType = info.activation_type ? info.activation_type : "f32";
  llvm::SmallVector<llvm::StringRef> features;
  llvm::StringRef(info.required_features).split(features, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef feature : features)
    step.requiredFeatures.push_back(feature.str());
  for (uint64_t index = 0; index < info.num_work; ++index) {
    const girih_dispatch_work &row = info.work[index];
    step.work.push_back({row.entry, row.dispatch, int64_t(row.context_tokens),
                         {row.units, row.vector_bytes, row.tile_products, row.load_bytes, row.store_bytes}});
  }
  backend->compile->release(artifact);
  return step;
}

}  // namespace girih::compiler
