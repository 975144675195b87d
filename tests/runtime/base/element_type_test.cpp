// SPDX-License-Identifier: Apache-2.0
// Element types: names, sizes, and the f16 and bf16 conversions bit for bit.
#include "runtime/base/element_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace girih {
namespace {

TEST(ElementType, NamesReadBack) {
  for (int index = 0; index <= static_cast<int>(ElementType::I64); ++index) {
    auto type = static_cast<ElementType>(index);
    EXPECT_EQ(parseElementType(elementTypeName(type)), type);
    EXPECT_GT(elementBytes(type), 0);
  }
  EXPECT_EQ(parseElementType("f8"), std::nullopt);
}

// The value of a finite f16 from the definition of the format, in double.
double halfByDefinition(uint16_t half) {
  int exponent = (half >> 10) & 31, mantissa = half & 1023;
  double magnitude = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST(ElementType, HalfToFloatIsExactForEveryHalf) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    float value = halfToFloat(static_cast<uint16_t>(half));
    if (((half >> 10) & 31) != 31) {
      ASSERT_EQ(static_cast<double>(value), halfByDefinition(static_cast<uint16_t>(half))) << half;
      ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << half;
    } else if (half & 1023) {
      ASSERT_TRUE(std::isnan(value)) << half;
    } else {
      ASSERT_TRUE(std::isinf(value)) << half;
    }
  }
}

TEST(ElementType, FloatToHalfRoundsToNearestEven) {
  for (uint32_t half = 0; half < 0x7C00; ++half) {  // positive finite
    float value = halfToFloat(static_cast<uint16_t>(half));
    ASSERT_EQ(floatToHalf(value), half);
    ASSERT_EQ(floatToHalf(-value), half | 0x8000);
    // Half way to the next one (2^16 stands for the value after the largest): to the even of the two.
    double next = half == 0x7BFF ? 65536.0 : halfByDefinition(static_cast<uint16_t>(half + 1));
    float middle = static_cast<float>((static_cast<double>(value) + next) / 2);
    ASSERT_EQ(floatToHalf(middle), half + (half & 1)) << half;
    ASSERT_EQ(floatToHalf(std::nextafter(middle, 0.0f)), half) << half;
    ASSERT_EQ(floatToHalf(std::nextafter(middle, 1e30f)), half + 1) << half;
  }
  EXPECT_EQ(floatToHalf(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_EQ(floatToHalf(-1e30f), 0xFC00);
  EXPECT_TRUE(std::isnan(halfToFloat(floatToHalf(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(ElementType, BfloatKeepsTheUpperHalfAndRounds) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = bfloatToFloat(static_cast<uint16_t>(bits));
    if (!std::isnan(value))
      ASSERT_EQ(floatToBfloat(value), bits);
  }
  EXPECT_EQ(floatToBfloat(1.0f + 0x1p-8f), 0x3F80);                 // half way: to even
  EXPECT_EQ(floatToBfloat(std::nextafter(1.0f + 0x1p-8f, 2.0f)), 0x3F81);
  EXPECT_EQ(floatToBfloat(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(bfloatToFloat(floatToBfloat(std::numeric_limits<float>::signaling_NaN()))));
}

}  // namespace
}  // namespace girih
