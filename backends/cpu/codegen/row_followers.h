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

  // What is computed at a time.
  struct Piece {
    mlir::Value firstRow, numRows;
    // From here on lie the rows of what nobody else sees; of the matmuls' results where `resultIsNear`.
    mlir::Value nearRow;
    bool resultIsNear = false;
    // With `result`, which then stands for the matmul's result from its first column on: so many columns; else all.
    mlir::Value result = {}, firstColumn = {};
    int64_t numColumns = 0;
  };
  void emit(mlir::OpBuilder &b, const Piece &piece);
  void erase();

private:
  bool isFollower(mlir::linalg::GenericOp op);
  bool isOwn(mlir::Value memref);
  bool isResult(mlir::Value memref);
  mlir::Value rowsOf(mlir::OpBuilder &b, mlir::OpOperand &operand, const Piece &piece);

  llvm::SmallVector<dialect::QMatmulOp> matmuls;
  llvm::SmallVector<mlir::linalg::GenericOp> followers;
  llvm::DenseSet<mlir::Value> own; // scratch that the matmul or a follower writes and nobody else sees
};

} // namespace girih::cpu
