// SPDX-License-Identifier: Apache-2.0
// SharedKernels: matmuls and attentions of one kind are one function of the step, called with addresses and extents.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"

namespace girih::cpu {

// Layers of several kinds, a last layer apart, and gate beside up, multiply by weights of one shape: their kernel is
// emitted, optimised and kept in the instruction cache once. For one module; not thread-safe.
class SharedKernels {
public:
  using Emit = llvm::function_ref<mlir::LogicalResult(KernelBuilder &)>;

  // Calls, where `k` stands, the kernel that `emit` makes. `kind` names all that it depends on but for what `operands`
  // point to: of those what is constant becomes part of the kernel and the rest its arguments. While `emit` runs they hold
  // the kernel's own.
  mlir::LogicalResult call(KernelBuilder &k, llvm::StringRef name, llvm::StringRef kind,
                           llvm::ArrayRef<mlir::Value *> operands, Emit emit);

private:
  llvm::StringMap<mlir::func::FuncOp> kernels;
};

}  // namespace girih::cpu
