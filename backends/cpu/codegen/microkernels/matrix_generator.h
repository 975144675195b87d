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
// A pass's weights are dequantised between the tile products of the pass before it, which leave the vector units idle;
// the last pass of a call prepares the first one of the panels that follow, for the call that most likely comes next.
class MatrixGenerator {
public:
  MatrixGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                  TileShape shape)
      : k(k), layout(layout), isa(isa), shape(shape) {}

  // Called to emit what follows for rows first .. first+count-1, complete by then; `count` may be 0.
  using RowsDone = llvm::function_ref<void(mlir::Value first, mlir::Value count)>;

  // `frame` holds matrixFrameBytes, 64-byte aligned, and keeps what it holds between calls of one dispatch.
  void emit(const TileOperands &tile, mlir::Value frame, RowsDone rowsDone = nullptr);
  // As emit, for few enough columns and k that a row is complete at once: row t is written to row nearRow(t), over the
  // one of two groups before.
  void emitNear(const TileOperands &tile, mlir::Value frame, RowsDone rowsDone);
  static mlir::Value nearRow(KernelBuilder &k, mlir::Value row) { return k.rem(row, k.index(4 * kTileRows)); }
  static bool canKeepNear(const TileShape &shape, int64_t columns, int64_t depth) {
    return columns <= shape.panels * kLanes && depth <= shape.depth;
  }
  // Before the first call of a dispatch: nothing is prepared.
  static void emitReset(KernelBuilder &k, mlir::Value frame);

private:
  // Panels first .. first+count-1 of the call.
  struct Group {
    mlir::Value first, count;
  };
  // The k of one pass over the rows, where its weights lie, and what is prepared meanwhile.
  struct Pass {
    mlir::Value firstK;
    int64_t depth;
    mlir::Value isFirst; // null when the only one
    mlir::Value isLast;  // of all: rows are complete after it
    Group group;
    mlir::Value weights;
    PanelJob next;
    mlir::Value nextWeights;
    mlir::Value numSlices, slicesPerStep;
  };
  struct Rows {
    mlir::Value first, count; // count <= 32
    int64_t tiles;            // 1 or 2
  };

  int64_t numPasses(const TileOperands &tile) { return llvm::divideCeil(tile.depth, shape.depth); }
  int64_t passBytes() { return shape.depth * shape.panels * kLanes * 2; }
  PanelJob jobAt(const TileOperands &tile, mlir::Value firstPanel, mlir::Value pass);
  mlir::Value weightsOf(mlir::Value passNumber);
  void unpack(const PanelJob &job, mlir::Value weights);
  void emitPass(const TileOperands &tile, const Group &group, mlir::Value number, int64_t depth);
  void emitRows(const TileOperands &tile, const Pass &pass);
  void follow(const Pass &pass, mlir::Value first, mlir::Value count);
  void configure(mlir::Value numRows);
  void emitPanels(const TileOperands &tile, const Pass &pass, const Rows &rows);
  void emitSums(const TileOperands &tile, const Pass &pass, const Rows &rows, mlir::Value panel,
                int64_t panels);
  mlir::Value emitSlices(const Pass &pass, mlir::Value first);
  bool followsBetweenProducts(const TileOperands &tile, const Pass &pass);
  void followBehind(const Pass &pass, mlir::Value rowsFirst, mlir::Value block, int64_t numBlocks);
  void multiply(mlir::Value x, mlir::Value xStride, mlir::Value weights, int64_t panelBytes, int64_t rowTiles,
                int64_t panels, llvm::function_ref<void()> between);
  void copyLastK(const TileOperands &tile, const Rows &rows, const Pass &pass, mlir::Value target);
  void startSum(const TileOperands &tile, const Rows &rows, int64_t sum, mlir::Value address,
                mlir::Value columns);
  void storeSum(const TileOperands &tile, const Rows &rows, int64_t sum, mlir::Value address,
                mlir::Value columns);
  void copyColumns(mlir::Value from, mlir::Value fromStride, mlir::Value to, mlir::Value toStride,
                   mlir::Value numRows, mlir::Value columns);
  mlir::Value rowsOfTile(const Rows &rows, int64_t rowTile);

  void callTile(llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers, mlir::ValueRange memory = {});

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  TileShape shape;
  RowsDone rowsDone = nullptr;
  bool isNear = false;
  mlir::Value frame;
  mlir::Value firstBuffer;   // 0 or 1: where the call's first pass has its weights
  mlir::Value configuration; // 64 bytes of the stack
  mlir::Value spare;         // 3 KiB of the stack: two partial tiles of activations, one of sums
};

// What is prepared, a line; then the weights of two passes: `depth` k of `panels` panels, two bytes each.
inline int64_t matrixFrameBytes(const TileShape &shape) {
  return 64 + 2 * shape.depth * shape.panels * kLanes * 2;
}

} // namespace girih::cpu
