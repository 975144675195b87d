// SPDX-License-Identifier: Apache-2.0
// shareStep: where a backend declines some of a model's operations, the model in two: its part, and the rest.
#pragma once

#include "compiler/backend.h"
#include "runtime/program/tables.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <optional>
#include <string>
#include <vector>

namespace girih::compiler {

// Both modules hold functions for the ladder below, and know where the whole step's weights and caches are.
struct SharedStep {
  mlir::OwningOpRef<mlir::ModuleOp> own, rest;
  program::Executable schedules;       // entries, schedules, symbols and slots; the rest's symbols are those of its one rest
  std::vector<std::string> declined;   // "attention of f32[T,9,64] ...: reason", each once
};

// Asks the backend about the operations of `raised`, a step that stands above the machine's ladder. Nothing when it takes
// all. Fails: Unimplemented (it declines everything, or what it declines cannot be cut out), as the backend does.
Expected<std::optional<SharedStep>> shareStep(mlir::ModuleOp raised, const CompilingBackend &backend, const std::string &target);

}  // namespace girih::compiler
