// SPDX-License-Identifier: Apache-2.0
// qmatmul on the matrix unit against sums in f64 of operands rounded to bf16, for every layout and odd extent; rows do
// not depend on their neighbours; the hot loop is tile loads and products alone.
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include "backends/cpu/codegen/backend.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>

namespace girih::cpu::test {
namespace {

// To the nearest, halves away from zero.
uint16_t bfloatBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x8000) >> 16);
}

double bfloatValue(uint16_t half) {
  uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

bool canRun() {
  for (const std::string &isa : runnableIsas())
    if (isa == "amx")
      return true;
  return false;
}

std::vector<uint16_t> randomActivations(int64_t count) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> x(count);
  for (uint16_t &value : x)
    value = bfloatBits(normal(random));
  return x;
}

// The arena holds NaN wherever nothing was written: a tile that reads past a row would show.
std::vector<float> run(const Step &step, const MatmulCase &c, const PackedWeight &weight,
                       const std::vector<uint16_t> &x, int threads) {
  StepData data;
  data.numTokens = c.rows;
  data.weights = weight.bytes;
  data.arena.assign(bytesOfX(c) + bytesOfY(c) + 4 * (bytesOfScratch(c) + 64), 0xFF);
  std::memcpy(data.arena.data(), x.data(), x.size() * 2);
  step.run(data, threads);
  const float *y = data.arenaAt(bytesOfX(c));
  return std::vector<float>(y, y + c.rows * c.columns);
}

class MatrixTest : public testing::TestWithParam<MatmulCase> {};

TEST_P(MatrixTest, AgreesWithSumsInF64) {
  if (!canRun())
    GTEST_SKIP() << "this machine grants no tiles";
  const MatmulCase &c = GetParam();
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  std::vector<uint16_t> x = randomActivations(c.rows * c.depth);
  auto step = Step::compile(moduleOf(c), "amx");
  ASSERT_TRUE(step.isOk()) << step.status().message();
  std::vector<float> y = run(**step, c, weight, x, 1);
  for (int64_t t = 0; t < c.rows; ++t) {
    for (int64_t n = 0; n < c.columns; ++n) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < c.depth; ++k) {
        double value = bfloatValue(x[t * c.depth + k]), w = weight.at(n, k), min = 0;
        if (takesCodes(c)) // exact, and added apart from the mins
          min = weight.minAt(n, k);
        else
          w = bfloatValue(bfloatBits(weight.at(n, k)));
        sum += value * w;
        magnitude += std::abs(value) * (std::abs(w - min) + std::abs(min));
      }
      // Sums of K products in f32: 2^-24 of the magnitude a step, random in sign.
      ASSERT_NEAR(y[t * c.columns + n], sum, 1e-6 * magnitude) << "row " << t << " column " << n;
    }
  }
  EXPECT_EQ(run(**step, c, weight, x, 2), y) << "two threads";
}

constexpr const char *kQ41 = "p16:u4,f16,f16,32";

INSTANTIATE_TEST_SUITE_P(Layouts, MatrixTest, testing::ValuesIn([] {
                           std::vector<MatmulCase> cases;
                           for (const char *layout :
                                {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32",
                                 "p16:u4,f16*s8,f16*s8,32", "p16:u7,f16,f16,32", "p16:u7,f16*s8,f16*s8,32",
                                 "p16:s8,f16*s8,none,16", "p16:u7,f16*s8,f16*s8,16", "p16:s8,f16*s8,none,32",
                                 "p16:f16,none,none,32", "p16:bf16x2,none,none,32", "p16:f32,none,none,32",
                                 "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32", "p16:u5,f16,none,32,16",
                                 "p16:u5,f16*s8,f16*s8,32", "p16:u6,f16*s8,none,16,32"})
                             cases.push_back({layout, 5, 64, 96, "matrix", 32, 32, 96, 64});
                           return cases;
                         }()));

INSTANTIATE_TEST_SUITE_P(Extents, MatrixTest, testing::ValuesIn([] {
                           std::vector<MatmulCase> cases;
                           for (int64_t rows : {1, 16, 17, 33, 79})
                             for (int64_t columns : {1, 31, 80})
                               for (int64_t depth : {33, 95})
                                 cases.push_back({kQ41, rows, columns, depth, "matrix", 32, 32, 64, columns});
                           return cases;
                         }()));

