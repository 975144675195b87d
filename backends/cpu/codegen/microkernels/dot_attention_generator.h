// SPDX-License-Identifier: Apache-2.0
// DotAttentionGenerator: attention of many tokens whose products are dots of 16-bit integers.
#pragma once

#include "backends/cpu/codegen/microkernels/attention_rows.h"

namespace girih::cpu {

// Queries and keys are integers of one scale a row and one a position, as large as lets no sum over D leave 32 bits
// (5,792 for D = 64: 13 bits); values are 11 bits of one scale an element of D and pass; every sum is exact. Positions are
// taken in passes of 128, whose K and V are put into pairs once for all rows of the tile; then 12 rows at a time meet them.
//
// A pass has one maximum for each row, and weights relative to it of up to 2^14: the score counts 64ths of an octave
// below the maximum, whose fraction finds the weight in a table of 64 and whose octaves shift it. A weight is off by at most
// 0.6 % and 1/2; sums are of the rounded weights. Passes are joined in f32.
//
// Requires: 512-bit registers that sum products of 16 bits by pairs (vpdpwssd).
class DotAttentionGenerator : public AttentionRows {
public:
  // `scratch` holds scratchBytes, 64-byte aligned.
  DotAttentionGenerator(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands,
                        int64_t maxTokens, mlir::Value scratch);

  void emit(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup) override;

  static int64_t scratchBytes(const AttentionShape &shape, int64_t maxTokens);

private:
  // Rows and positions that are multiplied together: 24 sums in registers. And positions that are made ready together.
  static constexpr int64_t kRows = 12, kGroup = 32, kPassGroups = 4, kPass = kPassGroups * kGroup;
  static constexpr int64_t kScoreBytes = kPass * 4, kWeightBytes = kPass * 2; // of a row

  // Rows from `row` on in the pass that begins at position `start`, and groups of the pass: those that some row sees are
  // firstGroup .. endGroup - 1, those from cutGroup on some row does not wholly see.
  struct Tile {
    mlir::Value row, start, firstGroup, cutGroup, endGroup;
  };
  using Sums = llvm::SmallVector<mlir::Value>; // vector<16xi32> [kRows][2]

  // ---- Before and after ----
  void prepareQueries(const Rows &rows);
  void prepareQuery(const Rows &rows, mlir::Value row);
  void finish(const Rows &rows);
  mlir::Value tokenOf(const Rows &rows, mlir::Value row);

  // ---- Keys and values of a pass in pairs ----
  void preparePass(const Rows &rows, mlir::Value start);
  void pairKeys(const Rows &rows, mlir::Value block, mlir::Value target, mlir::Value scales);
  void pairValues(const Rows &rows, mlir::Value firstOfPass, mlir::Value first, mlir::Value end);
  // 16 values of a position of a block, those behind the last position of all replaced by the last one's.
  mlir::Value valuesAt16(const Rows &rows, mlir::Value block, mlir::Value position, int64_t vector);
  void storePair(mlir::Value even, mlir::Value odd, mlir::Value target);

  // ---- Rows meet a pass ----
  Tile tileOf(const Rows &rows, mlir::Value row, mlir::Value start);
  void meetTile(const Tile &tile);
  // Rows of pairs at `left`, `stride` bytes apart, times pairs of 32 columns at `right`.
  Sums products(mlir::Value left, int64_t stride, mlir::Value right, mlir::Value numPairs);
  void multiplyKeys(const Tile &tile, mlir::Value group);
  void multiplyValues(const Tile &tile);
  void capScores(const Tile &tile);
  void findMaxima(const Tile &tile);
  void weigh(const Tile &tile);
  mlir::Value weightsOf(mlir::Value first, mlir::Value second); // of 16 and 16 positions, in 64ths of an octave
  void join(const Tile &tile);

  mlir::Value dot(mlir::Value sum, mlir::Value x, mlir::Value y);
  mlir::Value nearest(mlir::Value values); // i32
  mlir::Value call(llvm::StringRef intrinsic, mlir::Type type, mlir::ValueRange operands);
  mlir::Value word(int64_t section, mlir::Value number) { return slot(section, number, 4); }
  mlir::Value scoreAt(mlir::Value row, mlir::Value group, int64_t vector);
  mlir::Value outSlot(mlir::Value row) { return slot(outAt, row, numVectors * kVectorBytes); }
  mlir::Type integers() { return k.lanes(k.b.getI32Type()); }
  mlir::Type words() { return mlir::VectorType::get(2 * kLanes, k.b.getI16Type()); }

  int64_t paddedKeyDim;  // a multiple of 16
  int64_t evenVectors;   // of V
  // Sections of the frame.
  int64_t queriesAt, minusScalesAt, ownAt, keysAt, keyScalesAt, valuesAt, valueScalesAt, scoresAt, weightsAt;
  int64_t outAt, sumsAt, maximaAt, passSumsAt, passMaximaAt, oldFactorsAt, newFactorsAt;
};

} // namespace girih::cpu
