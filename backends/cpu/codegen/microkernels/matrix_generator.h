// SPDX-License-Identifier: Apache-2.0
// MatrixGenerator: emits bf16 activations times packed weights on a matrix unit of eight tile registers.
#pragma once

#include "backends/cpu/codegen/microkernels/tile_generator.h"

namespace girih::cpu {

// One instruction adds [16 rows x 32 k] times [32 k x 16 columns] of bf16 to [16 rows x 16 columns] of f32.
inline constexpr int64_t kTileRows = 16;

// out[t, n] = sum over k of bf16(x[t, k]) * bf16(w[n, k]), products exact, added in f32 in pairs of k over ascending k.
// A row's result depends on nothing but the row. `TileOperands::x` is bf16 here.
//
// `shape.depth` k of `shape.panels` panels are dequantised into scratch once for all rows of the call, few enough to stay
// in the first level; then each group of up to 32 rows meets the panels two by two: 2 x 2 tiles of sums stay in
// registers while k goes by. No tile is ever spilled: the register numbers are chosen here, not by LLVM.
class MatrixGenerator {
public:
  MatrixGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                  TileShape shape)
      : k(k), layout(layout), isa(isa), shape(shape) {}

  // `scratch` holds matrixScratchBytes, 64-byte aligned.
  void emit(const TileOperands &tile, mlir::Value scratch);

private:
  // The k of one pass over the rows.
  struct Pass {
    mlir::Value firstK;
    int64_t depth;
    mlir::Value isFirst; // null when the only one
  };
  // Panels first .. first+count-1 of the call, dequantised into scratch.
  struct Group {
    mlir::Value first, count;
  };
  struct Rows {
    mlir::Value first, count; // count <= 32
    int64_t tiles;            // 1 or 2
  };

  void emitGroup(const TileOperands &tile, const Group &group, const Pass &pass, mlir::Value scratch);
  void unpackGroup(const TileOperands &tile, const Group &group, const Pass &pass, mlir::Value scratch);
  void unpackBlock(mlir::Value source, mlir::Value target, int64_t count);
  void configure(mlir::Value numRows);
  void emitPanels(const TileOperands &tile, const Group &group, const Pass &pass, const Rows &rows,
                  mlir::Value scratch);
  void emitSums(const TileOperands &tile, const Group &group, const Pass &pass, const Rows &rows,
                mlir::Value panel, int64_t panels, mlir::Value scratch);
  void multiply(mlir::Value x, mlir::Value xStride, mlir::Value weights, int64_t panelBytes, int64_t rowTiles,
                int64_t panels);
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
  mlir::Value configuration; // 64 bytes of the frame
  mlir::Value spare;         // 3 KiB of the frame: two partial tiles of activations, one of sums
};

// `depth` k of `panels` panels, two bytes each.
inline int64_t matrixScratchBytes(const TileShape &shape) { return shape.depth * shape.panels * kLanes * 2; }

} // namespace girih::cpu
