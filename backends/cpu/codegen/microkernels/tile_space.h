// SPDX-License-Identifier: Apache-2.0
// TileSpace: the tiles of one matmul, rows x 16-column panels: their loops, their addresses, their ragged ends.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// The operands of one matmul, as addresses. Strides and sizes are index values; strides in bytes.
struct TileOperands {
  mlir::Value x;        // [numRows, depth] in the generator's type, rows `xStride` apart
  mlir::Value weights;  // the panel that holds column 0
  mlir::Value out;      // f32 [numRows, numColumns], rows `outStride` apart
  mlir::Value xStride, outStride;
  mlir::Value numRows, numColumns;
  mlir::Value panelsLeft;  // of the weight, from `weights` on
  // A weight of the same kind that the same x is multiplied by, and its result; null where there is none.
  mlir::Value weightsBeside, outBeside;
  int64_t depth;
  // What else is fetched meanwhile: so many lines for each block of k, from `fetched` on, the last of them at
  // `lastFetched` bytes; 0: nothing.
  mlir::Value fetched, lastFetched;
  int64_t fetchedLines = 0;
};

struct TileShape {
  int64_t rows;    // MR: rows that share a weight vector in registers
  int64_t panels;  // NV: panels of 16 columns side by side
  int64_t depth;   // KC: k per pass, for the panel strategy
};

// The same 16 lanes, computed here and not later (KernelBuilder::pin), in as many registers as they take.
mlir::Value pinned(KernelBuilder &k, mlir::Value lanes, const IsaTraits &isa);

// What every generator of matmuls shares. Not thread-safe; emits through `k`.
class TileSpace {
public:
  TileSpace(KernelBuilder &k, const weights::PackedLayout &layout, TileShape shape)
      : k(k), layout(layout), shape(shape) {}

protected:
  struct Columns {
    mlir::Value first;  // column number of the first panel
    int64_t panels;
    mlir::Value lastMask;  // lanes of the last panel that exist; null when all do
  };
  using Accumulators = llvm::SmallVector<mlir::Value>;  // row-major [rows][panels]

  // Groups of shape.panels panels, then what is left.
  void forColumns(const TileOperands &tile, llvm::function_ref<void(const Columns &)> body);
  // Groups of shape.rows rows, then what is left in ever smaller ones. No row is computed twice.
  void forRows(mlir::Value numRows, llvm::function_ref<void(mlir::Value, int64_t)> body);
  mlir::Value panelAddress(const TileOperands &tile, const Columns &columns);
  mlir::Value outAddress(const TileOperands &tile, const Columns &columns, mlir::Value row, int64_t panel);
  mlir::Value loadOut(const TileOperands &tile, const Columns &columns, mlir::Value row, int64_t panel);
  void storeOut(const TileOperands &tile, const Columns &columns, mlir::Value row, int64_t panel, mlir::Value sum);
  // Fetches every line of the block that each stream reaches a little later. Past its panel's end a stream goes on in
  // the same panel of the next groups, which this thread reads next.
  void prefetchAhead(mlir::Value weights, mlir::Value block, const Columns &columns, int64_t depth);

  // What else is fetched (TileOperands::fetched) with part number `part` of block number `block` of the call.
  void fetchBeside(const TileOperands &tile, mlir::Value block, int64_t part, int64_t numParts);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  TileShape shape;
};

}  // namespace girih::cpu
