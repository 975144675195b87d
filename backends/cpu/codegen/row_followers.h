// SPDX-License-Identifier: Apache-2.0
// RowFollowers: what a unit computes from matmuls' rows, done for some rows at a time while these are near.
#pragma once

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace girih::cpu {

// The elementwise operations on memrefs behind a matmul, or behind the last of several that are computed together, up to
// the end of its block.
class RowFollowers {
public:
  // Empty where something else stands behind the matmul, or where a row of theirs needs another of its rows.
  explicit RowFollowers(llvm::ArrayRef<dialect::QMatmulOp> matmuls);

  bool empty() const { return followers.empty(); }
  // Whether nothing but the followers reads the matmuls' results: they need no more rows than are near.
  bool ownResults() {
    return llvm::all_of(matmuls, [&](dialect::QMatmulOp op) { return own.contains(op.getInit()); });
  }

  // Emits the followers for rows first .. first+count-1. What nobody else sees has them from `nearRow` on; so has the
  // matmuls' results where `resultIsNear`.
  void emit(mlir::OpBuilder &b, mlir::Value first, mlir::Value count, mlir::Value nearRow, bool resultIsNear);
  void erase();

private:
  struct Rows {
    mlir::Value first, count, nearRow;
    bool resultIsNear;
  };

  bool isFollower(mlir::linalg::GenericOp op);
  bool isOwn(mlir::Value memref);
  bool isResult(mlir::Value memref);
  mlir::Value rowsOf(mlir::OpBuilder &b, mlir::OpOperand &operand, const Rows &rows);

  llvm::SmallVector<dialect::QMatmulOp> matmuls;
  llvm::SmallVector<mlir::linalg::GenericOp> followers;
  llvm::DenseSet<mlir::Value> own; // scratch that the matmul or a follower writes and nobody else sees
};

} // namespace girih::cpu
