// SPDX-License-Identifier: Apache-2.0
// CompilingBackend: a backend's compile table (runtime/abi/backend.h) as the compiler uses it, wherever it comes from.
#include "compiler/backend.h"

#include "dialects/machine/json.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

namespace girih::compiler {
namespace {

constexpr size_t kMessageBytes = 4096;  // a diagnostic with its location and notes

struct Message {
  char text[kMessageBytes] = {};
  girih_message abi{text, sizeof text};
};

Status failure(girih_code code, const std::string &what) {
  bool isKnown = code > 0 && code <= girih_code(StatusCode::Internal);
  return Status(isKnown ? StatusCode(code) : StatusCode::Internal, what);
}

void collectErrors(void *context, int32_t severity, const char *text) {
  auto &errors = *static_cast<std::string *>(context);
  if (severity >= 2)
    errors += (errors.empty() ? "" : "; ") + std::string(text);
}

}  // namespace

Expected<CompilingBackend> CompilingBackend::create(girih_backend_query_fn query) {
  girih_host host{sizeof(girih_host), GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR};
  const girih_backend *backend = query ? query(&host) : nullptr;
  if (!backend)
    return unavailable("the backend refuses ABI " + std::to_string(GIRIH_BACKEND_ABI_MAJOR) + "." +
                       std::to_string(GIRIH_BACKEND_ABI_MINOR) + " of this compiler; build it against this SDK");
  const girih_compile_table *table = backend->compile;
  if (!table || !table->describe || !table->supports || !table->compile || !table->release)
    return failedPrecondition("backend \"" + std::string(backend->name) +
                              "\" has no complete compile table; describe, supports, compile and release are required");
  return CompilingBackend(backend);
}

Expected<machine::DescriptionAttr> CompilingBackend::describe(mlir::MLIRContext *context,
                                                              const std::string &target) const {
  Message message;
  const char *json = nullptr;
  if (girih_code code = backend->compile->describe(target.c_str(), &json, &message.abi))
    return failure(code, message.text);
  std::string error;
  machine::DescriptionAttr description = machine::parseJson(context, json, error);
  if (!description)
    return dataLoss("backend \"" + name() + "\" describes " + target + " wrongly: " + error);
  return description;
}

Expected<CompiledStep> CompilingBackend::compile(mlir::ModuleOp module, const std::string &target) const {
  std::string bytecode;
  llvm::raw_string_ostream stream(bytecode);
  if (mlir::failed(mlir::writeBytecodeToFile(module, stream)))
    return internalError("the scheduled step could not be written as bytecode");
  std::string errors;
  girih_compilation compilation{};
  compilation.struct_size = sizeof compilation;
  compilation.target = target.c_str();
  compilation.level = GIRIH_LEVEL_MLIR;
  compilation.bytes = reinterpret_cast<const uint8_t *>(bytecode.data());
  compilation.size_bytes = bytecode.size();
  compilation.diagnose = collectErrors;
  compilation.diagnose_context = &errors;
  Message message;
  girih_artifact *artifact = nullptr;
  girih_artifact_info info{};
  info.struct_size = sizeof info;
  if (girih_code code = backend->compile->compile(&compilation, &artifact, &info, &message.abi))
    return failure(code, message.text + (errors.empty() ? "" : ": " + errors));
  CompiledStep step;
  step.image.assign(info.bytes, info.bytes + info.size_bytes);
  step.format = info.format;
  step.entries.assign(info.entry_symbols, info.entry_symbols + info.num_entries);
  step.arenaBytes = info.arena_bytes;
  step.scratchBytesPerThread = info.scratch_bytes_per_thread;
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
