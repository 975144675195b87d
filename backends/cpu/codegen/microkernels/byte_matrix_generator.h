// SPDX-License-Identifier: Apache-2.0
// ByteMatrixGenerator: few rows of quantised activations times integer codes on a tile unit.
#pragma once

#include "backends/cpu/codegen/microkernels/byte_dot.h"
#include "backends/cpu/codegen/microkernels/tile_space.h"

namespace girih::cpu {

// The sums of DotGenerator, bit for bit, by another way: the unit makes a block's integer sums for all rows and 16 columns
// at once, and vectors scale them. What scales cost is paid for each row instead of for each weight: right for as few
// rows as a tile has.
//
// A step of the loop does three things to three blocks, in small pieces by turns: the codes of one become a tile in the
// frame, the one two before it is multiplied, and the sums of the one two before that are scaled. The unit and the
// vectors only work at the same time where their instructions lie within a core's window; one after the other
// they take half as long again. Blocks follow each other through all panels, so that no panel waits for its first.
//
// What is multiplied are items: each block of k, and behind it the second digit of x where one of the rows has one.
class ByteMatrixGenerator : TileSpace {
public:
  // Requires: takes(layout), isa.hasTiles.
  ByteMatrixGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                      TileShape shape)
      : TileSpace(k, layout, shape), isa(isa), dot(k, layout, isa) {}

  // Whether a code, less its offset, is a byte, and a block has one scale.
  static bool takes(const weights::PackedLayout &layout);
  // `frame` holds frameBytes, 64-byte aligned. It keeps what was made of the rows of x from one call of a dispatch to
  // the next, and calls for the same x may share one.
  void emit(const TileOperands &tile, mlir::Value frame);
  static int64_t frameBytes(const weights::PackedLayout &layout, const TileShape &shape, int64_t depth);
  // Before the first call of a dispatch, or where x has changed: the frame holds no rows.
  static void emitReset(KernelBuilder &k, mlir::Value frame);

private:
  // Rows of x that share a tile, and where in the call's panels the blocks of an item's panel begin, in bytes.
  struct Rows {
    mlir::Value x, stride, count;
  };
  struct Panel {
    mlir::Value start;
    mlir::Value before; // items of the panels before it
  };
  struct Digit {
    int64_t codes, scale;
    bool hasMins;
  };

  bool hasMins() const { return layout.mins != weights::ScaleType::None; }
  bool isApart() const { return layout.hasNibbles(); } // a byte holds two codes
  int64_t numBlocks(const TileOperands &tile) const;
  mlir::Value itemAt(mlir::Value item);
  mlir::Value codesAt(const Panel &panel, mlir::Value item);
  mlir::Value productsAt(const Panel &panel, mlir::Value item);
  mlir::Value weightsAt(const TileOperands &tile, const Panel &panel, mlir::Value item);

  void keepRows(const TileOperands &tile, const Rows &rows);
  mlir::Value keepDigit(const Rows &rows, mlir::Value block, mlir::Value item, const Digit &digit);
  void keepNextPanel(const TileOperands &tile, mlir::Value numItems);
  void keepTiles(const Rows &rows);

  void takeLine(mlir::Value source, mlir::Value target, int64_t line);
  void takeApart(const TileOperands &tile, const Panel &panel, mlir::Value item);
  void multiply(const TileOperands &tile, const Rows &rows, const Panel &panel, mlir::Value item,
                llvm::function_ref<void()> between);
  void step(const TileOperands &tile, const Rows &rows, const Panel &panel, mlir::Value item,
            Accumulators &sums);
  void emitPanels(const TileOperands &tile, const Rows &rows, mlir::Value firstRow);
  void storeRows(const TileOperands &tile, mlir::Value panel, const Rows &rows, mlir::Value firstRow,
                 const Accumulators &sums);

  const IsaTraits &isa;
  ByteDot dot;
  mlir::Value frame, lastBlock; // of the call's panels, in bytes from the first
  int64_t itemsAt = 0, scalesAt = 0, sumsAt = 0, tilesAt = 0, totalsAt = 0; // parts of the frame, in bytes
};

} // namespace girih::cpu
