// SPDX-License-Identifier: Apache-2.0
// ElementType: the plain number types that tensors and generated code hold, with their sizes and f16/bf16 conversions.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace girih {

enum class ElementType : uint8_t { F32, F16, BF16, F64, I8, U8, I16, I32, I64 };

constexpr int64_t elementBytes(ElementType type) {
  switch (type) {
  case ElementType::I8:
  case ElementType::U8: return 1;
  case ElementType::F16:
  case ElementType::BF16:
  case ElementType::I16: return 2;
  case ElementType::F32:
  case ElementType::I32: return 4;
  case ElementType::F64:
  case ElementType::I64: return 8;
  }
  return 0;
}

// MLIR's spelling, except that unsignedness is kept: "f32", "bf16", "i8", "u8".
constexpr std::string_view elementTypeName(ElementType type) {
  constexpr std::string_view kNames[] = {"f32", "f16", "bf16", "f64", "i8", "u8", "i16", "i32", "i64"};
  return kNames[static_cast<int>(type)];
}

constexpr std::optional<ElementType> parseElementType(std::string_view name) {
  for (int index = 0; index <= static_cast<int>(ElementType::I64); ++index)
    if (elementTypeName(static_cast<ElementType>(index)) == name)
      return static_cast<ElementType>(index);
  return std::nullopt;
}

// Exact. Written in integers since the baseline instruction set has no f16 conversion; a NaN stays a NaN.
constexpr float halfToFloat(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = (half >> 10) & 0x1F, mantissa = half & 0x3FF;
  if (exponent == 0x1F)
    return std::bit_cast<float>(sign | 0x7F800000 | (mantissa << 13));
  if (exponent == 0) {  // zero or denormal: mantissa * 2^-24, both factors exact in f32
    float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Rounds to nearest, ties to even; overflow gives infinity, a NaN stays a (quiet) NaN.
constexpr uint16_t floatToHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7FFFFFFF;
  uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  if (magnitude > 0x7F800000)
    return sign | 0x7E00 | static_cast<uint16_t>((magnitude >> 13) & 0x3FF);
  if (magnitude >= 0x477FF000)  // 65520: half way between the largest f16 and 2^16
    return sign | 0x7C00;
  if (magnitude < 0x38800000) {  // below 2^-14: adding 0.5 leaves the mantissa in units of 2^-24, rounded by the FPU
    float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3F000000);
  }
  uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded >> 13) - (112 << 10));
}

constexpr float bfloatToFloat(uint16_t bfloat) { return std::bit_cast<float>(uint32_t(bfloat) << 16); }

// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
constexpr uint16_t floatToBfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000)
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace girih
