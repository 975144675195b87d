// SPDX-License-Identifier: Apache-2.0
// ByteDot: exact sums of weight codes times 8-bit activation codes, 16 columns at a time, as an ISA does them best.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// A step is 4 consecutive k. Every sum is the exact integer, so which instructions make it cannot be seen in a result:
//   vpdpbusd: unsigned weight codes (signed ones plus a power of 2), one instruction a step, i32 lanes;
//   vpmaddubsw alone, of u4 codes: its i16 sums of 32 k stay below 15 * 127 * 32 / 2 = 30480;
//   vpmaddubsw and vpmaddwd, of codes up to 127: pairs of products are at most 2 * 127 * 127 = 32258; of s8 codes and values
//   of iq4 their magnitudes times x with their signs, at most 2 * 128 * 127 = 32512;
//   sdot, smmla: the codes as they are;
//   smull, addp, sadalp: the same, by i16 sums of two products, at most 2 * 128 * 127 = 32512.
// By smmla two rows share a sum (`pairsRows`), and two steps are one: 8 k of 2 columns lie in one register.
class ByteDot {
public:
  using Registers = llvm::SmallVector<mlir::Value, 8>;
  using Lanes = llvm::SmallVector<mlir::Value, 2>;  // vector<16x...>: one a row, or one a step

  // Requires: !layout.hasFloatCodes().
  ByteDot(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa)
      : k(k), layout(layout), isa(isa) {}

  // Whether rows are multiplied by twos from here on: worth it where codes are put in order once for many rows.
  void pairRows(bool wanted) { isPaired = wanted && isa.dots == ByteDots::Signed8; }
  int64_t rowsTogether() const { return isPaired ? 2 : 1; }
  int64_t stepsTogether() const { return isPaired ? 2 : 1; }

  // vector<16xi32> a step: the codes of steps `step`, ... (an index, 0..7; stepsTogether of them) of a packed block, in
  // the order that `operand` wants them.
  Lanes codes(mlir::Value block, mlir::Value step);
  // What each of those bytes is too large by.
  int64_t codeOffset() const { return layout.codeOffset + excess(); }

  Registers operand(const Lanes &codes);
  // The activation codes of stepsTogether steps of rowsTogether rows, for all columns.
  Registers activations(llvm::ArrayRef<mlir::Value> pointers);

  // What a sum begins with beside what is known of its row.
  int32_t sumBase() const { return hasBase() ? llvm::bit_cast<int32_t>(kSumBase) : 0; }
  // `initial`, a vector<16xi32> with sumBase in it or null for each row together, is given to both and counted once. `isLone`: there are
  // registers for sums of 16 bits beside those of 32, where products fit; `widen` adds the former to the latter, every
  // `shortSteps` steps at the latest.
  Registers start(llvm::ArrayRef<mlir::Value> initial, bool isLone = false);
  int64_t shortSteps() const;
  void widen(Registers &sums);
  void accumulate(Registers &sums, const Registers &weights, const Registers &activations);
  Lanes total(const Registers &sums, llvm::ArrayRef<mlir::Value> initial);

  // A total as f32 times `scale`, rounded once. Where sums begin as the bits of kSumBase, its bits already are that of
  // kSumBase plus the sum: one multiply-add with `baseOf(scale)` does what a conversion and a product do elsewhere.
  mlir::Value scaled(mlir::Value total, mlir::Value scale, mlir::Value base);
  mlir::Value baseOf(mlir::Value scale);  // - kSumBase * scale, exact; null where sums begin at 0
  bool hasBase() const { return isa.dots == ByteDots::Unsigned4 && layout.scales != weights::ScaleType::E8M0; }

private:
  // What the ISA's rule of signs adds to every code.
  int64_t excess() const;
  bool isNarrow() const { return layout.codes == weights::CodeType::U4; }
  bool isMagnitude() const {
    bool fillsByte = layout.codes == weights::CodeType::S8 || layout.codes == weights::CodeType::Iq4;
    return isa.dots == ByteDots::MultiplyAdd && fillsByte;
  }
  int64_t numParts() const { return kLanes / isa.registerLanes; }
  mlir::Value codesOf(mlir::Value block, mlir::Value step);
  mlir::Value call(llvm::StringRef intrinsic, mlir::Type result, mlir::ValueRange operands);
  mlir::VectorType integers(int64_t count, unsigned bits);
  mlir::Value as(mlir::Value vector, int64_t count, unsigned bits);
  mlir::Value shuffled(mlir::Value first, mlir::Value second, llvm::ArrayRef<int64_t> lanes);
  mlir::Value pinPart(mlir::Value part) { return k.pin(part, isa.architecture->vectorConstraint); }
  bool hasShortSums(const Registers &sums) const { return isa.dots == ByteDots::MultiplyAdd && int64_t(sums.size()) > numParts(); }
  mlir::Value pairProducts(int64_t number, const Registers &weights, const Registers &activations);
  mlir::Value addedPairs(mlir::Value sum, mlir::Value products);
  mlir::Value addWidened(mlir::Value sum, mlir::Value weights, mlir::Value activations);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  // 1.5 * 2^23, so that sums within 2^22 of 0 are its last bits; times an f16, or an f16 and a byte, it is an f32.
  static constexpr float kSumBase = 12582912;
  bool isPaired = false;
};

}  // namespace girih::cpu
