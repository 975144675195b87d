// SPDX-License-Identifier: Apache-2.0
// MatrixAttentionGenerator: attention of many tokens whose products are tiles of bf16 on a matrix unit.
#pragma once

#include "backends/cpu/codegen/microkernels/attention_walk.h"

namespace girih::cpu {

// Queries (with the scale), keys, weights and values are rounded to bf16; products are exact, sums, maxima and factors
// are f32. A chunk's K and V are put into pairs of rows once for all rows of the tile; then 32 rows meet 32 positions
// (or 32 columns of V) at a time. Requires: the ISA has tiles.
class MatrixAttentionGenerator : public AttentionWalk {
public:
  // `scratch` holds matrixAttentionScratchBytes, 64-byte aligned.
  MatrixAttentionGenerator(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands,
                           int64_t maxTokens, mlir::Value scratch);

  // Around all calls of emit: tile registers are taken, and given back.
  void configure();
  void release();

  static int64_t scratchBytes(const AttentionShape &shape, int64_t maxTokens);

private:
  void prepareQueries(const Rows &rows) override;
  void scores(const Rows &rows, const Blocks &blocks) override;
  void softmaxToken(const Rows &rows, const Blocks &blocks, mlir::Value token) override;
  void accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) override;

  void pairKeys(const Rows &rows, mlir::Value block, mlir::Value target);
  void pairValues(const Rows &rows, mlir::Value block, mlir::Value target);
  void storePair(mlir::Value even, mlir::Value odd, mlir::Value target);
  // Sums of two row tiles and `columnTiles` (1 or 2) column tiles, from registers 0-3.
  void clearSums(int64_t columnTiles);
  void multiply(mlir::Value left, int64_t leftStride, mlir::Value right, int64_t rightDistance, int64_t columnTiles);
  void storeSums(mlir::Value target, int64_t rowBytes, int64_t columnTiles);
  void deliverTile(mlir::Value firstRow, int64_t vector);
  mlir::Value maskedScore(const Rows &rows, mlir::Value score, mlir::Value own, mlir::Value block);
  void callTile(llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers, mlir::ValueRange memory = {});

  int64_t paddedKeyDim;  // a multiple of 32
  int64_t weightsAt, keysAt, valuesAt, sumsOfTileAt, configurationAt;  // sections of the frame
};

}  // namespace girih::cpu
