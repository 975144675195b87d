// SPDX-License-Identifier: Apache-2.0
// ActivationBlock: how `girih.quantize_rows` writes 32 consecutive elements of a row; kernels and the reference read it.
//
// x is near scale * (code + 255 * outlier code). The scale is what lets 127 reach the block's largest |x|, or, where
// that is beyond kActivationWorth times the mean |x|, kActivationReach times the mean: the few elements beyond it, which
// models have in fixed places, get a second digit instead of making all their neighbours coarse. Quads of k with such
// elements have a bit in a mask, and products skip the others: 8-bit arithmetic, near 11 bits of precision where it
// matters. What a product with unsigned or offset weight codes needs besides (sums of codes) is written once here and
// read by every column.
#pragma once

#include <cstdint>

namespace girih::dialect {

inline constexpr int64_t kActivationDepth = 32; // k of one block, as many as of a packed weight's
inline constexpr int64_t kActivationHalf = 16;  // k of the least group of weights with a scale of its own
inline constexpr int64_t kActivationQuad = 4;   // k of one bit of the mask
inline constexpr int64_t kActivationBytes =
    128; // of one block: a cache line, and one read for outliers alone

// Byte offsets within a block. Sums are of all 32 k, then of each half: what a group of weights takes as one.
inline constexpr int64_t kActivationCodes = 0;         // 32 x s8
inline constexpr int64_t kActivationScale = 32;        // f32
inline constexpr int64_t kActivationScaledSums = 36;   // 3 x f32: scale * sum of (code + 255 * outlier code)
inline constexpr int64_t kActivationMinusSums = 48;    // 3 x i32: - sum of codes
inline constexpr int64_t kActivationOutliers = 60;     // i32: bit n for k 4n .. 4n + 3
inline constexpr int64_t kActivationOutlierCodes = 64; // 32 x s8
inline constexpr int64_t kActivationOutlierScale = 96; // f32: 255 * scale
inline constexpr int64_t kActivationMinusOutliers =
    100; // 3 x i32: - sum of outlier codes; 16 bytes after them are zero

// Of the three sums, the one over group `group` of `numGroups` (1 or 2).
constexpr int64_t activationSum(int64_t numGroups, int64_t group) { return (numGroups - 1 + group) * 4; }

// Of an outlier code, in codes: both digits then lie within -127 .. 127, whose negatives and sums of products fit too.
inline constexpr int64_t kActivationBase = 255;
inline constexpr float kActivationReach = 5;
// Every quad beyond the reach is multiplied twice, in every row of a tile: worth it only in blocks whose largest |x| is
// beyond this many times the mean; the others take their scale from the largest. (Mean KL of 8 bits 9.2e-4; a reach of 5
// for every block has 6.6e-4 and takes 15 % longer where 8 rows meet a weight.)
inline constexpr float kActivationWorth = 10;
// With both digits for all: the largest |x| is at 127 of each.
inline constexpr float kActivationShare = 256; // of the largest |x| that 127 codes reach: 1/256
// Below this a block counts as zeros: 127 / scale must stay finite.
inline constexpr float kActivationLeast = 0x1p-100f;

// On `qmatmul` with such rows: scales and mins of weights may be rounded to 16 bits of the largest of their column, so that
// one product of integers does for both.
inline constexpr const char *kRoundedScalesName = "girih.rounded_scales";

// The blocks of a row.
constexpr int64_t activationRowBytes(int64_t depth) {
  return (depth + kActivationDepth - 1) / kActivationDepth * kActivationBytes;
}

// From a row to the next: a line more. What is read of every block is its first line, and rows an even number of lines
// apart would have all of those in one half of a cache's sets.
constexpr int64_t activationStrideBytes(int64_t depth) { return activationRowBytes(depth) + kActivationBytes / 2; }

// Whether `bytes` are a row of `depth` elements, with what lies before the next one or without.
constexpr bool isActivationRow(int64_t bytes, int64_t depth) {
  return bytes == activationRowBytes(depth) || bytes == activationStrideBytes(depth);
}

} // namespace girih::dialect
