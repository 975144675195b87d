// SPDX-License-Identifier: Apache-2.0
// girih-compile-graph: makes the image of one graph (runtime/abi/graph.h) that girih-conformance runs on backends which
// take lower levels than graphs.
#include "compiler/backend.h"
#include "compiler/read_graph.h"
#include "dialects/register.h"
#include "runtime/hal/backend_library.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

// The backends that were built in.
#define GIRIH_COMPILES(name) extern "C" const girih_backend *girih_##name##_compile_query(const girih_host *host);
#include "compiler/tools/compiling_backends.inc"
#undef GIRIH_COMPILES

namespace {

using girih::Expected;
using girih::Status;
using girih::compiler::CompiledStep;

// A vendor's library by its path, else the built-in backend.
Expected<const girih_backend *> openBackend(llvm::StringRef name) {
  if (name.contains('/'))
    return girih::hal::loadBackend(name.str());
#define GIRIH_COMPILES(builtIn)                                                                                       \
  if (name == #builtIn)                                                                                                \
    return girih::hal::adoptBackend(girih_##builtIn##_compile_query, name.str());
#include "compiler/tools/compiling_backends.inc"
#undef GIRIH_COMPILES
  return girih::notFound("no backend \"" + name.str() + "\" is built in; a library is named by its path");
}

// A backend that declines an operation is not asked to compile it.
Status askForSupport(const girih::compiler::CompilingBackend &backend, const std::string &target,
                     const std::vector<girih::compiler::AskedOperation> &operations) {
  GIRIH_ASSIGN(auto reasons, backend.declines(target, operations));
  for (size_t index = 0; index < reasons.size(); ++index)
    if (!reasons[index].empty())
      return girih::unimplemented(operations[index].name + " of " + operations[index].signature + ": " + reasons[index]);
  return {};
}

// Lines of a word and its value, an empty one, the image. What a machine's own cores need behind the arena is asked for as
// that of the one thread that every host has.
Status writeImage(const CompiledStep &step, uint64_t arenaBytes, const std::string &path) {
  uint64_t scratchBytes = step.scratchBytesPerThread + (step.arenaBytes > arenaBytes ? step.arenaBytes - arenaBytes : 0);
  std::error_code error;
  llvm::raw_fd_ostream out(path, error);
  if (error)
    return girih::failedPrecondition("cannot write " + path + ": " + error.message());
  out << "format " << step.format << "\nscratch_bytes_per_thread " << scratchBytes << "\nfeatures "
      << llvm::join(step.requiredFeatures, ",") << "\naccumulate " << step.accumulateType << "\nactivation "
      << step.activationType << "\n\n";
  out.write(reinterpret_cast<const char *>(step.image.data()), step.image.size());
  return {};
}

Status compileGraph(llvm::StringRef backendName, const std::string &target, llvm::StringRef arenaBytes,
                    const std::string &input, const std::string &output) {
  int64_t numArenaBytes = 0;
  if (arenaBytes.getAsInteger(10, numArenaBytes) || numArenaBytes < 0 || numArenaBytes % 64 != 0)
    return girih::invalidArgument("the arena has \"" + arenaBytes.str() + "\" bytes; a multiple of 64 is wanted");
  GIRIH_ASSIGN(const girih_backend *backend, openBackend(backendName));
  GIRIH_ASSIGN(auto compiling, girih::compiler::CompilingBackend::create(*backend));
  auto text = llvm::MemoryBuffer::getFile(input);
  if (!text)
    return girih::notFound("cannot read " + input);
  mlir::DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  std::vector<girih::compiler::AskedOperation> operations;
  GIRIH_ASSIGN(auto module, girih::compiler::readGraph(&context, (*text)->getBuffer(), numArenaBytes, operations));
  GIRIH_TRY(askForSupport(compiling, target, operations));
  GIRIH_ASSIGN(auto machine, compiling.describe(&context, target));
  (*module)->setAttr("girih.machine", machine);
  GIRIH_ASSIGN(CompiledStep step, compiling.compile(*module, target));
  return writeImage(step, uint64_t(numArenaBytes), output);
}

}  // namespace

// The exit status is the girih_code, so that the suite tells what is not supported from what fails.
int main(int argc, char **argv) {
  if (argc != 6) {
    llvm::errs() << "usage: girih-compile-graph BACKEND|path/lib.so TARGET ARENA_BYTES GRAPH IMAGE\n";
    return GIRIH_INVALID_ARGUMENT;
  }
  Status status = compileGraph(argv[1], argv[2], argv[3], argv[4], argv[5]);
  if (!status.isOk())
    llvm::errs() << status.message() << "\n";
  return static_cast<int>(status.code());
}