// Codes as they are stored; 16 rows stay in tiles, more come in turns.
INSTANTIATE_TEST_SUITE_P(CodeLayouts, MatrixTest, testing::ValuesIn([] {
                           std::vector<MatmulCase> cases;
                           for (const char *layout :
                                {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32",
                                 "p16:u4,f16*s8,f16*s8,32", "p16:u7,f16,f16,32", "p16:u7,f16*s8,f16*s8,32",
                                 "p16:s8,f16*s8,none,16", "p16:u7,f16*s8,f16*s8,16", "p16:s8,f16*s8,none,32",
                                 "p16:u4,f16*s8,none,16,3", "p16:u7,f16,none,32,16",
                                 "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32", "p16:u5,f16,none,32,16",
                                 "p16:u5,f16*s8,f16*s8,32", "p16:u6,f16*s8,none,16,32"})
                             for (int64_t depth : {96, 608})
                               cases.push_back({layout, 5, 64, depth, "codes", 16, 32, 608, 32});
                           return cases;
                         }()));

INSTANTIATE_TEST_SUITE_P(CodeExtents, MatrixTest, testing::ValuesIn([] {
                           std::vector<MatmulCase> cases;
                           for (int64_t rows : {1, 8, 16, 17, 33})
                             for (int64_t columns : {1, 31, 80})
                               for (int64_t depth : {31, 95, 130})
                                 cases.push_back({kQ41, rows, columns, depth, "codes", rows == 17 ? 8 : 16, 32, 160, columns});
                           return cases;
                         }()));

INSTANTIATE_TEST_SUITE_P(Tiles, MatrixTest,
                         testing::Values(MatmulCase{kQ41, 70, 192, 288, "matrix", 32, 64, 288, 64},
                                         // More rows than parts of sums are kept for, and as many.
                                         MatmulCase{kQ41, 530, 32, 160, "matrix", 32, 32, 64, 32},
                                         MatmulCase{kQ41, 512, 32, 160, "matrix", 32, 32, 64, 32},
                                         MatmulCase{kQ41, 70, 192, 288, "matrix", 32, 96, 128, 192},
                                         MatmulCase{kQ41, 70, 176, 288, "matrix", 32, 48, 96, 176},
                                         MatmulCase{kQ41, 40, 120, 352, "matrix", 32, 16, 320, 120}));

TEST(MatrixRows, DoNotDependOnTheirNeighbours) {
  if (!canRun())
    GTEST_SKIP() << "this machine grants no tiles";
  MatmulCase all = {kQ41, 53, 96, 160, "matrix", 32, 64, 160, 96}, one = all;
  one.rows = 1;
  PackedWeight weight(all.layout, all.columns, all.depth, 7);
  std::vector<uint16_t> x = randomActivations(all.rows * all.depth);
  // One step at a time: the loader takes a second image for the first one.
  auto compiledRun = [&](const MatmulCase &c, const std::vector<uint16_t> &activations) {
    auto step = Step::compile(moduleOf(c), "amx");
    EXPECT_TRUE(step.isOk()) << step.status().message();
    return step.isOk() ? run(**step, c, weight, activations, 1) : std::vector<float>();
  };
  std::vector<float> y = compiledRun(all, x);
  ASSERT_EQ(int64_t(y.size()), all.rows * all.columns);
  for (int64_t t : {0, 15, 31, 32, 52}) {
    std::vector<uint16_t> row(x.begin() + t * all.depth, x.begin() + (t + 1) * all.depth);
    std::vector<float> expected(y.begin() + t * all.columns, y.begin() + (t + 1) * all.columns);
    EXPECT_EQ(compiledRun(one, row), expected) << "row " << t;
  }
}

// Up to four rows of logits meet the codes as they are stored, as a step of few tokens has it; more the rounded weights.
TEST(MatrixLogits, FewRowsTakeTheCodes) {
  if (!canRun())
    GTEST_SKIP() << "this machine grants no tiles";
  for (const char *layout : {"p16:s8,f16,none,32", kQ41, "p16:f16,none,none,32"})
    for (int64_t rows : {1, 3, 4, 5, 33}) {
      MatmulCase c = {layout, rows, 96, 160, "matrix", 32, 32, 160, 32}, few = {layout, rows, 96, 160, "codes", 4, 32, 160, 32};
      PackedWeight weight(c.layout, c.columns, c.depth, 7);
      std::vector<uint16_t> x = randomActivations(c.rows * c.depth);
      bool takesFew = rows <= 4 && !weight.layout.hasFloatCodes();
      auto plain = Step::compile(moduleOf(takesFew ? few : c), "amx");
      ASSERT_TRUE(plain.isOk()) << plain.status().message();
      std::vector<float> expected = run(**plain, c, weight, x, 1);
      plain->reset();
      auto step = Step::compile(replaced(moduleOf(c), {{"\"arena\"[%yAt]", "\"logits\"[%c0]"}}), "amx");
      ASSERT_TRUE(step.isOk()) << step.status().message();
      StepData data;
      data.numTokens = rows;
      data.weights = weight.bytes;
      data.arena.assign(bytesOfX(c) + bytesOfY(c) + 4 * (bytesOfScratch(c) + 64), 0xFF);
      std::memcpy(data.arena.data(), x.data(), x.size() * 2);
      data.logits.assign(size_t(rows * c.columns), 7.0f);
      (*step)->run(data, 2);
      EXPECT_EQ(data.logits, expected) << layout << ", " << rows << " rows";
    }
}

