// SPDX-License-Identifier: Apache-2.0
// Dialect `girih`: generated classes.
#pragma once

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/TilingInterface.h"

#include "dialects/girih/dialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/girih/attrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/girih/types.h.inc"

#define GET_OP_CLASSES
#include "dialects/girih/ops.h.inc"

namespace girih::dialect {

// The storage format of a weight's type, or an empty string for a tensor that is no weight.
llvm::StringRef storageFormat(mlir::Type type);

// Registers how the ops behave under one-shot bufferization.
void registerBufferization(mlir::DialectRegistry &registry);

}  // namespace girih::dialect
