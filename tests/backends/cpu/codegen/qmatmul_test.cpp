// SPDX-License-Identifier: Apache-2.0
// Microkernels of qmatmul and gather_rows against one plain chain of fmaf per element: equal bit for bit, for every
// layout, tile, ISA, odd extent and thread count.
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>

namespace girih::cpu::test {
namespace {

class QMatmulTest : public testing::TestWithParam<MatmulCase> {};

TEST_P(QMatmulTest, EqualsTheChainBitForBit) {
  const MatmulCase &c = GetParam();
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(c.rows * c.depth);
  for (float &value : x)
    value = normal(random);
  std::vector<float> expected(c.rows * c.columns);
  for (int64_t t = 0; t < c.rows; ++t) {
    for (int64_t n = 0; n < c.columns; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < c.depth; ++k)
        sum = std::fmaf(x[t * c.depth + k], weight.at(n, k), sum);
      expected[t * c.columns + n] = sum;
    }
  }
  for (const std::string &isa : runnableIsas()) {
    if (laneVectorsOf(isa) == 8 && c.rowTile * c.columnTile / 16 + c.columnTile / 16 + 1 > 8)
      continue;
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
      const float *y = data.arenaAt(placeOfY(c));
      int64_t numWrong = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        bool isEqual = std::memcmp(&y[i], &expected[i], 4) == 0;
        if (!isEqual && ++numWrong == 1)
          ADD_FAILURE() << "at row " << i / c.columns << " column " << i % c.columns << ": " << y[i] << " instead of "
                        << expected[i];
      }
      EXPECT_EQ(numWrong, 0);
    }
  }
}

constexpr const char *kQ41 = "p16:u4,f16,f16,32";

INSTANTIATE_TEST_SUITE_P(Layouts, QMatmulTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const char *layout :
       {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u4,f16*s8,f16*s8,32",
        "p16:u7,f16,f16,32", "p16:u7,f16*s8,f16*s8,32", "p16:s8,f16*s8,none,16", "p16:u7,f16*s8,f16*s8,16",
        "p16:s8,f16*s8,none,32", "p16:f16,none,none,32", "p16:bf16x2,none,none,32", "p16:f32,none,none,32", "p16:iq4,f16,none,32",
        "p16:e2m1,e8m0,none,32", "p16:u5,f16,none,32,16", "p16:u5,f16*s8,f16*s8,32", "p16:u6,f16*s8,none,16,32"}) {
    cases.push_back({layout, 3, 64, 96, "direct", 2, 32, 32, 32});
    cases.push_back({layout, 5, 64, 96, "panel", 2, 32, 64, 64});
  }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Formats, QMatmulTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (const std::string &layout : layoutsOfFormats())
    cases.push_back({layout.c_str(), 2, 32, 256, "direct", 2, 32, 32, 32});
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Extents, QMatmulTest, testing::ValuesIn([] {
  std::vector<MatmulCase> cases;
  for (int64_t rows : {1, 7, 17})
    for (int64_t columns : {1, 31, 80})
      for (int64_t depth : {33, 96}) {
        cases.push_back({kQ41, rows, columns, depth, "direct", 4, 16, 32, columns});
        cases.push_back({kQ41, rows, columns, depth, "panel", 2, 32, 64, columns});
      }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Tiles, QMatmulTest,
                         testing::Values(MatmulCase{kQ41, 19, 192, 288, "panel", 8, 48, 128, 96},
                                         MatmulCase{kQ41, 19, 192, 288, "panel", 6, 64, 96, 192},
                                         MatmulCase{kQ41, 19, 192, 288, "panel", 14, 32, 288, 64},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 8, 48, 32, 48},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 1, 64, 32, 64},
                                         MatmulCase{kQ41, 9, 192, 288, "direct", 6, 16, 32, 16}));

}  // namespace
}  // namespace girih::cpu::test
