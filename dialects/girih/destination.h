// SPDX-License-Identifier: Apache-2.0
// What all destination-style ops of the dialect share: the result's rule and the effects on buffers.
#pragma once

#include "mlir/IR/Operation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace girih::dialect {

// Tensor operands have a tensor result of the init's type; memref operands have none.
mlir::LogicalResult verifyDestination(mlir::Operation *op, mlir::Value init);

// Memrefs are read, `init` is written.
void addBufferEffects(
    mlir::Operation *op, mlir::Value init,
    llvm::SmallVectorImpl<mlir::SideEffects::EffectInstance<mlir::MemoryEffects::Effect>> &effects);

}  // namespace girih::dialect
