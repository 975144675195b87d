// SPDX-License-Identifier: Apache-2.0
// CodeMatrixGenerator: emits few rows of bf16 times the integer codes of packed weights on a matrix unit.
#pragma once

#include "backends/cpu/codegen/microkernels/tile_space.h"

#include <functional>
#include <vector>

namespace girih::cpu {

// For each group of k that shares a weight's scale, over ascending k:
//   acc = fma(sum of (wcode - offset) * x, wscale, acc); acc = fma(wmin, sum of x, acc), where there are mins.
// Codes are small integers: bf16 holds them as they are. So a weight is a table lookup, nothing is rounded but the sums,
// and what scales cost is paid for each row instead of for each weight: right for as few rows as a tile has.
//
// Blocks of k go through three stages by twos: the codes of two become tiles in the frame, the two before them are
// multiplied, and the sums of the two before those are scaled. A tile can only be loaded once the stores to it have left
// the core's store buffer; that is what the distance between the stages is for.
class CodeMatrixGenerator : TileSpace {
public:
  // Requires: !layout.hasFloatCodes().
  CodeMatrixGenerator(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                      TileShape shape)
      : TileSpace(k, layout, shape), isa(isa) {}

  // `frame` holds frameBytes, 64-byte aligned. It keeps the rows of x as tiles from one call of a dispatch to the next,
  // and calls for the same x may share one.
  void emit(const TileOperands &tile, mlir::Value frame);
  static int64_t frameBytes(const weights::PackedLayout &layout, const TileShape &shape, int64_t depth);
  // Before the first call of a dispatch, or where x has changed: the frame holds no rows.
  static void emitReset(KernelBuilder &k, mlir::Value frame);

private:
  struct Stream {
    mlir::Value weights, lastBlock; // of the call's panels, which lie one behind the other
  };
  // What goes through a stage together: blocks `first` and the next of the stream, `firstOfRow` and the next of a row.
  struct Blocks {
    mlir::Value first, firstOfRow;
    int64_t count;
    mlir::Value number; // of those before it in the call
  };

  int64_t numParts() const { return layout.hasNibbles() ? 1 : 2; } // half bytes that are multiplied one by one
  int64_t numBlocks(const TileOperands &tile) const;
  mlir::Value pairsAt(const Blocks &blocks, int64_t block); // of two buffers, the block's tiles of codes
  mlir::Value sumsAt(const Blocks &blocks, int64_t block);  // likewise, its products
  mlir::Value tableOf(int64_t first, llvm::function_ref<int64_t(int64_t)> valueOf);
  mlir::Value lookUp(mlir::Value index, int64_t part);

  void configure();
  void keepRows(const TileOperands &tile, mlir::Value firstRow);
  void keepRow(const TileOperands &tile, mlir::Value source, mlir::Value row);
  void sumRows(const TileOperands &tile);
  // What a stage does, some instructions a piece.
  using Pieces = std::vector<std::function<void()>>;
  Pieces takeApart(const TileOperands &tile, const Stream &stream, const Blocks &blocks);
  void takeLineApart(mlir::Value source, mlir::Value target, int64_t line);
  mlir::Value withHighBits(mlir::Value index, mlir::Value source, int64_t step, bool isOdd);
  Pieces multiply(const Blocks &blocks);
  Pieces addScaled(const Stream &stream, const Blocks &blocks, Accumulators &sums);
  void emitByTurns(llvm::ArrayRef<Pieces> stages);
  void emitPanel(const TileOperands &tile, const Stream &stream, mlir::Value panel, mlir::Value firstRow);
  void storeRows(const TileOperands &tile, mlir::Value panel, mlir::Value firstRow, const Accumulators &sums);

  const IsaTraits &isa;
  mlir::Value frame;
  int64_t rowsAt = 0, rowSumsAt = 0, pairs = 0, products = 0; // parts of the frame, in bytes
};

} // namespace girih::cpu
