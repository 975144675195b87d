// SPDX-License-Identifier: Apache-2.0
// The CPU target's passes, and the pipeline from a scheduled step to the LLVM dialect.
#pragma once

#include "mlir/Pass/Pass.h"
#include "llvm/ADT/StringRef.h"

namespace girih::cpu {

#define GEN_PASS_DECL
#include "backends/cpu/codegen/passes.h.inc"

// From a scheduled step module (girih ops, linalg, scf on memrefs) to the LLVM dialect, for one ISA row.
void buildLoweringPipeline(mlir::OpPassManager &pipeline, llvm::StringRef isa);

// Makes the passes and the pipeline `girih-cpu` known by name.
void registerCpuCodegen();

// Interfaces and dialects that the pipeline needs beside dialect::registerDialects.
void registerCpuDialects(mlir::DialectRegistry &registry);

}  // namespace girih::cpu
