// SPDX-License-Identifier: Apache-2.0
// readGraph: the text of runtime/abi/graph.h as a scheduled step, for backends that take no graphs themselves.
#pragma once

#include "compiler/backend.h"
#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace girih::compiler {

// Values stay in the bindings at the places that the text gives them, and each operation is a dispatch over its rows;
// scratch memory begins `arenaBytes` into the arena. Fails: InvalidArgument (no such text), Unimplemented (an operation
// or a type that is not lowered).
Expected<mlir::OwningOpRef<mlir::ModuleOp>> readGraph(mlir::MLIRContext *context, std::string_view text,
                                                      int64_t arenaBytes, std::vector<AskedOperation> &operations);

}  // namespace girih::compiler
