// SPDX-License-Identifier: Apache-2.0
// quantize_rows and quantised qmatmul against plain loops: equal bit for bit, for every integer layout, tile, ISA, odd
// extent and thread count; and near the product of the unrounded values.
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include "dialects/girih/activation_block.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>

namespace girih::cpu::test {
namespace {

using namespace girih::dialect;

// What activation_block.h says, by plain loops.
std::vector<uint8_t> blockOf(const float *values, int64_t count, bool bothDigits) {
  std::vector<uint8_t> block(kActivationBytes, 0);
  auto put = [&](int64_t offset, auto value) { std::memcpy(&block[offset], &value, sizeof(value)); };
  float largest = 0, sizes[16] = {};
  for (int64_t k = 0; k < count; ++k)
    largest = std::max(largest, std::fabs(values[k]));
  for (int64_t lane = 0; lane < 16; ++lane)
    sizes[lane] = (lane < count ? std::fabs(values[lane]) : 0) + (lane + 16 < count ? std::fabs(values[lane + 16]) : 0);
  for (int64_t half : {8, 4, 2, 1})
    for (int64_t lane = 0; lane < half; ++lane)
      sizes[lane] += sizes[lane + half];
  bool isWorth = largest > sizes[0] * (10.0F / 32); // of a second digit
  float limit = bothDigits ? largest / 256 : isWorth ? sizes[0] * (5.0F / 32) : largest;
  bool isZero = largest < kActivationLeast;
  float inverse = isZero ? 0 : 127 / limit, scale = isZero ? 0 : limit / 127;
  int32_t sums[2][2] = {}, quads = 0;
  for (int64_t k = 0; k < count; ++k) {
    int32_t both = static_cast<int32_t>(std::nearbyint(values[k] * inverse));
    int32_t outlier = (std::abs(both) + 127) / 255 * (both < 0 ? -1 : 1), code = both - 255 * outlier;
    block[k] = static_cast<uint8_t>(code);
    block[64 + k] = static_cast<uint8_t>(outlier);
    quads |= int32_t(outlier != 0) << k / 4;
    sums[0][k / 16] += code;
    sums[1][k / 16] += outlier;
  }
  put(32, scale);
  put(96, scale * 255);
  put(60, quads);
  for (int64_t number = 0; number < 3; ++number) {
    auto sum = [&](int64_t digit) { return number == 0 ? sums[digit][0] + sums[digit][1] : sums[digit][number - 1]; };
    put(36 + number * 4, scale * float(sum(0) + 255 * sum(1)));
    put(48 + number * 4, -sum(0));
    put(100 + number * 4, -sum(1));
  }
  return block;
}

template <typename T> T at(const std::vector<uint8_t> &block, int64_t offset) {
  T value;
  std::memcpy(&value, &block[offset], sizeof(T));
  return value;
}

// The sums of qmatmul's description for one row of blocks and column n.
float chainOf(const PackedWeight &weight, const std::vector<std::vector<uint8_t>> &blocks, int64_t n) {
  const PackedLayout &layout = weight.layout;
  float acc = 0;
  for (int64_t number = 0; number < int64_t(blocks.size()); ++number) {
    const std::vector<uint8_t> &block = blocks[number];
    for (int64_t digit : {0, 1})
      for (int64_t k = 0; k < 32; k += layout.groupSize) {
        int64_t sumAt = layout.groupSize == 32 ? 0 : 4 + k / 16 * 4;
        float scale = weight.scaleAt(n, number * 32 + k);
        int32_t sum = 0;
        for (int64_t i = k; i < k + layout.groupSize; ++i)
          sum += weight.numberAt(n, number * 32 + i) * static_cast<int8_t>(block[digit * 64 + i]);
        acc = std::fmaf(float(sum) * scale, at<float>(block, digit ? 96 : 32), acc);
        if (layout.mins == ScaleType::None || digit == 1)
          continue;
        acc = std::fmaf(weight.minAt(n, number * 32 + k), at<float>(block, 36 + sumAt), acc);
      }
  }
  return acc;
}

// What rounded_dot_generator.h says, for one row of blocks and column n; and how far from chainOf rounding takes it.
struct Rounded {
  float sum = 0;
  double bound = 0;
};

Rounded roundedOf(const MatmulCase &c, const PackedWeight &weight, const std::vector<std::vector<uint8_t>> &blocks, int64_t n) {
  const PackedLayout &layout = weight.layout;
  int64_t numBlocks = int64_t(blocks.size()), inPass = c.kTile / 32;
  auto leastAt = [&](int64_t k) {
    return std::fmaf(weight.scaleAt(n, k), float(8 - layout.codeOffset), weight.minAt(n, k));
  };
  float largest = 0;
  for (int64_t k = 0; k < numBlocks * 32; k += layout.groupSize)
    largest = std::max({largest, std::fabs(weight.scaleAt(n, k)), std::fabs(leastAt(k) * 0.125F)});
  float unit = largest * float(1.0 / 32767), inverse = unit == 0 ? 0 : 1 / unit;
  Rounded result;
  // A digit's codes of `count` k from `first` on.
  auto total = [&](int64_t number, int64_t first, int64_t count, int64_t digit) {
    const std::vector<uint8_t> &block = blocks[number];
    int64_t k = number * 32 + first;
    int32_t sum = 0, products = 0;
    for (int64_t i = first; i < first + count; ++i) {
      int32_t code = static_cast<int8_t>(block[digit * 64 + i]);
      sum += code;
      products += (weight.numberAt(n, number * 32 + i) + layout.codeOffset) * code;
    }
    auto scale = int32_t(std::nearbyint(weight.scaleAt(n, k) * inverse));
    auto least = int32_t(std::nearbyint(leastAt(k) * 0.125F * inverse));
    int32_t both = sum * 8 * 65536 - sum * 8 + products;
    double step = double(unit) * at<float>(block, digit ? 96 : 32);
    result.bound += step * (0.5 * std::abs(products - 8 * sum) + 4.0 * std::abs(sum) + (digit == 0 ? std::abs(least) : 0));
    if (digit == 1) // nothing is borrowed
      return (products - 8 * sum) * scale + 8 * sum * least;
    return int32_t(int16_t(both)) * scale + (both >> 16) * least;
  };
  for (int64_t pass = 0; pass < numBlocks; pass += inPass) {
    int64_t end = std::min(numBlocks, pass + inPass);
    for (int64_t number = pass; number < end; ++number)
      for (int64_t k = 0; k < 32; k += layout.groupSize)
        result.sum = std::fmaf(float(total(number, k, layout.groupSize, 0)), at<float>(blocks[number], kActivationScale), result.sum);
    for (int64_t number = pass; number < end; ++number)
      for (int64_t quad = 0; quad < 8; ++quad)
        if (at<int32_t>(blocks[number], kActivationOutliers) >> quad & 1)
          result.sum = std::fmaf(float(total(number, quad * 4, 4, 1)), at<float>(blocks[number], kActivationOutlierScale), result.sum);
  }
  result.sum *= unit;
  return result;
}

// Whether this kernel rounds scales: few rows take the direct way.
bool rounds(const MatmulCase &c, const PackedLayout &layout, const std::string &isa) {
  return c.roundsScales && std::string_view(c.strategy) == "panel" && c.rows > 8 && layout.codes == CodeType::U4 &&
         layout.mins != ScaleType::None && (isa == "avx512" || isa == "amx");
}

std::vector<float> valuesOf(const MatmulCase &c) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(c.rows * c.depth);
  for (float &value : x)
    value = normal(random);
  for (int64_t k = 0; k < std::min<int64_t>(c.depth, 32); ++k)
    x[k] = 0;  // a block of zeros has no scale
  for (int64_t row = 1; row < c.rows; row += 3)
    for (int64_t k = row % 7; k < c.depth; k += 13)
      x[row * c.depth + k] *= k % 2 ? 3 : 40;  // outliers, and in other places in other rows
  return x;
}

class DotTest : public testing::TestWithParam<MatmulCase> {};

TEST_P(DotTest, EqualsPlainLoopsBitForBit) {
  MatmulCase c = quantized(GetParam());
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  std::vector<float> x = valuesOf(c), expected(c.rows * c.columns), rounded = expected;
  std::vector<uint8_t> codes;
  for (int64_t t = 0; t < c.rows; ++t) {
    std::vector<std::vector<uint8_t>> blocks;
    for (int64_t k = 0; k < c.depth; k += 32) {
      blocks.push_back(blockOf(&x[t * c.depth + k], std::min<int64_t>(32, c.depth - k), c.bothDigits));
      codes.insert(codes.end(), blocks.back().begin(), blocks.back().end());
    }
    for (int64_t n = 0; n < c.columns; ++n) {
      expected[t * c.columns + n] = chainOf(weight, blocks, n);
      double product = 0, variance = 0, size = 0;
      for (int64_t k = 0; k < c.depth; ++k) {
        double w = weight.at(n, k), scale = at<float>(blocks[k / 32], kActivationScale);
        product += x[t * c.depth + k] * w;
        variance += scale * w * scale * w / 12;
        size += std::fabs(x[t * c.depth + k] * w);
      }
      // With one digit or two, x is off by anything up to half of its scale, as likely one as the other: a variance of
      // 1/12. A chain of f32 rounds two products and a sum a group, for each digit.
      double numRoundings = double(6 * int64_t(blocks.size()) * weight.layout.numGroups());
      ASSERT_NEAR(expected[t * c.columns + n], product, 6 * std::sqrt(variance) + numRoundings * 0x1p-24 * size)
          << "row " << t << " column " << n;
      if (!rounds(c, weight.layout, "avx512"))
        continue;
      Rounded value = roundedOf(c, weight, blocks, n);
      rounded[t * c.columns + n] = value.sum;
      ASSERT_NEAR(value.sum, expected[t * c.columns + n], value.bound + numRoundings * 0x1p-24 * size) << "row " << t << " column " << n;
    }
  }
  for (const std::string &isa : runnableIsas()) {
    if (laneVectorsOf(isa) == 8 && c.rowTile * c.columnTile > 32 - 16 * (c.columnTile > 16))
      continue;  // more than its registers hold
    if (takesBytes(c) && isa != "amx")
      continue;  // has no tiles
    SCOPED_TRACE(isa);
    auto step = Step::compile(moduleOf(c), isa);
    ASSERT_TRUE(step.isOk()) << step.status().message();
    for (int numThreads : {1, 2}) {
      StepData data;
      data.numTokens = c.rows;
      data.weights = weight.bytes;
      data.arena.assign(bytesOfArena(c), 0xCC);
      std::memcpy(data.arena.data(), x.data(), x.size() * 4);
      (*step)->run(data, numThreads);
      EXPECT_EQ(std::memcmp(data.arena.data() + bytesOfX(c), codes.data(), codes.size()), 0) << "codes of x differ";
      const float *y = data.arenaAt(placeOfY(c));
      const std::vector<float> &wanted = rounds(c, weight.layout, isa) ? rounded : expected;
      int64_t numWrong = 0;
      for (size_t i = 0; i < wanted.size(); ++i)
        if (std::memcmp(&y[i], &wanted[i], 4) != 0 && ++numWrong == 1)
          ADD_FAILURE() << "at row " << i / c.columns << " column " << i % c.columns << ": " << y[i] << " instead of "
                        << wanted[i];
      EXPECT_EQ(numWrong, 0);
    }
  }
}

constexpr const char *kQ41 = "p16:u4,f16,f16,32", *kQ50 = "p16:u5,f16,none,32,16";

INSTANTIATE_TEST_SUITE_P(Layouts, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const char *layout :
       {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u4,f16*s8,f16*s8,32",
        "p16:u7,f16,f16,32", "p16:u7,f16*s8,f16*s8,32", "p16:s8,f16*s8,none,16", "p16:u7,f16*s8,f16*s8,16",
        "p16:s8,f16*s8,none,32", "p16:u4,f16*s8,none,16,3", "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32", "p16:u5,f16,none,32,16", "p16:u5,f16*s8,f16*s8,32",
        "p16:u6,f16*s8,none,16,32"}) {
    cases.push_back({layout, 3, 64, 96, "direct", 2, 16, 32, 32});
    cases.push_back({layout, 13, 64, 96, "panel", 2, 16, 64, 64});
    cases.push_back(cases.back());
    cases.back().bothDigits = true;
  }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Formats, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const std::string &layout : layoutsOfFormats())
    if (!PackedLayout::parse(layout)->hasFloatCodes())
      cases.push_back(quantized({layout.c_str(), 1, 32, 256, "direct", 1, 16, 32, 32}));
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Extents, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (int64_t rows : {1, 7, 17})
    for (int64_t columns : {1, 31, 80})
      for (int64_t depth : {33, 96}) {
        cases.push_back({kQ41, rows, columns, depth, "direct", 2, 16, 32, columns});
        cases.push_back({kQ41, rows, columns, depth, "panel", 2, 16, 64, columns});
      }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Tiles, DotTest,
                         testing::Values(MatmulCase{kQ41, 19, 192, 288, "panel", 6, 32, 128, 96},
                                         MatmulCase{kQ41, 19, 192, 288, "panel", 4, 48, 96, 192},
                                         MatmulCase{kQ41, 29, 192, 288, "panel", 13, 16, 288, 64},
                                         // More rows, and more columns, than wait between passes at a time.
                                         MatmulCase{kQ50, 270, 304, 96, "panel", 6, 32, 64, 304},
                                         MatmulCase{kQ50, 270, 304, 64, "panel", 6, 32, 64, 304},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 7, 32, 32, 96},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 1, 64, 32, 64},
                                         MatmulCase{kQ41, 23, 192, 288, "direct", 12, 16, 32, 16}));