// What follows a matmul in its unit is computed some rows at a time, between the products of the next rows: for every
// count of rows the same as from the matmul alone. 96 k are one pass, 160 three of them, between which the sums of a unit's
// 1 or 3 pairs of panels wait in the result's memory.
class FollowersTest : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};

TEST_P(FollowersTest, SeeEveryRowOnce) {
  if (!canRun())
    GTEST_SKIP() << "this machine grants no tiles";
  auto [rows, depth, width] = GetParam();
  MatmulCase c = {kQ41, rows, 96, depth, "matrix", 32, 32, depth == 96 ? 96 : 64, width};
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  std::vector<uint16_t> x = randomActivations(c.rows * c.depth);
  auto run1 = [&](const std::string &text, int threads) {
    auto step = Step::compile(text, "amx");
    EXPECT_TRUE(step.isOk()) << step.status().message();
    return step.isOk() ? run(**step, c, weight, x, threads) : std::vector<float>();
  };
  std::vector<float> plain = run1(moduleOf(c), 1);
  // The result goes through scratch, is doubled there, and comes out with what 1 in the output adds to it.
  std::string text = moduleOf(c), own = "memref<?x" + std::to_string(width) + "xf32>";
  std::string strided = "memref<?x" + std::to_string(width) + "xf32, strided<[96, 1], offset: ?>>";
  int64_t before = bytesOfScratch(c), buffers = 2 * c.rows * width * 4,
          after = (before + buffers + 63) / 64 * 64;
  auto replace = [&](const std::string &from, const std::string &to) {
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
  };
  replace("girih.scratch_bytes = " + std::to_string(before), "girih.scratch_bytes = " + std::to_string(after));
  replace("      girih.qmatmul", R"(      %second = arith.constant )" + std::to_string(c.rows * width * 4) +
                                     R"( : index
      %product = girih.buffer_at "scratch"[%c0] rows %t : )" +
                                     own + R"(
      %double = girih.buffer_at "scratch"[%second] rows %t : )" +
                                     own + R"(
      girih.qmatmul)");
  replace("outs(%out : " + strided + ")", "outs(%product : " + own + ")");
  replace("    } {girih.dispatch = \"project\"", R"(
      linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]} ins(%product : )" +
                                                     own + ") outs(%double : " + own + R"() {
      ^bb0(%in: f32, %o: f32):
        %r = arith.addf %in, %in : f32
        linalg.yield %r : f32
      }
      linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]} ins(%double : )" +
                                                     own + R"() outs(%out : )" + strided + R"() {
      ^bb0(%in: f32, %o: f32):
        %r = arith.addf %in, %o : f32
        linalg.yield %r : f32
      }
    } {girih.dispatch = "project")");
  auto step = Step::compile(text, "amx");
  ASSERT_TRUE(step.isOk()) << step.status().message();
  for (int threads : {1, 2}) {
    StepData data;
    data.numTokens = c.rows;
    data.weights = weight.bytes;
    data.arena.assign(bytesOfX(c) + bytesOfY(c) + 4 * after, 0xFF);
    std::memcpy(data.arena.data(), x.data(), x.size() * 2);
    std::fill_n(data.arenaAt(bytesOfX(c)), c.rows * c.columns, 1.0f);
    (*step)->run(data, threads);
    const float *y = data.arenaAt(bytesOfX(c));
    for (int64_t i = 0; i < c.rows * c.columns; ++i)
      ASSERT_EQ(y[i], 2 * plain[i] + 1) << "element " << i << " of " << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, FollowersTest,
                         testing::Combine(testing::Values(1, 16, 31, 32, 33, 64, 70, 96, 128, 145),
                                          testing::Values(96, 160), testing::Values(32, 96)));

