// SPDX-License-Identifier: Apache-2.0
// RoundedDotGenerator: emits quantised activations times u4 codes with mins for many rows, scales as 16-bit integers.
#pragma once

#include "backends/cpu/codegen/microkernels/dot_generator.h"

namespace girih::cpu {

// A weight's scale, its min and the scale of x are three multiplications for a sum of 32 products, each as dear as four
// products a lane; here they are two. With c = code - 8 a weight is scale * c + least, where least = min + (8 - offset) * scale. In 16 bits, one half of a lane, are
//   sum of c * xcode, at most 8 * 127 * 32 = 32512; and, in the other, 8 * sum of xcode, less 1 where the first is below 0,
// because one integer starts as (8 * sum of xcode << 16) - 8 * sum of xcode and has code * xcode added by dots. One dot of
// 16-bit pairs with round(scale / unit), round(least / 8 / unit) is the whole block. `unit` is what makes the largest of a
// column 32767. Per output element, over ascending k:
//   acc = fma(float(dot), xscale, acc);
//   acc = fma(float(dot of one quad of outlier codes), 255 xscale, acc), after a pass's blocks: by block, quad; there the 1
//   would be 255 times as much, and is left out at the price of one more operation;
// and in the end acc * unit. Outliers are gathered in a list for each tile: what few rows have is not done for all.
class RoundedDotGenerator : public DotGenerator {
public:
  using DotGenerator::DotGenerator;

  static bool takes(const weights::PackedLayout &layout, const IsaTraits &isa);
  // Scratch of `emitPanel`.
  static int64_t scratchBytes(const weights::PackedLayout &layout, const TileShape &shape, int64_t depth);

private:
  // Behind the scratch that DotGenerator knows of.
  struct Places {
    mlir::Value units;      // f32 a column of the part
    mlir::Value tile;       // sums of one tile
    mlir::Value ends;       // i32 a row: the number of entries before it
    mlir::Value entries;    // Entry
  };
  // A quad of outlier codes of one row: codes, what their sum begins with, f32 255 * xscale, where.
  static constexpr int64_t kEntryBytes = 16, kEntryStart = 4, kEntryScale = 8, kEntryPlace = 12;
  static constexpr int64_t kRowShift = 24; // place: step of the pass (block * 8 + quad), and the row of the tile above it

  void emitPass(const TileOperands &part, const Pass &pass, const Scratch &scratch) override;
  Places placesOf(const TileOperands &part, const Scratch &scratch);
  int64_t blockBytes(int64_t panels) const;
  mlir::Value startFrom(mlir::Value minusSum);
  void listOutliers(const TileOperands &part, const Pass &pass, const Places &places);
  mlir::Value addEntries(mlir::Value count, mlir::Value xBlock, mlir::Value place, const Places &places);
  struct Scales {
    mlir::Value scale, least; // vector<16xf32>
  };
  Scales scalesOf(mlir::Value packed, int64_t group);
  void makeUnits(const TileOperands &part, const Columns &columns, mlir::Value units);
  void unpack(const TileOperands &part, const Columns &columns, const Pass &pass, mlir::Value units, mlir::Value panels);
  void tileOf(const TileOperands &part, const Columns &columns, mlir::Value firstRow, int64_t rows, const Pass &pass,
              const Scratch &scratch, const Places &places);
  // The sums as far as they are, in registers meanwhile.
  void multiplyBlocks(const Rows &rows, int64_t panels, const Pass &pass, mlir::Value unpacked, mlir::Value sums);
  void multiplyGroup(const Rows &rows, int64_t panels, mlir::Value weights, int64_t group, Accumulators &totals);
  void addOutliers(int64_t rows, int64_t panels, mlir::Value firstRow, mlir::Value unpacked, const Places &places,
                   mlir::Value sums);
  mlir::Value pairs(mlir::Value products, mlir::Value scales); // as f32
};

} // namespace girih::cpu
