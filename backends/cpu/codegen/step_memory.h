// SPDX-License-Identifier: Apache-2.0
// Where the step's memory is: the fields of girih_step_args as generated code reads them.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"

#include "mlir/IR/BuiltinOps.h"

namespace girih::cpu {

// The bytes of scratch that a thread has (module attribute `girih.scratch_bytes`); kernels take theirs from the end.
int64_t scratchBytesOf(mlir::Operation *op);
mlir::Value threadScratch(KernelBuilder &k, mlir::Operation *op);
mlir::Value scratchOf(KernelBuilder &k, mlir::Operation *op, mlir::Value thread);

// A packed weight's or a cache's base address, as !llvm.ptr.
mlir::Value pointerOf(KernelBuilder &k, mlir::Value opaque);

}  // namespace girih::cpu
