// SPDX-License-Identifier: Apache-2.0
// DotGenerator: emits quantised activations times packed integer codes, in tiles of rows x 16-column panels.
#pragma once

#include "backends/cpu/codegen/microkernels/byte_dot.h"
#include "backends/cpu/codegen/microkernels/tile_space.h"

namespace girih::cpu {

// Per output element and 16 consecutive k, in ascending order, whichever strategy, shape and ISA:
//   acc = fma(float(sum of (wcode - offset) * xcode), wscale * xscale, acc);
// with mins after the last 16 k of each group with one weight scale: acc = fma(wmin, xsum, acc).
// The integer sum is exact, the rest are the same roundings: same bits everywhere. `TileOperands::x` are blocks of
// dialects/girih/activation_block.h.
class DotGenerator : TileSpace {
public:
  DotGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, TileShape shape)
      : TileSpace(k, layout, shape), dot(k, layout, isa) {}

  // Takes codes apart in registers right before use; for few rows.
  void emitDirect(const TileOperands &tile);
  // Takes `depth` x `panels` codes apart into `scratch` (dotScratchBytes) once for all rows; for many rows. A step that
  // happens to have few goes the direct way.
  void emitPanel(const TileOperands &tile, mlir::Value scratch);

private:
  // Where a block's weights come from: the packed panels, or the scratch that they were taken apart into.
  struct Source {
    llvm::function_ref<ByteDot::Lanes(int64_t panel, int64_t step)> codes;  // from `step` on, stepsTogether
    llvm::function_ref<mlir::Value(int64_t panel, int64_t group)> scale, min;  // vector<16xf32>
  };
  struct Rows {
    mlir::Value x;       // the block of the first row
    mlir::Value stride;  // bytes
    int64_t count;
  };

  void directTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows);
  void unpackPanels(mlir::Value weights, int64_t panels, int64_t panelDepth, mlir::Value firstBlock,
                    int64_t numBlocks, mlir::Value scratch);
  void panelTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows,
                 mlir::Value firstBlock, int64_t numBlocks, mlir::Value scratch);
  // One block of k: adds to the sums of panels firstPanel .. firstPanel + numPanels - 1 of `panels`.
  void multiplyBlock(const Source &source, const Rows &rows, int64_t firstPanel, int64_t numPanels, int64_t panels,
                     Accumulators &sums);
  void addHalf(const Source &source, const Rows &rows, int64_t panel, int64_t half,
               llvm::ArrayRef<mlir::Value> products, int64_t panels, Accumulators &sums);
  mlir::Value startOf(mlir::Value xBlock, int64_t half);
  mlir::Value loadScale(weights::ScaleType type, mlir::Value pointer);

  ByteDot dot;
};

// Registers of 16 lanes: f32 sums, integer sums (of one panel, or of all), codes, scales and what a step loads. Counted
// so that what they allow compiles without spills: kernels_test reads the code.
inline int64_t dotLanesDirect(const TileShape &shape) {
  return shape.rows * shape.panels + shape.rows + 2 * shape.panels + 2;
}
inline int64_t dotLanesPanel(const TileShape &shape) { return 2 * shape.rows * shape.panels + shape.panels + 3; }

// Bytes of one block of `panels` panels taken apart: a byte a code, then scales and mins in f32.
int64_t dotBlockBytes(const weights::PackedLayout &layout, int64_t panels);
inline int64_t dotScratchBytes(const weights::PackedLayout &layout, const TileShape &shape) {
  return shape.depth / weights::kBlockDepth * dotBlockBytes(layout, shape.panels);
}

}  // namespace girih::cpu
