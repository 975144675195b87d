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
std::vector<uint8_t> blockOf(const float *values, int64_t count) {
  std::vector<uint8_t> block(kActivationBytes, 0);
  float scales[2], scaled[2];
  int32_t sums[2] = {0, 0}, minusSums[2];
  for (int64_t half : {0, 1}) {
    int64_t first = half * 16, end = std::min<int64_t>(count, first + 16);
    float largest = 0;
    for (int64_t k = first; k < end; ++k)
      largest = std::max(largest, std::fabs(values[k]));
    bool isZero = largest < kActivationLeast;
    float inverse = isZero ? 0 : 127 / largest;
    for (int64_t k = first; k < end; ++k) {
      int32_t code = static_cast<int32_t>(std::nearbyint(values[k] * inverse));
      block[kActivationCodes + k] = static_cast<uint8_t>(code);
      sums[half] += code;
    }
    scales[half] = isZero ? 0 : largest / 127;
    scaled[half] = scales[half] * float(sums[half]);
    minusSums[half] = -sums[half];
  }
  float scaledSum = std::fmaf(scales[1], float(sums[1]), scaled[0]);
  std::memcpy(&block[kActivationScales], scales, sizeof(scales));
  std::memcpy(&block[kActivationScaledHalves], scaled, sizeof(scaled));
  std::memcpy(&block[kActivationScaledSum], &scaledSum, sizeof(scaledSum));
  std::memcpy(&block[kActivationMinusHalves], minusSums, sizeof(minusSums));
  return block;
}

template <typename T> T at(const std::vector<uint8_t> &block, int64_t offset) {
  T value;
  std::memcpy(&value, &block[offset], sizeof(T));
  return value;
}

int32_t codeOf(const PackedWeight &weight, int64_t n, int64_t k) {
  const PackedLayout &layout = weight.layout;
  uint8_t byte = weight.bytes[weight.blockAt(n, k) + layout.codeOffsetBytes(n % 16, k % 32)];
  if (layout.codes == CodeType::S8)
    return static_cast<int8_t>(byte) - layout.codeOffset;
  return (layout.codes == CodeType::U4 ? (byte >> layout.codeShift(k % 32)) & 15 : byte) - layout.codeOffset;
}

// The sums of qmatmul's description for one row of blocks and column n.
float chainOf(const PackedWeight &weight, const std::vector<std::vector<uint8_t>> &blocks, int64_t n) {
  const PackedLayout &layout = weight.layout;
  float acc = 0;
  for (int64_t k = 0; k < int64_t(blocks.size()) * 32; k += layout.groupSize) {
    const std::vector<uint8_t> &block = blocks[k / 32];
    int64_t packed = weight.blockAt(n, k), half = k % 32 / 16;
    float scale = readScale(weight.bytes, packed + layout.scaleOffsetBytes(n % 16, k % 32), layout.scales);
    for (int64_t first = k; first < k + layout.groupSize; first += 16) {
      int32_t sum = 0;
      for (int64_t i = first; i < first + 16; ++i)
        sum += codeOf(weight, n, i) * static_cast<int8_t>(block[i % 32]);
      acc = std::fmaf(float(sum), scale * at<float>(block, kActivationScales + first % 32 / 16 * 4), acc);
    }
    if (layout.mins == ScaleType::None)
      continue;
    float min = readScale(weight.bytes, packed + layout.minOffsetBytes(n % 16, k % 32), layout.mins);
    int64_t where = layout.groupSize == 32 ? kActivationScaledSum : kActivationScaledHalves + half * 4;
    acc = std::fmaf(min, at<float>(block, where), acc);
  }
  return acc;
}

std::vector<float> valuesOf(const MatmulCase &c) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(c.rows * c.depth);
  for (float &value : x)
    value = normal(random);
  for (int64_t k = 0; k < std::min<int64_t>(c.depth, 32); ++k)
    x[k] = 0;  // a block of zeros has no scale
  for (int64_t k = 32; k < std::min<int64_t>(c.depth, 48); ++k)
    x[k] *= 64; // a half has the scale of its own values, whatever its neighbour's
  return x;
}

class DotTest : public testing::TestWithParam<MatmulCase> {};

TEST_P(DotTest, EqualsPlainLoopsBitForBit) {
  MatmulCase c = quantized(GetParam());
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  std::vector<float> x = valuesOf(c), expected(c.rows * c.columns);
  std::vector<uint8_t> codes;
  for (int64_t t = 0; t < c.rows; ++t) {
    std::vector<std::vector<uint8_t>> blocks;
    for (int64_t k = 0; k < c.depth; k += 32) {
      blocks.push_back(blockOf(&x[t * c.depth + k], std::min<int64_t>(32, c.depth - k)));
      codes.insert(codes.end(), blocks.back().begin(), blocks.back().end());
    }
    for (int64_t n = 0; n < c.columns; ++n) {
      expected[t * c.columns + n] = chainOf(weight, blocks, n);
      double product = 0, size = 0;
      for (int64_t k = 0; k < c.depth; ++k) {
        double term = double(x[t * c.depth + k]) * weight.at(n, k);
        product += term;
        size += term * term;
      }
      // Each x is off by at most half of 1/127 of its block's largest; errors add like random ones.
      ASSERT_NEAR(expected[t * c.columns + n], product, 0.08 * std::sqrt(size) + 1e-3) << "row " << t << " column " << n;
    }
  }
  for (const std::string &isa : runnableIsas()) {
    if (isa == "avx2" && c.rowTile * c.columnTile > 32 - 16 * (c.columnTile > 16))
      continue;  // more than its registers hold
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
      int64_t numWrong = 0;
      for (size_t i = 0; i < expected.size(); ++i)
        if (std::memcmp(&y[i], &expected[i], 4) != 0 && ++numWrong == 1)
          ADD_FAILURE() << "at row " << i / c.columns << " column " << i % c.columns << ": " << y[i] << " instead of "
                        << expected[i];
      EXPECT_EQ(numWrong, 0);
    }
  }
}

constexpr const char *kQ41 = "p16:u4,f16,f16,32";

INSTANTIATE_TEST_SUITE_P(Layouts, DotTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const char *layout : {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u4,f32,f32,32",
                             "p16:u8,f16,f16,32", "p16:u8,f32,f32,32", "p16:s8,f32,none,16", "p16:u8,f32,f32,16",
                             "p16:s8,f32,none,32", "p16:u4,f32,none,16,3"}) {
    cases.push_back({layout, 3, 64, 96, "direct", 2, 16, 32, 32});
    cases.push_back({layout, 13, 64, 96, "panel", 2, 16, 64, 64});
  }
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
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 8, 32, 32, 96},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 1, 64, 32, 64},
                                         MatmulCase{kQ41, 23, 192, 288, "direct", 12, 16, 32, 16}));

}  // namespace
}  // namespace girih::cpu::test
