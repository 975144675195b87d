// SPDX-License-Identifier: Apache-2.0
// What the compiler did, for people: dispatches with their tiles, and the JSON of --report.
#pragma once

#include "compiler/backend.h"
#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include "mlir/IR/BuiltinOps.h"

namespace girih::compiler {

// Appends a row for each dispatch of each step function of a scheduled module, in order. `work` is what the backend
// counted of their code; may be empty.
void appendDispatches(mlir::ModuleOp module, std::string_view isa, const std::vector<CountedDispatch> &work,
                      std::vector<program::DispatchReport> &rows);

// JSON: {"model": ..., "tensors": [{name, storage, layout, bytes, treatment}], "dispatches": [...], "notes": [...]}.
Status writeReport(const std::string &path, const program::Tables &tables,
                   const std::vector<program::Tensor> &tensors);

}  // namespace girih::compiler
