// SPDX-License-Identifier: Apache-2.0
// The CPU backend's compile half: a scheduled step module in, one ELF shared object per ISA out.
#pragma once

#include "backends/cpu/codegen/count_work.h"
#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::cpu {

// A row of the ISA table as the writer of a program needs it.
struct CpuTarget {
  std::string isa;                                      // a row's name: "avx2", "i8mm"
  std::string triple, llvmCpu, tuneCpu, llvmFeatures;   // what LLVM generates code for
  std::string imageFormat;                              // "elf-x86-64"
  std::vector<std::string> required;  // features the loader must find, by LLVM's names: "avx2", "fma", "f16c", ...
};

// `name`: a row of the ISA table, or "native" for the best that this machine grants. Fails: NotFound, Unavailable.
Expected<CpuTarget> cpuTarget(const std::string &name);

struct StepImage {
  std::vector<uint8_t> bytes;        // an ELF shared object: no undefined symbol, no text relocation
  std::vector<std::string> entries;  // its exported functions, each a girih_step_fn, in the module's order
  std::vector<DispatchWork> work;    // of each dispatch after which threads meet, in running order
};

// Compiles a clone of `module`; the module is left as it was. The scheduled step's form is described in
// backends/cpu/README.md. Reentrant for modules of different MLIRContexts. Diagnostics go to the module's context;
// the Status carries the last one. Fails: InvalidArgument (the module), Internal (the object has an undefined symbol).
Expected<StepImage> compileStepModule(mlir::ModuleOp module, const CpuTarget &target);

// Bytes of thread scratch that the microkernels of `module` need, at its end; what the emitter's own buffers in
// "scratch" take comes before: girih.scratch_bytes = own, rounded up to 64, + kernelScratchBytes.
int64_t kernelScratchBytes(mlir::Operation *module);

}  // namespace girih::cpu
