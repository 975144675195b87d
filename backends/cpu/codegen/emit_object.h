// SPDX-License-Identifier: Apache-2.0
// From the LLVM dialect to object files, and from that to a shared object.
#pragma once

#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::cpu {

struct CpuTarget;

// Translates `module` (LLVM dialect only) and settles what crosses calls; its functions are then optimised and made code by
// several threads, an object for each part of them. `entries` stay visible, everything else is internal to what linkImage makes.
Expected<std::vector<std::vector<uint8_t>>> emitObjects(mlir::ModuleOp module, const CpuTarget &target,
                                                        const std::vector<std::string> &entries);

// The same code as text, in one piece: for tests, which read it.
Expected<std::string> emitAssembly(mlir::ModuleOp module, const CpuTarget &target,
                                   const std::vector<std::string> &entries);

// Links objects with ld.lld into an ELF shared object. Fails: NotFound (no linker), Internal.
Expected<std::vector<uint8_t>> linkImage(const std::vector<std::vector<uint8_t>> &objects, const CpuTarget &target);

// Internal when `image` has an undefined symbol (the message names it) or a relocation other than the architecture's
// relative one.
Status checkImage(const std::vector<uint8_t> &image, const CpuTarget &target);

}  // namespace girih::cpu
