// SPDX-License-Identifier: Apache-2.0
// emitC99: a scheduled step as the narrow C99 of runtime/abi/kernel.h, for backends that take kernels as source.
#pragma once

#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace girih::compiler {

// One function for each entry of the module, which is what the MLIR level hands over too. The module's `girih.machine`
// names the builtins that the text calls: DMA where no load reaches memory, a matrix unit where numerics `fast` lets it
// round, a barrier. Each thread's scratch memory lies behind the arena. Fails: Unimplemented, naming the operation.
Expected<std::string> emitC99(mlir::ModuleOp module);

}  // namespace girih::compiler
