// SPDX-License-Identifier: Apache-2.0
// MatrixAttentionGenerator: attention of many tokens whose products are tiles of bf16 on a matrix unit.
#pragma once

#include "backends/cpu/codegen/microkernels/attention_rows.h"

namespace girih::cpu {

// Queries (with the scale), keys, weights and values are rounded to bf16; products are exact, sums are f32. Positions are
// taken in passes of 128, whose K and V are put into pairs of rows once for all rows of the tile; then 32 rows at a time
// meet them.
//
// A weight is made as the integer that bf16's bits are: the score counts 128ths of an octave, so that adding the bias
// makes exponent and mantissa, and a table of 64 bends the straight line between two powers of 2. Its relative error is
// below 2^-7, that of rounding to bf16 twice; sums are of the rounded weights.
//
// Weights are relative to a power of 2 of the row, its reference. bf16 has f32's exponents, so the reference is moved (and
// what was summed is multiplied) only where a score is 60 octaves above it, or all of the first ones are as far below.
// Powers of 2 change no mantissa: a row has the same bits whatever rows are beside it.
//
// Requires: the ISA has tiles.
class MatrixAttentionGenerator : public AttentionRows {
public:
  // `scratch` holds scratchBytes, 64-byte aligned.
  MatrixAttentionGenerator(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands,
                           int64_t maxTokens, mlir::Value scratch);

  // Around all calls of emit: tile registers are taken, and given back.
  void configure();
  void release();

  void emit(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup) override;

  static int64_t scratchBytes(const AttentionShape &shape, int64_t maxTokens);

private:
  // 32 rows from `row` on, and what their first and last token see.
  struct Tile {
    mlir::Value row, firstOwn, lastOwn;
  };

  // ---- Before and after ----
  void prepareQueries(const Rows &rows);
  void clearState(const Rows &rows);
  void finish(const Rows &rows);

  // ---- Keys and values of a pass in pairs ----
  void preparePass(const Rows &rows, mlir::Value start);
  void pairKeys(const Rows &rows, mlir::Value block, mlir::Value target);
  void pairValues(const Rows &rows, mlir::Value block, int64_t half, mlir::Value target);
  void storePair(mlir::Value even, mlir::Value odd, mlir::Value target);

  // ---- A tile of rows meets a pass ----
  void attend(const Rows &rows, const Tile &tile, mlir::Value start);
  // `groups` times 32 positions from `first` on, which is `inPass` positions behind the start of the pass.
  void attendGroups(const Rows &rows, const Tile &tile, mlir::Value first, mlir::Value inPass, int64_t groups);
  void scores(const Tile &tile, mlir::Value inPass, int64_t groups);
  void capScores(int64_t groups);
  void maskScores(const Rows &rows, const Tile &tile, mlir::Value first, int64_t groups);
  void weigh(const Tile &tile, int64_t groups, mlir::Value first);
  void accumulate(const Tile &tile, mlir::Value inPass, int64_t groups);
  mlir::Value tokenOf(const Rows &rows, mlir::Value row);

  // ---- A row's weights ----
  // Of each 32 positions the bits of bf16 weights, but for the bend.
  llvm::SmallVector<mlir::Value> exponents(mlir::Value scores, mlir::Value offset, int64_t groups);
  mlir::Value weightsOf(mlir::Value exponents);
  mlir::Value isFar(mlir::Value exponents, mlir::Value lowest);  // from the row's reference
  // Moves the row's reference to its highest score; returns the new offset.
  mlir::Value moveReference(mlir::Value row, mlir::Value scores, mlir::Value offset, int64_t groups);

  // ---- Tile registers ----
  // Loads or stores a set of sums.
  void moveSums(llvm::StringRef intrinsic, int64_t set, mlir::Value memory, int64_t rowBytes);
  // Adds the rows of `left` times the tile in register `right` to a set.
  void multiply(int64_t set, mlir::Value left, int64_t leftStride, int64_t right);
  void callTile(llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers, mlir::ValueRange memory = {});

  mlir::Value outSlot(mlir::Value row) { return slot(outAt, row, numVectors * kVectorBytes); }
  mlir::Value callVector(llvm::StringRef intrinsic, mlir::Type type, mlir::ValueRange operands);
  mlir::Type words() { return mlir::VectorType::get(2 * kLanes, k.b.getI16Type()); }

  int64_t paddedKeyDim;  // a multiple of 32
  int64_t keyBlockBytes; // of a block's keys in pairs
  // Sections of the frame. A row's scores become its weights in place.
  int64_t queriesAt, keysAt, valuesAt, scoresAt, outAt, sumsAt, offsetsAt, onesAt, configurationAt;
  mlir::Value bend;
};

}  // namespace girih::cpu
