// SPDX-License-Identifier: Apache-2.0
// MatrixGenerator: emits bf16 activations times packed weights on a matrix unit of eight tile registers.
#pragma once

#include "backends/cpu/codegen/microkernels/panel_feed.h"
#include "backends/cpu/codegen/microkernels/tile_space.h"

namespace girih::cpu {

// One instruction adds [16 rows x 32 k] times [32 k x 16 columns] of bf16 to [16 rows x 16 columns] of f32.
inline constexpr int64_t kTileRows = 16;

// out[t, n] = sum over k of bf16(x[t, k]) * bf16(w[n, k]), products exact, added in f32 in pairs of k over ascending k.
// A row's result depends on nothing but the row. `TileOperands::x` is bf16 here.
//
// The work is a sequence of passes: `shape.depth` k of `shape.panels` panels, dequantised into the frame once for all rows
// of the call and few enough to stay in the first level. Groups of up to 32 rows meet the panels two by two: 2 x 2 tiles
// of sums stay in registers while k goes by. No tile is ever spilled: the register numbers are chosen here, not by LLVM.
// Of two weights beside each other each pair is a panel of the one and the same panel of the other, so that what joins
// their results follows while both are near.
// A call of more panels meets one part of k with all of them before the next, so that rows that outgrow the second level
// come from beyond it once a call.
// Weights that are bf16 in pairs are used where they lie. Others: a pass's weights are dequantised between the tile products of the pass before it, which leave the vector units idle;
// the last pass of a call prepares the first one of the panels that follow, for the call that most likely comes next.
class MatrixGenerator {
public:
  MatrixGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                  TileShape shape)
      : k(k), layout(layout), isa(isa), shape(shape) {}

  // Called to emit what follows for rows first .. first+count-1, complete by then, from `column` on; `count` may be 0.
  using RowsDone = llvm::function_ref<void(mlir::Value first, mlir::Value count, mlir::Value column)>;
  // Where the rows of a result lie: far ones are fetched before their sums are stored, near ones (few enough columns that
  // a row is complete at once) are written to row nearRow(t), over the one of the group before, done with by then: a pass's
  // weights and what passes by fill the first level to the brim. Of a result in parts, which nobody but what follows reads,
  // what follows finds pieces of kPieceColumns columns, rows nearRow(t), at matrixPieceOffset of the frame.
  // Between two parts of k sums lie tile by tile, since rows of a result lie pages apart, or on the same lines of the
  // caches: in the result's memory where nobody else reads it, else in the frame where they fit.
  enum class Place { Far, Hot, Near, Parts };
  static constexpr int64_t kPieceColumns = 2 * weights::kPanelColumns, kPieceRows = 2 * kTileRows;
  static constexpr int64_t kPieceRowBytes = kPieceColumns * 4;
  static constexpr int64_t kPartRows = 512; // of a call, whose parts of sums the frame holds

  // `frame` holds matrixFrameBytes, 64-byte aligned, and keeps what it holds between calls of one dispatch.
  // Requires of two weights: shape.panels is 2.
  void emit(const TileOperands &tile, Place place, mlir::Value frame, RowsDone rowsDone = nullptr);
  static mlir::Value nearRow(KernelBuilder &k, mlir::Value row) { return k.rem(row, k.index(kPieceRows)); }
  static bool canKeepNear(const TileShape &shape, const TileOperands &tile, int64_t columns) {
    bool hasParts = tile.depth > shape.depth;
    return columns * numWeights(tile) <= shape.panels * kLanes && !(hasParts && columns % kLanes != 0);
  }
  static bool canKeepParts(const TileShape &shape, const TileOperands &tile, int64_t columns) {
    return !tile.weightsBeside && columns % kPieceColumns == 0 && shape.panels == 2 &&
           tile.depth > shape.depth;
  }
  // Before the first call of a dispatch: nothing is prepared.
  static void emitReset(KernelBuilder &k, mlir::Value frame);

private:
  // Panels first .. end-1 of the call, `count` with those of a second weight.
  struct Group {
    mlir::Value first, end, count;
  };
  // A panel, counted from the call's first, and a part of k.
  struct Position {
    mlir::Value panel, pass;
  };
  // The k of one pass over the rows, where its weights lie, and what is prepared meanwhile.
  struct Pass {
    mlir::Value firstK;
    int64_t depth;
    mlir::Value isFirst; // null when the only one
    mlir::Value isLast;  // of all: rows are complete after it
    Group group;
    mlir::Value weights, panelBytes;
    PanelJob next;
    mlir::Value nextWeights;
    mlir::Value numSlices, slicesPerStep;
  };
  // What is emitted before or behind a block's product `number`, of kProducts where two tiles of rows meet two panels.
  using ForProduct = llvm::function_ref<void(int64_t number)>;
  static constexpr int64_t kProducts = 4;
  struct Rows {
    mlir::Value first, count; // count <= 32
    int64_t tiles;            // 1 or 2
  };

