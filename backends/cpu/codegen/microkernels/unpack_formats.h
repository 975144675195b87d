// SPDX-License-Identifier: Apache-2.0
// PanelBlock: emits the f32 weights of one block of a packed panel, 16 columns at a time.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// A block (32 k of 16 columns) opened for reading; every row of the packed layouts' table goes through here.
// Emits loads lazily, in the order weights are asked for.
class PanelBlock {
public:
  // Requires: !layout.isDense.
  PanelBlock(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, mlir::Value block);
  // Codes, scales and mins that lie as those of a block do, each from an address of its own; what nibbles lack and groups
  // share is the block's, of the former only bits from `highShift` on, an index, null for all.
  PanelBlock(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, mlir::Value codes,
             mlir::Value block, mlir::Value highShift, mlir::Value scales, mlir::Value mins);

  // vector<16xf32>: w[column 0..15, k] for k in 0..31 of the block.
  mlir::Value weights(int64_t k);

private:
  mlir::Value codes(int64_t k);  // code - offset, as f32
  mlir::Value floatCodes(int64_t k);
  mlir::Value lookedUpCodes(int64_t k);
  mlir::Value byteCodes(int64_t k);
  mlir::Value line(int64_t k);
  mlir::Value nibbleWords(int64_t k);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  mlir::Value codesAt, blockAt, highShift, scalesAt, minsAt;
  int64_t currentLine = -1, currentHigh = -1;  // byte offsets
  mlir::Value currentLineValue, currentHighValue;
  int64_t currentStep = -1;
  mlir::Value currentBytes;  // the codes of that step, less their offset
  int64_t currentGroup = -1;
  mlir::Value scale, min, codeTable;
};

// vector<16xf32>: those of the group of k = `depth` of a block. Requires: the layout has them.
mlir::Value loadScales(KernelBuilder &k, const weights::PackedLayout &layout, mlir::Value block, int64_t depth);
mlir::Value loadMins(KernelBuilder &k, const weights::PackedLayout &layout, mlir::Value block, int64_t depth);

// vector<16xf32>: 16 k of one `column` (0..15, an index value) from `depth` (0 or 16) on.
mlir::Value columnWeights(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, mlir::Value block,
                          mlir::Value column, int64_t depth);

}  // namespace girih::cpu
