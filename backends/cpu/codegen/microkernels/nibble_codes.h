// SPDX-License-Identifier: Apache-2.0
// The codes of packed nibbles as bytes: put beside each other, looked up, or joined with the bits that lie apart.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// A layout with nibbles has so many lines of them in a block, each with the codes of two steps of 4 k.
inline constexpr int64_t kNibbleLines = 4;

// The lines of a block, vector<16xi32> each, in which the codes of a step lie.
struct NibbleLines {
  mlir::Value nibbles;
  mlir::Value high; // null where the layout has no bits apart
};

// vector<16xi32>: a byte for each of the 4 k of step number `step` (an index, 0..7) of 16 columns: what the code stands
// for (PackedLayout::codeNumber, but without subtracting the offset) plus `bias`, modulo 256.
mlir::Value nibbleBytes(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa,
                        const NibbleLines &lines, mlir::Value step, int64_t bias);

// The lines of `step` of a packed block.
NibbleLines loadNibbleLines(KernelBuilder &k, const weights::PackedLayout &layout, mlir::Value block,
                            mlir::Value step);

// Of each byte below 16 that entry of `table` plus `bias`; of a vector of bytes that fill registers, or of 16 bytes.
mlir::Value lookUpBytes(KernelBuilder &k, const IsaTraits &isa, llvm::ArrayRef<int8_t> table, int64_t bias,
                        mlir::Value bytes);

} // namespace girih::cpu
