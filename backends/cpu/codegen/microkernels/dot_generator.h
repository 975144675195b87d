// SPDX-License-Identifier: Apache-2.0
// DotGenerator: emits quantised activations times packed integer codes, in tiles of rows x 16-column panels.
#pragma once

#include "backends/cpu/codegen/microkernels/byte_dot.h"
#include "backends/cpu/codegen/microkernels/tile_space.h"

namespace girih::cpu {

// Per output element and group of k with one weight scale, in ascending order, whichever strategy, shape and ISA:
//   acc = fma(float(sum of (wcode - offset) * xcode) * wscale, xscale, acc);
//   acc = fma(wmin, xsum, acc), where there are mins;
// after a block's groups, for each: acc = fma(float(sum of (wcode - offset) * outlier code) * wscale, 255 xscale, acc).
// That adds +0 for a row without outliers, so it may be left out when no row of a tile has one. The integer sums are
// exact, the rest are the same roundings: same bits everywhere. `TileOperands::x` are blocks of
// dialects/girih/activation_block.h.
class DotGenerator : protected TileSpace {
public:
  DotGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, TileShape shape)
      : TileSpace(k, layout, shape), isa(isa), dot(k, layout, isa) {}
  virtual ~DotGenerator() = default;

  // Takes codes apart in registers right before use; for few rows.
  void emitDirect(const TileOperands &tile);
  // Takes `depth` x `panels` codes apart into `scratch` (dotScratchBytes) once for many rows. Deeper weights go by in
  // passes, each for all columns, so that what it reads of x stays near; sums wait in scratch, one tile's behind the
  // other's. A step that happens to have few rows goes the direct way.
  void emitPanel(const TileOperands &tile, mlir::Value scratch);

protected:
  // Where a block's weights come from: the packed panels, or the scratch that they were taken apart into.
  struct Source {
    llvm::function_ref<ByteDot::Lanes(int64_t panel, mlir::Value step)>
        codes;                                                                // from `step` on, stepsTogether
    llvm::function_ref<mlir::Value(int64_t panel, int64_t group)> scale, min, base; // vector<16xf32>; ByteDot::baseOf
  };
  struct Rows {
    mlir::Value x;      // the block of the first row
    mlir::Value stride; // bytes
    int64_t count;
    mlir::Value starts; // of the first row, startStride apart, a group of k after the other; null: not made beforehand
  };
  // A pass over k, and where the kernel keeps what belongs to it.
  struct Pass {
    mlir::Value firstBlock;
    int64_t numBlocks;
    mlir::Value isLast; // i1
  };
  struct Scratch {
    mlir::Value panels, starts, sums;
  };
  struct Panels {
    int64_t first, count, all; // those at work, and how many the sums are of
  };
  // One of the two digits of x: where its codes, their scale and their negative sums lie in a block.
  struct Digit {
    int64_t codes, scale, minusSums;
    bool hasMins;
  };
  static const Digit kCodes, kOutliers;

  void directTile(const TileOperands &tile, const Columns &columns, mlir::Value firstRow, int64_t rows);
  // Some of the rows and columns of a call: as many as the scratch holds sums of.
  void forParts(const TileOperands &tile, llvm::function_ref<void(const TileOperands &)> body);
  void emitPart(const TileOperands &part, const Scratch &scratch);
  virtual void emitPass(const TileOperands &part, const Pass &pass, const Scratch &scratch);
  bool hasStarts(const TileOperands &part);
  void makeStarts(const TileOperands &part, const Pass &pass, mlir::Value starts);
  void unpackPanels(mlir::Value weights, int64_t panels, int64_t panelDepth, const Pass &pass, mlir::Value scratch);
  void fetchNext(const TileOperands &part, const Columns &columns, mlir::Value firstRow, int64_t rows,
                 const Pass &pass);
  void panelTile(const TileOperands &part, const Columns &columns, mlir::Value firstRow, int64_t rows,
                 const Pass &pass, const Scratch &scratch);
  // Rows go by groups that are multiplied together; the last one stands in for those that a group lacks.
  mlir::Value rowOf(const Rows &rows, int64_t row) {
    return k.at(rows.x, k.mul(rows.stride, std::min(row, rows.count - 1)));
  }
  // One block of k. `together` panels are multiplied at a time: their integer sums are live at once.
  void multiplyBlock(const Source &source, const Rows &rows, int64_t panels, int64_t together,
                     Accumulators &sums);
  void addOutliers(const Source &source, const Rows &rows, int64_t panels, int64_t together,
                   Accumulators &sums);
  // One digit of one group of k. `bits`: the steps to do, as an i32; null for all.
  void addGroup(const Source &source, const Rows &rows, Panels panels, int64_t group, const Digit &digit,
                mlir::Value bits, Accumulators &sums);
  void addSteps(const Source &source, const Rows &rows, Panels panels, int64_t group, const Digit &digit,
                mlir::Value bits, llvm::MutableArrayRef<ByteDot::Registers> products);
  void addStep(const Source &source, const Rows &rows, Panels panels, const Digit &digit, mlir::Value step,
               llvm::MutableArrayRef<ByteDot::Registers> products);
  void addScaled(const Source &source, const Rows &rows, Panels panels, int64_t panel, int64_t group,
                 const Digit &digit, llvm::ArrayRef<mlir::Value> products, Accumulators &sums);
  mlir::Value startOf(mlir::Value xBlock, int64_t group, const Digit &digit); // i32; null where all begin alike
  mlir::Value startsOf(const Rows &rows, int64_t row, int64_t group, const Digit &digit); // the same in all lanes

  const IsaTraits &isa;
  ByteDot dot;
};

// Registers of 16 lanes: f32 sums, integer sums (of one panel, or of all), codes, scales and what a step loads. Counted
// so that what they allow compiles without spills: kernels_test reads the code.
inline int64_t dotLanesDirect(const TileShape &shape) {
  return shape.rows * shape.panels + shape.rows + 5 * shape.panels - 1;
}
inline int64_t dotLanesPanel(const TileShape &shape) {
  return 2 * shape.rows * shape.panels + shape.panels + 3;
}

// Bytes of one block of `panels` panels taken apart: a byte a code, then scales, their bases and mins in f32.
int64_t dotBlockBytes(const weights::PackedLayout &layout, int64_t panels);
// What waits between passes at most. Rows: whole tiles of any shape.
inline constexpr int64_t kPartRows = 264, kPartColumns = 256;
// Scratch of a panel kernel for weights of `depth` k.
int64_t dotScratchBytes(const weights::PackedLayout &layout, const TileShape &shape, int64_t depth);

} // namespace girih::cpu