// A panel of each of two weights makes a pair where what follows joins their results: the same as either alone.
TEST(MatrixPairs, JoinsTwoWeights) {
  if (!canRun())
    GTEST_SKIP() << "this machine grants no tiles";
  for (auto [rows, depth, kTile] : std::vector<std::array<int64_t, 3>>{{1, 96, 96}, {33, 96, 96}, {70, 160, 96}, {96, 64, 64}}) {
    MatmulCase c = {kQ41, rows, 48, depth, "matrix", 32, 16, kTile, 16};
    PackedWeight first(c.layout, c.columns, c.depth, 7), second(c.layout, c.columns, c.depth, 8);
    std::vector<uint16_t> x = randomActivations(c.rows * c.depth);
    auto alone = [&](const PackedWeight &weight) {
      auto step = Step::compile(moduleOf(c), "amx");
      EXPECT_TRUE(step.isOk()) << step.status().message();
      return step.isOk() ? run(**step, c, weight, x, 1) : std::vector<float>();
    };
    std::vector<float> a = alone(first), b = alone(second);

    int64_t result = c.rows * 16 * 4, scratch = (2 * bytesOfScratch(c) + 2 * result + 63) / 64 * 64;
    auto number = [](int64_t value) { return std::to_string(value); };
    std::string out = "memref<?x16xf32, strided<[48, 1], offset: ?>>";
    std::string matmul = "      girih.qmatmul ins(%x, %w", beside = R"(
      %place = arith.constant $RESULT : index
      %a = girih.buffer_at "scratch"[%c0] rows %t : memref<?x16xf32>
      %b = girih.buffer_at "scratch"[%place] rows %t : memref<?x16xf32>
      %otherAt = affine.apply affine_map<(d0) -> (d0 + $BYTES)>(%at)
      %other = girih.packed_at %otherAt : !girih.packed<48 x $K, "$LAYOUT">
      girih.qmatmul ins(%x, %other[%column] : memref<?x$Kxbf16>, !girih.packed<48 x $K, "$LAYOUT">)
          outs(%b : memref<?x16xf32>)
          {strategy = "matrix", row_tile = 32 : i64, column_tile = 16 : i64, k_tile = $KC : i64}
)";
    beside = replaced(beside, {{"$RESULT", number(result)}, {"$BYTES", number(int64_t(first.bytes.size()))},
                               {"$LAYOUT", c.layout}, {"$KC", number(kTile)}, {"$K", number(depth)}});
    std::string join = R"(
      linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
          ins(%a, %b : memref<?x16xf32>, memref<?x16xf32>) outs(%out : )" + out + R"() {
      ^bb0(%p: f32, %q: f32, %o: f32):
        %r = arith.subf %p, %q : f32
        linalg.yield %r : f32
      }
    } {girih.dispatch = "project")";
    std::string text = "#id = affine_map<(d0, d1) -> (d0, d1)>" +
                       replaced(moduleOf(c), {{matmul, beside + matmul}, {"outs(%out : " + out + ")", "outs(%a : memref<?x16xf32>)"},
                                              {"    } {girih.dispatch = \"project\"", join},
                                              {"girih.scratch_bytes = " + number(bytesOfScratch(c)),
                                               "girih.scratch_bytes = " + number(scratch)}});
    auto step = Step::compile(text, "amx");
    ASSERT_TRUE(step.isOk()) << step.status().message();
    StepData data;
    data.numTokens = c.rows;
    data.weights = first.bytes;
    data.weights.insert(data.weights.end(), second.bytes.begin(), second.bytes.end());
    data.arena.assign(bytesOfX(c) + bytesOfY(c) + 4 * scratch, 0xFF);
    std::memcpy(data.arena.data(), x.data(), x.size() * 2);
    (*step)->run(data, 2);
    const float *y = data.arenaAt(bytesOfX(c));
    for (int64_t i = 0; i < c.rows * c.columns; ++i)
      ASSERT_EQ(y[i], a[i] - b[i]) << "element " << i << " of " << rows << " rows of " << depth;
  }
}

TEST(MatrixErrors, TilesAreNotMadeForOtherSets) {
  auto step = Step::compile(moduleOf({kQ41, 5, 64, 96, "matrix", 32, 32, 96, 64}), "avx512");
  ASSERT_FALSE(step.isOk());
  EXPECT_THAT(std::string(step.status().message()), testing::HasSubstr("an ISA with tiles"));
}

TEST(MatrixErrors, FloatsAreNoCodes) {
  auto step = Step::compile(moduleOf({"p16:f16,none,none,32", 5, 64, 96, "codes", 16, 32, 96, 64}), "amx");
  ASSERT_FALSE(step.isOk());
  EXPECT_THAT(std::string(step.status().message()), testing::HasSubstr("\"matrix\" takes them"));
}

} // namespace
} // namespace girih::cpu::test