  // A tile of sums: the register, its rows and first column, and whether it is of the weight beside.
  struct Sum {
    int64_t number;
    mlir::Value firstRow, numRows, firstColumn;
    bool isBeside;
  };
  // Two blocks of k: number `number` of `ofAll`, of 32 rows and a pair of panels.
  struct Step {
    mlir::Value number;
    int64_t ofAll;
    mlir::Value firstRow, firstColumn, slice;
  };
  struct SumPlace {
    mlir::Value address, stride;
  };

  static int64_t numWeights(const TileOperands &tile) { return tile.weightsBeside ? 2 : 1; }
  int64_t panelsOfEach(const TileOperands &tile) { return shape.panels / numWeights(tile); }
  int64_t numPasses(const TileOperands &tile) { return llvm::divideCeil(tile.depth, shape.depth); }
  mlir::Value numPanels(const TileOperands &tile);
  bool isOneGroup(const TileOperands &tile);
  mlir::Value numGroups(const TileOperands &tile);
  Position after(const TileOperands &tile, const Position &position);
  PanelJob jobAt(const TileOperands &tile, const Position &position);
  // Where the weights of a pass lie dequantised, and how far a panel is from the next there.
  mlir::Value weightsOf(mlir::Value passNumber, const PanelJob &job);
  mlir::Value panelStride(const PanelJob &job);
  void unpack(const PanelJob &job, mlir::Value weights);
  void emitPass(const TileOperands &tile, const Group &group, mlir::Value number, int64_t depth);
  void emitRows(const TileOperands &tile, const Pass &pass);
  void follow(const Pass &pass, mlir::Value first, mlir::Value count);
  void configure(mlir::Value numRows);
  Rows rowsBefore(mlir::Value first);
  void emitPanels(const TileOperands &tile, const Pass &pass, const Rows &rows, mlir::Value isAfter);
  llvm::SmallVector<Sum> sumsOf(const TileOperands &tile, const Pass &pass, const Rows &rows,
                                mlir::Value panel, int64_t panels);
  void emitSums(const TileOperands &tile, const Pass &pass, const Rows &rows, mlir::Value panel,
                int64_t panels, mlir::Value isAfter);
  void emitStep(const TileOperands &tile, const Pass &pass, const Step &step,
                llvm::function_ref<void(ForProduct behind)> products);
  bool hasPairs(const TileOperands &tile, const Pass &pass);
  bool followsBetweenProducts(const TileOperands &tile, const Pass &pass);
  bool storesBetweenProducts(const TileOperands &tile, const Pass &pass);
  void fetchRows(const TileOperands &tile, const Pass &pass, const Step &step);
  void followBehind(const Pass &pass, const Step &step);
  void multiply(mlir::Value x, mlir::Value xStride, mlir::Value weights, mlir::Value panelBytes,
                int64_t rowTiles, int64_t panels, ForProduct before, ForProduct behind);
  void copyLastK(const TileOperands &tile, const Rows &rows, const Pass &pass, mlir::Value target);
  bool isPartInFrame(const TileOperands &tile);
  SumPlace resultOf(const TileOperands &tile, const Sum &sum);
  SumPlace partOf(const TileOperands &tile, const Sum &sum);
  SumPlace pieceOf(const Sum &sum);
  void beginSum(const TileOperands &tile, const Pass &pass, const Sum &sum);
  void storeSum(const TileOperands &tile, const Pass &pass, const Sum &sum);
  void storeSums(const TileOperands &tile, const Pass &pass, const Rows &rows);
  void loadSum(const TileOperands &tile, const Sum &sum, const SumPlace &from);
  void storeSum(const TileOperands &tile, const Sum &sum, const SumPlace &to);
  void copyColumns(mlir::Value from, mlir::Value fromStride, mlir::Value to, mlir::Value toStride,
                   mlir::Value numRows, mlir::Value columns);
  mlir::Value rowsOfTile(const Rows &rows, int64_t rowTile);

  void callTile(llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers, mlir::ValueRange memory = {});

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  TileShape shape;
  RowsDone rowsDone = nullptr;
  Place place = Place::Far;
  mlir::Value frame;
  mlir::Value firstBuffer;   // 0 or 1: where the call's first pass has its weights
  mlir::Value configuration; // 64 bytes of the stack
  mlir::Value spare;         // 3 KiB of the stack: two partial tiles of activations, one of sums
};

// What is prepared, a line; then the weights of two passes: `depth` k of `panels` panels, two bytes each, without gaps,
// so that they take as many lines of every set of the first level; then a piece of the result, or parts of sums.
inline int64_t matrixPanelBytes(const TileShape &shape) { return shape.depth * kLanes * 2; }
inline int64_t matrixPassBytes(const TileShape &shape) { return shape.panels * matrixPanelBytes(shape); }
inline int64_t matrixPieceOffset(const TileShape &shape) { return 64 + 2 * matrixPassBytes(shape); }
inline int64_t matrixFrameBytes(const TileShape &shape, int64_t depth) {
  int64_t rows = depth > shape.depth ? MatrixGenerator::kPartRows : MatrixGenerator::kPieceRows;
  return matrixPieceOffset(shape) + rows * MatrixGenerator::kPieceRowBytes;
}

} // namespace girih::cpu
