// SPDX-License-Identifier: Apache-2.0
// ByteDot: exact sums of weight codes times 8-bit activation codes, 16 columns at a time, as an ISA does them best.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// A step is 4 consecutive k. Every sum is the exact integer, so which instructions make it cannot be seen in a result:
//   with vpdpbusd: unsigned weight codes (signed ones plus 128), one instruction a step, i32 lanes;
//   u4 codes without it: vpmaddubsw, whose i16 sums of 16 k stay below 15 * 127 * 16 / 2 = 15240;
//   u8 and s8 codes without it: even and odd bytes widened, vpmaddwd, since vpmaddubsw would saturate.
class ByteDot {
public:
  using Registers = llvm::SmallVector<mlir::Value, 4>;

  // Requires: !layout.hasFloatCodes().
  ByteDot(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa)
      : k(k), layout(layout), isa(isa) {}

  // vector<16xi32>: the codes of step `step` (0..7) of a packed block, one a byte, as `operand` wants them.
  mlir::Value codes(mlir::Value block, int64_t step);
  // What each of those codes is too large by.
  int64_t codeOffset() const { return layout.codeOffset + (flipsSign() ? 128 : 0); }

  Registers operand(mlir::Value codes);
  // 4 activation codes of one row, for all columns.
  Registers activations(mlir::Value pointer);

  // `initial`, vector<16xi32> or null, is given to both and counted once.
  Registers start(mlir::Value initial);
  void accumulate(Registers &sums, const Registers &weights, const Registers &activations);
  mlir::Value total(const Registers &sums, mlir::Value initial);
  // The same vector of 16 lanes, computed here and not later (KernelBuilder::pin), in as many registers as it takes.
  mlir::Value pin(mlir::Value lanes);

private:
  bool flipsSign() const { return isa.hasByteDot && layout.codes == weights::CodeType::S8; }
  bool isNarrow() const { return layout.codes == weights::CodeType::U4; }
  mlir::Value call(llvm::StringRef intrinsic, mlir::Type result, mlir::ValueRange operands);
  mlir::Value as(mlir::Value vector, int64_t count, unsigned bits);
  mlir::Value half(mlir::Value vector, int64_t number);
  mlir::Value joined(mlir::Value first, mlir::Value second);
  // Even (0) or odd (1) bytes of each 16-bit lane, widened.
  mlir::Value widened(mlir::Value words, int64_t odd, bool isSigned);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
};

}  // namespace girih::cpu
