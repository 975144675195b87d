// SPDX-License-Identifier: Apache-2.0
// From the LLVM dialect to an object file, and from that to a shared object.
#pragma once

#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::cpu {

struct CpuTarget;

// Translates `module` (LLVM dialect only), optimises it and generates code. `entries` stay visible, everything else is
// internal. With `assembly` the result is text.
Expected<std::vector<uint8_t>> emitObject(mlir::ModuleOp module, const CpuTarget &target,
                                          const std::vector<std::string> &entries, bool assembly = false);

// Links one object with ld.lld into an ELF shared object. Fails: NotFound (no linker), Internal.
Expected<std::vector<uint8_t>> linkImage(const std::vector<uint8_t> &object, const CpuTarget &target);

// Internal when `image` has an undefined symbol (the message names it) or a relocation other than the architecture's
// relative one.
Status checkImage(const std::vector<uint8_t> &image, const CpuTarget &target);

}  // namespace girih::cpu
