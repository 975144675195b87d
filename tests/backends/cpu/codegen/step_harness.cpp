// SPDX-License-Identifier: Apache-2.0
// StepHarness: implementation.
#include "tests/backends/cpu/codegen/step_harness.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/device/features.h"
#include "dialects/register.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/Program.h"

#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <sys/mman.h>
#include <unistd.h>

namespace girih::cpu::test {

namespace {

// Cores that the emulator imitates: each grants what its row requires, and not what the next one does.
const char *emulatedCore(llvm::StringRef isa) {
  return isa == "neon" ? "cortex-a57" : isa == "dotprod" ? "neoverse-n1" : "max";
}

}  // namespace

Expected<std::unique_ptr<Step>> Step::compile(const std::string &text, const std::string &isa) {
  GIRIH_ASSIGN(CpuTarget target, cpuTarget(isa));
  (void)requestTiles();  // a step with tiles would not run without
  mlir::DialectRegistry registry;
  dialect::registerDialects(registry);
  registerCpuDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return invalidArgument("the test's module does not parse");
  GIRIH_ASSIGN(StepImage image, compileStepModule(*module, target));
  auto step = std::make_unique<Step>();
  step->bytes = std::move(image.bytes);
  if (!isHostArchitecture(*findIsa(target.isa)->architecture)) {
    step->emulated = target.isa;
    return step;
  }
  int file = memfd_create("step", 0);
  if (file < 0 || write(file, step->bytes.data(), step->bytes.size()) != static_cast<ssize_t>(step->bytes.size()))
    return internalError("memfd");
  step->library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
  close(file);
  if (!step->library)
    return internalError(dlerror());
  return step;
}

Step::~Step() {
  if (library)
    dlclose(library);
}

void Step::run(StepData &data, int numThreads, const std::string &entry) const {
  if (!emulated.empty())
    return emulate(data, numThreads, entry);
  auto function = reinterpret_cast<girih_step_fn>(dlsym(library, entry.c_str()));
  GIRIH_CHECK(function != nullptr);
  runStep(function, data, numThreads);
}

void Step::emulate(StepData &data, int numThreads, const std::string &entry) const {
  auto emulator = llvm::sys::findProgramByName("qemu-aarch64");
  const char *runner = std::getenv("GIRIH_ARM64_STEP_RUNNER");
  GIRIH_CHECK(emulator && runner);  // or this ISA is not among the runnable ones
  std::string folder = std::filesystem::temp_directory_path() / "girih_step_XXXXXX";
  GIRIH_CHECK(mkdtemp(folder.data()) != nullptr);
  std::string image = folder + "/image", memory = folder + "/memory";
  std::ofstream(image, std::ios::binary).write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
  GIRIH_CHECK(writeStepData(data, memory));
  std::string threads = std::to_string(numThreads);
  llvm::StringRef arguments[] = {*emulator, "-cpu", emulatedCore(emulated), runner, image, memory, entry, threads};
  int status = llvm::sys::ExecuteAndWait(*emulator, arguments);
  GIRIH_CHECK(status == 0 && readStepData(data, memory));
  unlink(image.c_str());
  unlink(memory.c_str());
  rmdir(folder.c_str());
}

std::vector<std::string> runnableIsas() {
  if (const char *named = std::getenv("GIRIH_TEST_ISAS")) {
    std::vector<std::string> isas;
    for (llvm::StringRef isa : llvm::split(named, ','))
      isas.push_back(isa.str());
    return isas;
  }
  std::vector<std::string> granted = grantedFeatures(), isas;
  for (const std::string &isa : variantsOf("", /*withTiles=*/true))
    if (llvm::all_of(cpuTarget(isa).value().required,
                     [&](const std::string &feature) { return llvm::is_contained(granted, feature); }))
      isas.push_back(isa);
  return isas;
}

int64_t laneVectorsOf(const std::string &isa) { return findIsa(isa)->laneVectors(); }

}  // namespace girih::cpu::test
