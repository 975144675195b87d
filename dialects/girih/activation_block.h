// SPDX-License-Identifier: Apache-2.0
// ActivationBlock: how `girih.quantize_rows` writes 32 consecutive elements of a row; kernels and the reference read it.
//
// Each half (k 0..15 and 16..31) has its own scale = max |x| / 127; codes = x / scale rounded to nearest even, so x is
// near scale * code. One scale for both would nearly double what 8-bit activations do to a model's logits. What a product
// with unsigned or offset weight codes needs besides (sums of codes) is written once here and read by every column.
#pragma once

#include <cstdint>

namespace girih::dialect {

inline constexpr int64_t kActivationDepth = 32;   // k of one block, as many as of a packed weight's
inline constexpr int64_t kActivationHalf = 16;    // k of one scale
inline constexpr int64_t kActivationBytes = 64;   // of one block: a cache line, so that none crosses one

// Byte offsets within a block. The sum of both halves is for weights with a min for each 32.
inline constexpr int64_t kActivationCodes = 0;          // 32 x s8
inline constexpr int64_t kActivationScales = 32;        // 2 x f32
inline constexpr int64_t kActivationScaledHalves = 40;  // 2 x f32: scale * sum of codes; rounded once
inline constexpr int64_t kActivationScaledSum = 48;     // f32: fma(scale 1, sum of codes 1, scaled half 0)
inline constexpr int64_t kActivationMinusHalves = 52; // 2 x i32: - sum of codes; 4 bytes after them are zero

// Below this a half counts as zeros: 127 / amax must stay finite.
inline constexpr float kActivationLeast = 0x1p-100f;

constexpr int64_t activationRowBytes(int64_t depth) {
  return (depth + kActivationDepth - 1) / kActivationDepth * kActivationBytes;
}

}  // namespace girih::dialect
