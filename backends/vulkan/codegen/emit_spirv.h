// SPDX-License-Identifier: Apache-2.0
// From a ShaderBuilder's module to the words of a SPIR-V shader.
#pragma once

#include "runtime/base/expected.h"

#include "mlir/Dialect/SPIRV/IR/SPIRVOps.h"

#include <cstdint>
#include <vector>

namespace girih::vulkan {

// Converts what is left of scf, arith and math, adds the entry point `main` and its capabilities, and serializes: SPIR-V 1.3
// for Vulkan 1.1. Fails: Unimplemented (an operation that has no SPIR-V), with MLIR's diagnostic in the context.
Expected<std::vector<uint32_t>> emitSpirv(mlir::spirv::ModuleOp module, int64_t invocations);

}  // namespace girih::vulkan
