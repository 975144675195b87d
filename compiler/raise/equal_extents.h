// SPDX-License-Identifier: Apache-2.0
// Which dynamic extents of a function's tensors are the same number.
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/EquivalenceClasses.h"

namespace girih::compiler {

// Extents that every run of the function makes equal: those that share a loop of a linalg operation, a view's
// and its source's, an empty tensor's and the number that it was made with. A snapshot; valid until the
// function changes.
class EqualExtents {
public:
  explicit EqualExtents(mlir::func::FuncOp function);

  bool areEqual(mlir::Value left, unsigned leftDim, mlir::Value right, unsigned rightDim) const;

private:
  // A dimension of a tensor, or (dimension -1) the number that an index value holds.
  using Extent = std::pair<void *, int64_t>;
  void joinSize(mlir::Value tensor, int64_t dim, mlir::OpFoldResult size);
  void join(mlir::Value left, int64_t leftDim, mlir::Value right, int64_t rightDim);

  llvm::EquivalenceClasses<Extent> classes;
};

} // namespace girih::compiler
