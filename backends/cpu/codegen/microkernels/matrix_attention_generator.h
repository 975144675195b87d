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
  // Positions that are multiplied together, and those whose keys and values are made ready together.
  static constexpr int64_t kGroup = 32, kPassGroups = 4, kPass = kPassGroups * kGroup;
  static constexpr int64_t kGroupBytes = kGroup * 2, kWeightBytes = kPass * 2;  // of a row's weights

  // 32 rows from `row` on in the pass that begins at position `start`, what their first and last token see, and the
  // groups of the pass that some row sees.
  struct Tile {
    mlir::Value row, start, firstOwn, lastOwn, firstGroup, endGroup;
  };
  // 32 positions from `position` on that a tile meets, and which of two buffers holds their scores.
  struct Group {
    Tile tile;
    mlir::Value number, position, parity;
  };
  // The tile at `row` and one of its groups.
  struct Place {
    mlir::Value row, group;
  };

  // ---- Before and after ----
  struct Row {
    mlir::Value token, number, q, out;
  };
  void forRows(const Rows &rows, llvm::function_ref<void(const Row &)> body);
  void prepareQueries(const Rows &rows);
  void clearSums(const Tile &tile);
  void finish(const Rows &rows);
  mlir::Value roundedUp(mlir::Value count);

  // ---- Keys and values of a pass in pairs ----
  void preparePass(const Rows &rows, mlir::Value start);
  void pairKeys(const Rows &rows, mlir::Value block, mlir::Value target);
  void pairValues(const Rows &rows, mlir::Value block, int64_t half, mlir::Value target);
  mlir::Value roundedPair(mlir::Value low, mlir::Value high);
  void storePair(mlir::Value even, mlir::Value odd, mlir::Value target);

  // ---- Rows meet a pass ----
  void meetPass(const Rows &rows, mlir::Value start);
  llvm::SmallVector<mlir::Value> meetTile(const Rows &rows, const Tile &tile, mlir::ValueRange carried);
  void meetGroup(const Group &group, const Place &next);
  Tile tileOf(const Rows &rows, mlir::Value row, mlir::Value start);
  Place after(const Rows &rows, const Place &place, mlir::Value start);
  mlir::Value tokenOf(const Rows &rows, mlir::Value row);

  // ---- Products ----
  void multiplyKeys(const Place &place, llvm::function_ref<void(int64_t)> before = nullptr,
                    llvm::function_ref<void(int64_t)> between = nullptr);
  void storeScores(mlir::Value parity, int64_t sum);
  void storeScores(mlir::Value parity);
  void multiplyValues(const Tile &tile, int64_t numGroups, mlir::Value parity);
  void moveOut(llvm::StringRef intrinsic, const Tile &tile, int64_t firstColumn, int64_t sum);

  // ---- Weights; `row` counts from the tile's first ----
  void capScores(const Group &group);
  mlir::Value weighRows(const Group &group, mlir::Value first, bool isCut, mlir::Value most);
  mlir::Value weighCut(const Group &group);  // the largest in each lane, but for the bend
  void weighCarefully(const Group &group);
  // Of a row and 32 positions the bits of bf16 weights, but for the bend.
  mlir::Value exponents(const Group &group, mlir::Value row, mlir::Value offset, bool isCut);
  mlir::Value isSeen(const Group &group, mlir::Value row, int64_t vector);
  mlir::Value bent(mlir::Value exponents);
  mlir::Value isAbove(mlir::Value values, int64_t bound);  // some lane, or at it
  void sumWeights(const Tile &tile, mlir::Value row, int64_t numGroups);

  // ---- References ----
  // Moves the row's reference to its highest score of the group; returns the new offset.
  mlir::Value moveReference(const Group &group, mlir::Value row, mlir::Value offset);
  mlir::Value highestOctave(const Group &group, mlir::Value row);
  mlir::Value earlierWeights(const Group &group, mlir::Value row);
  void multiplyRow(const Group &group, mlir::Value row, mlir::Value power);

  // ---- Tile registers ----
  void callTile(llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers, mlir::ValueRange memory = {});
  void loadTile(int64_t number, mlir::Value memory, int64_t rowBytes);
  mlir::Value callVector(llvm::StringRef intrinsic, mlir::Type type, mlir::ValueRange operands);

  mlir::Value outSlot(mlir::Value row) { return slot(outAt, row, numVectors * kVectorBytes); }
  mlir::Value scoresOf(const Group &group, mlir::Value row, int64_t vector);
  mlir::Value weightsOf(mlir::Value group, mlir::Value row);
  mlir::Value ofRow(int64_t section, const Tile &tile, mlir::Value row, int64_t rowBytes = 4);
  mlir::Type halves() { return mlir::VectorType::get(2 * kLanes, k.b.getBF16Type()); }
  mlir::Type words() { return mlir::VectorType::get(2 * kLanes, k.b.getI16Type()); }

  int64_t paddedKeyDim;  // a multiple of 32
  int64_t keyBlockBytes; // of a block's keys in pairs
  // Sections of the frame.
  int64_t queriesAt, keysAt, valuesAt, scoresAt, weightsAt, outAt, sumsAt, offsetsAt, ownAt, configurationAt;
  mlir::Value bend, lowBytes;
};

}  // namespace girih::cpu
