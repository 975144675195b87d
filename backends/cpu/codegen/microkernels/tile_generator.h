// SPDX-License-Identifier: Apache-2.0
// TileGenerator: emits activations times packed weights, in tiles of rows x 16-column panels.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// The operands of one matmul, as addresses. Strides and sizes are index values; strides in bytes.
struct TileOperands {
  mlir::Value x;        // f32 [numRows, depth], rows `xStride` apart
  mlir::Value weights;  // the panel that holds column 0
  mlir::Value out;      // f32 [numRows, numColumns], rows `outStride` apart
  mlir::Value xStride, outStride;
  mlir::Value numRows, numColumns;
  int64_t depth;
};

struct TileShape {
  int64_t rows;    // MR: rows that share a weight vector in registers
  int64_t panels;  // NV: panels of 16 columns side by side
  int64_t depth;   // KC: k per pass, for the panel strategy
};

// Accumulators, one weight vector a panel and a broadcast: what a tile keeps in registers.
inline int64_t lanesNeeded(const TileShape &shape) { return shape.rows * shape.panels + shape.panels + 1; }

// out[t, n] = the chain fma(x[t, k], w[n, k], acc) over ascending k from 0, whichever strategy and shape.
class TileGenerator {
public:
  TileGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, TileShape shape)
      : k(k), layout(layout), isa(isa), shape(shape) {}

  // Dequantises in registers right before use; for few rows.
  void emitDirect(const TileOperands &tile);
  // Dequantises `depth` x `panels` weights into `scratch` (panelScratchBytes) once for all rows; for many rows.
  void emitPanel(const TileOperands &tile, mlir::Value scratch);

private:
  struct Columns {
    mlir::Value first;  // column number of the first panel
    int64_t panels;
    mlir::Value lastMask;  // lanes of the last panel that exist; null when all do
  };
  using Accumulators = llvm::SmallVector<mlir::Value>;  // row-major [rows][panels]

  void forColumns(const TileOperands &tile, llvm::function_ref<void(const Columns &)> body);
  void forRows(mlir::Value numRows, llvm::function_ref<void(mlir::Value, int64_t)> body);
  void directTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows);
  void prefetchAhead(mlir::Value weights, mlir::Value block, const Columns &columns, int64_t depth);
  void unpackPanels(mlir::Value weights, int64_t panels, int64_t panelDepth, mlir::Value firstBlock, int64_t depth,
                    mlir::Value scratch);
  void panelTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows,
                 mlir::Value firstK, int64_t depth, mlir::Value scratch);
  void multiplyStep(mlir::Value x, mlir::Value xStride, mlir::Value weights, int64_t step, int64_t panels,
                    Accumulators &sums);
  mlir::Value outAddress(const TileOperands &tile, const Columns &columns, mlir::Value row, int64_t panel);
  void storeOut(const TileOperands &tile, const Columns &columns, mlir::Value row, int64_t panel, mlir::Value sum);
  mlir::Value panelAddress(const TileOperands &tile, const Columns &columns);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  TileShape shape;
};

inline int64_t panelScratchBytes(const TileShape &shape) { return shape.depth * shape.panels * kLanes * 4; }

}  // namespace girih::cpu