// Scales of u4 codes with mins rounded: ragged ends, passes, few rows; other codes are as ever.
INSTANTIATE_TEST_SUITE_P(Rounded, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const char *layout : {"p16:u4,f16,none,32,8", kQ41, "p16:u4,f16*s8,f16*s8,32", "p16:u4,f16*s8,f16*s8,16", "p16:u7,f16,f16,32"}) {
    cases.push_back({layout, 13, 64, 320, "panel", 6, 32, 320, 64});
    cases.push_back({layout, 13, 48, 320, "panel", 2, 16, 128, 48});
  }
  for (int64_t rows : {1, 8, 9, 17})
    for (int64_t depth : {33, 96, 250})
      cases.push_back({kQ41, rows, 80, depth, "panel", 6, 32, 256, 80});
  cases.push_back({kQ41, 29, 192, 576, "panel", 6, 32, 384, 96});
  cases.push_back({kQ41, 270, 304, 256, "panel", 6, 32, 128, 304});
  for (MatmulCase &c : cases)
    c = roundedScales(quantized(c));
  return cases;
}()));

// On a tile unit, for those that it takes: the same bits. Up to 4 rows go by vectors; what 8 or 16 do not hold comes in
// turns; some have no panel for each buffer.
INSTANTIATE_TEST_SUITE_P(Bytes, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const char *layout : {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u4,f16*s8,f16*s8,32",
                             "p16:u7,f16,f16,32", "p16:u7,f16*s8,f16*s8,32", "p16:s8,f16*s8,none,32", "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32", "p16:u5,f16,none,32,16", "p16:u5,f16*s8,f16*s8,32", "p16:u6,f16,f16,32"})
    for (int64_t rows : {3, 6, 16})
      for (int64_t depth : {96, 608})
        cases.push_back({layout, rows, 64, depth, "bytes", rows == 16 ? 16 : 8, 32, 608, 32});
  for (int64_t rows : {5, 8, 13, 17, 33})
    for (int64_t columns : {1, 31, 80})
      for (int64_t depth : {31, 33, 95})
        cases.push_back({kQ41, rows, columns, depth, "bytes", rows == 17 ? 8 : 16, 32, 96, columns});
  return cases;
}()));

TEST(DotErrors, SomeCodesAreNoBytes) {
  auto step = Step::compile(moduleOf(quantized({"p16:s8,f16*s8,none,16", 5, 64, 96, "bytes", 16, 32, 96, 64})), "amx");
  ASSERT_FALSE(step.isOk());
  EXPECT_THAT(std::string(step.status().message()), testing::HasSubstr("\"direct\" and \"panel\" take any"));
}

TEST(DotErrors, BytesNeedTiles) {
  auto step = Step::compile(moduleOf(quantized({kQ41, 5, 64, 96, "bytes", 16, 32, 96, 64})), "avx512");
  ASSERT_FALSE(step.isOk());
  EXPECT_THAT(std::string(step.status().message()), testing::HasSubstr("needs an ISA with tiles"));
}

}  // namespace
}  // namespace girih::cpu::test
