// SPDX-License-Identifier: Apache-2.0
// TileGenerator: emits activations times packed weights, in tiles of rows x 16-column panels.
#pragma once

#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/microkernels/tile_space.h"

namespace girih::cpu {

// Accumulators, one weight vector a panel and a broadcast: what a tile keeps in registers.
inline int64_t lanesNeeded(const TileShape &shape) { return shape.rows * shape.panels + shape.panels + 1; }

// out[t, n] = the chain fma(x[t, k], w[n, k], acc) over ascending k from 0, whichever strategy and shape.
class TileGenerator : TileSpace {
public:
  TileGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, TileShape shape)
      : TileSpace(k, layout, shape), isa(isa) {}

  // Dequantises in registers right before use; for few rows.
  void emitDirect(const TileOperands &tile);
  // Dequantises `depth` x `panels` weights into `scratch` (panelScratchBytes) once for all rows; for many rows.
  void emitPanel(const TileOperands &tile, mlir::Value scratch);

private:
  void directTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows);
  void unpackPanels(mlir::Value weights, int64_t panels, int64_t panelDepth, mlir::Value firstBlock, int64_t depth,
                    mlir::Value scratch);
  void panelTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows,
                 mlir::Value firstK, int64_t depth, mlir::Value scratch);
  void multiplyStep(mlir::Value x, mlir::Value xStride, mlir::Value weights, int64_t step, int64_t panels,
                    Accumulators &sums);

  const IsaTraits &isa;
};

inline int64_t panelScratchBytes(const TileShape &shape) { return shape.depth * shape.panels * kLanes * 4; }

}  // namespace girih::cpu
