// SPDX-License-Identifier: Apache-2.0
// What other rooms of the table need of constants and dialect tensor.
#pragma once

#include "backends/reference/frame.h"

#include "mlir/IR/OpDefinition.h"

namespace girih::reference {

// The number of a float or integer attribute.
Expected<double> scalarOf(mlir::Attribute attribute);
// A static or computed extent, offset or bound.
int64_t extentOf(const Frame &frame, mlir::OpFoldResult extent);
// The destination of a `tensor.parallel_insert_slice` after it.
Expected<Tensor> insertParallelSlice(Frame &frame, mlir::Operation &op);

} // namespace girih::reference
