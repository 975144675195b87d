// SPDX-License-Identifier: Apache-2.0
// PackedLayout: where every code, scale and min of a packed weight lies. Packers write it, kernel generators read it.
//
// `p16`: a weight [N, K] (row n of the checkpoint = column n here) lies in panels of 16 columns, the last one padded
// with zeros; a panel is contiguous over K in blocks of 32 consecutive k, K padded with zero weights. One block:
//   u4          4 lines of 64 B; byte [col*4 + j] of line L: low nibble = k = L*4+j, high nibble = k = 16+L*4+j
//   iq4 e2m1    such nibbles, each the number of one of 16 values: those of IQ4_NL, and twice those of e2m1
//   u5          such nibbles, then a line with the top bits: bit s of byte [col*4 + j] = k = s*4+j
//   u6          such nibbles, then two lines with the top bit pairs: pair s of byte [col*4 + j] of line H = k = 16*H+s*4+j
//   u7, s8      8 lines of 64 B; byte [col*4 + j] of line L = k = L*4+j; u7 is at most 127: the sum of two products with
//               signed bytes fits 16 bits
//   f16 f32     k-major: for each k the 16 columns
//   bf16x2      16 lines of 64 B; pair [col*2 + j] of line L = k = L*2+j: two k are one f32 without and with a mask, and
//               the lines are what a matrix unit of bf16 takes
//   then scales, then mins, each of 32/group groups x 16 columns:
//   f16         one each
//   f16*s8      16 f16, of the columns, for all groups; then a signed byte each; their product is exact in f32
//   e8m0        a byte each: 2 to the power of it less 128
// Value (f32) = scale * float(code - offset) + min; every product is exact in f32, so fused or not gives the same bits.
// A layout without scales holds the value itself; one without mins adds nothing (x + 0 would turn -0 into +0).
// `dense:f32`: row-major f32, no padding.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace girih::weights {

enum class CodeType : uint8_t { U4, Iq4, E2m1, U5, U6, U7, S8, F16, BF16, F32 };
enum class ScaleType : uint8_t { None, F16, F16S8, E8M0 };

inline constexpr int64_t kPanelColumns = 16;
inline constexpr int64_t kBlockDepth = 32;           // k values in one block of a panel
inline constexpr int64_t kPackedAlignmentBytes = 64;  // of a packed tensor in the weight section

struct PackedLayout {
  bool isDense = false;  // dense:f32; the fields below are then at their defaults
  CodeType codes = CodeType::F32;
  ScaleType scales = ScaleType::None;
  ScaleType mins = ScaleType::None;
  int32_t groupSize = 32;  // k values that share a scale: 16 or 32
  int32_t codeOffset = 0;  // subtracted from an unsigned code

  bool operator==(const PackedLayout &) const = default;

  static PackedLayout dense() { return {.isDense = true}; }
  // `p16:<codes>,<scaleType>,<minType>,<group>[,<offset>]` or `dense:f32`. Fails: InvalidArgument.
  static Expected<PackedLayout> parse(std::string_view descriptor);
  std::string print() const;
  // FNV-1a 64 of the printed descriptor; kernels and files name layouts by it. A layout whose meaning changes gets
  // another descriptor (`p16` becomes another word), never the same one with another meaning.
  uint64_t layoutId() const;

  bool hasFloatCodes() const { return codes == CodeType::F16 || codes == CodeType::BF16 || codes == CodeType::F32; }
  // Whether the low four bits of codes are nibbles, two of which share a byte, and how many bits lie apart from them.
  bool hasNibbles() const { return codes <= CodeType::U6; }
  int highBits() const { return codes == CodeType::U5 ? 1 : codes == CodeType::U6 ? 2 : 0; }
  // What the 16 nibbles stand for; empty where a code is its own value.
  std::span<const int8_t> codeValues() const;
  // The number that scales multiply: what the code stands for, less the offset. Not for float codes.
  int32_t codeNumber(uint32_t code) const;

  // Bytes of one block of one panel (not for dense).
  int64_t codeBytes() const;
  int64_t scaleBytes() const;
  int64_t minBytes() const;
  int64_t blockBytes() const { return codeBytes() + scaleBytes() + minBytes(); }
  int64_t numGroups() const { return kBlockDepth / groupSize; }

  // Units of work that packers and threads share: panels, or single rows when dense.
  int64_t numPanels(int64_t numColumns) const;
  int64_t panelBytes(int64_t depth) const;
  // Fails: OutOfRange when a size overflows or is negative.
  Expected<int64_t> tensorBytes(int64_t numColumns, int64_t depth) const;

  // Byte offsets within a block, for column 0..15 and k 0..31. A nibble lies at `codeShift(k)` bits, the `highBits` above
  // it at `highShift(k)` bits of another byte.
  int64_t codeOffsetBytes(int64_t column, int64_t k) const;
  int codeShift(int64_t k) const { return hasNibbles() && k >= 16 ? 4 : 0; }
  int64_t highOffsetBytes(int64_t column, int64_t k) const;
  int highShift(int64_t k) const { return static_cast<int>(k / 4) * highBits() % 8; }
  int64_t scaleOffsetBytes(int64_t column, int64_t k) const;
  int64_t minOffsetBytes(int64_t column, int64_t k) const;
  // Of the f16 that all groups of a column share, where they do.
  int64_t scaleHalfOffsetBytes(int64_t column) const { return codeBytes() + column * 2; }
  int64_t minHalfOffsetBytes(int64_t column) const { return codeBytes() + scaleBytes() + column * 2; }
};

// Bytes of one code (a nibble counts as 1: two share a byte), of a group's own part of a scale; "u4", "f16", "none".
int64_t codeTypeBytes(CodeType type);
int64_t scaleTypeBytes(ScaleType type);
constexpr bool sharesHalf(ScaleType type) { return type == ScaleType::F16S8; }
// What the bits of a scale or min mean: those of the f16, of the exponent, or of the f16 above those of the signed byte
// (`productBits`). Requires: type is not None.
float scaleValue(ScaleType type, uint32_t bits);
constexpr uint32_t productBits(uint16_t half, uint32_t number) { return uint32_t{half} << 16 | (number & 255); }
std::string_view codeTypeName(CodeType type);
std::string_view scaleTypeName(ScaleType type);

}  // namespace girih::weights
