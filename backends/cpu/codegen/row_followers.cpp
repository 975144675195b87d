// SPDX-License-Identifier: Apache-2.0
// RowFollowers: implementation.
#include "backends/cpu/codegen/row_followers.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::cpu {

RowFollowers::RowFollowers(ArrayRef<QMatmulOp> matmuls) : matmuls(matmuls) {
  for (Operation *op = matmuls.back()->getNextNode(); op && !op->hasTrait<OpTrait::IsTerminator>();
       op = op->getNextNode()) {
    if (isa<memref::SubViewOp, BufferAtOp, arith::ConstantOp, affine::AffineApplyOp>(op))
      continue;
    auto generic = dyn_cast<linalg::GenericOp>(op);
    if (!generic || !isFollower(generic)) {
      followers.clear();
      return;
    }
    followers.push_back(generic);
  }
  for (linalg::GenericOp follower : followers)
    for (Value operand : follower->getOperands())
      if (isOwn(operand))
        own.insert(operand);
}

bool RowFollowers::isResult(Value memref) {
  return llvm::any_of(matmuls, [&](QMatmulOp matmul) { return matmul.getInit() == memref; });
}

// Rows are the first of two parallel loops, and as many as the matmul's: one operand is its result, or a follower's.
bool RowFollowers::isFollower(linalg::GenericOp op) {
  if (op.getNumLoops() != 2 || op.getNumParallelLoops() != 2)
    return false;
  bool hasItsRows = false;
  for (OpOperand &operand : op->getOpOperands()) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    if (!map.isProjectedPermutation() ||
        (isa<MemRefType>(operand.get().getType()) && map.getNumResults() > 2))
      return false;
    bool isKnown = isResult(operand.get()) || llvm::any_of(followers, [&](linalg::GenericOp follower) {
                     return llvm::is_contained(follower.getOutputs(), operand.get());
                   });
    hasItsRows |= isKnown && !op.isDpsInit(&operand) && map.isIdentity();
  }
  return hasItsRows;
}

bool RowFollowers::isOwn(Value memref) {
  auto buffer = memref.getDefiningOp<BufferAtOp>();
  if (!buffer || buffer.getSpace() != "scratch")
    return false;
  bool isMade = isResult(memref);
  for (Operation *user : memref.getUsers()) {
    auto follower = dyn_cast<linalg::GenericOp>(user);
    if (!llvm::is_contained(matmuls, dyn_cast<QMatmulOp>(user)) &&
        (!follower || !llvm::is_contained(followers, follower)))
      return false;
    // A follower that makes it reads nothing from it that was there before.
    isMade |= follower && llvm::is_contained(follower.getOutputs(), memref);
  }
  return isMade;
}

Value RowFollowers::rowsOf(OpBuilder &b, OpOperand &operand, const Piece &piece) {
  Value memref = operand.get();
  auto type = dyn_cast<MemRefType>(memref.getType());
  auto generic = cast<linalg::GenericOp>(operand.getOwner());
  if (!type || type.getRank() == 0)
    return memref;
  bool isStandIn = piece.result && isResult(memref);
  bool isNear = own.contains(memref) && (piece.resultIsNear || !isResult(memref));
  Location loc = memref.getLoc();
  SmallVector<OpFoldResult> offsets, sizes, strides(type.getRank(), b.getIndexAttr(1));
  for (auto [dimension, expr] : llvm::enumerate(generic.getMatchingIndexingMap(&operand).getResults())) {
    bool isRow = cast<AffineDimExpr>(expr).getPosition() == 0, isPart = !isRow && piece.result;
    offsets.push_back(isRow                  ? OpFoldResult(isNear ? piece.nearRow : piece.firstRow)
                      : isPart && !isStandIn ? OpFoldResult(piece.firstColumn)
                                             : b.getIndexAttr(0));
    sizes.push_back(isRow    ? OpFoldResult(piece.numRows)
                    : isPart ? b.getIndexAttr(piece.numColumns)
                             : memref::getMixedSize(b, loc, memref, static_cast<int64_t>(dimension)));
  }
  return memref::SubViewOp::create(b, loc, isStandIn ? piece.result : memref, offsets, sizes, strides);
}

void RowFollowers::emit(OpBuilder &b, const Piece &piece) {
  for (linalg::GenericOp follower : followers) {
    SmallVector<Value> operands;
    for (OpOperand &operand : follower->getOpOperands())
      operands.push_back(rowsOf(b, operand, piece));
    b.clone(*follower.getOperation())->setOperands(operands);
  }
}

void RowFollowers::erase() {
  for (linalg::GenericOp follower : followers)
    follower.erase();
}

} // namespace girih::cpu
