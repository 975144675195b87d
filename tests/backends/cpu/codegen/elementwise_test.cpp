// SPDX-License-Identifier: Apache-2.0
// linalg on memrefs against plain loops: maps, masks, reductions in the stated order, gathers, strides, index ops,
// scalar bodies; one and two threads; every ISA the same bits.
#include "tests/backends/cpu/codegen/step_harness.h"

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <gmock/gmock.h>
#include <random>

namespace girih::cpu::test {
namespace {

constexpr int64_t kInputBytes = 65536, kOutputAt = 65536;

// `body` sees %x: the whole input as memref<16384xf32>, %c0, %t (the step's tokens) and %outAt.
std::string moduleOf(const std::string &body, const std::string &numerics = "exact") {
  return R"(
module attributes {girih.numerics = ")" + numerics +
         R"(", girih.arena_bytes = 131072 : i64, girih.scratch_bytes = 4096 : i64} {
  memref.global "private" constant @table : memref<3x4xi64> = dense<[[1,2,3,4],[5,6,7,8],[9,10,11,12]]>
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %outAt = arith.constant 65536 : index
    %c64 = arith.constant 64 : index
    %t = girih.step_extent "num_tokens"
)" + body + "    return\n  }\n}\n";
}

// What stands outside of a dispatch runs on every thread; these tests write, so they are one unit.
std::string oneUnit(const std::string &body) { return "scf.forall (%unit) in (1) {\n" + body + "}\n"; }

// Runs `body` on random input; all ISAs and thread counts must agree. Returns the first `count` outputs.
std::vector<float> run(const std::string &body, int64_t numTokens, int64_t count, std::vector<float> *input = nullptr,
                       const std::string &numerics = "exact") {
  std::vector<float> first;
  for (const std::string &isa : runnableIsas()) {
    auto step = Step::compile(moduleOf(body, numerics), isa);
    if (!step.isOk()) {
      ADD_FAILURE() << step.status().message();
      return std::vector<float>(count);
    }
    for (int numThreads : {1, 2, 3}) {
      StepData data;
      data.numTokens = numTokens;
      data.arena.assign(131072 + 3 * 4096, 0xCC);
      std::mt19937 random(17);
      std::normal_distribution<float> normal;
      for (int64_t i = 0; i < kInputBytes / 4; ++i)
        data.arenaAt(0)[i] = normal(random);
      (*step)->run(data, numThreads);
      const float *out = data.arenaAt(kOutputAt);
      if (first.empty())
        first.assign(out, out + count);
      EXPECT_EQ(std::memcmp(first.data(), out, count * 4), 0) << isa << " with " << numThreads << " threads differs";
      if (input)
        input->assign(data.arenaAt(0), data.arenaAt(0) + kInputBytes / 4);
    }
  }
  return first;
}

// The order that the pass states: lane l takes l, l+16, ...; then lanes l and l+8, l+4, l+2, l+1.
float sumOfLanes(std::array<float, 16> lanes) {
  for (int half = 8; half >= 1; half /= 2)
    for (int lane = 0; lane < half; ++lane)
      lanes[lane] += lanes[lane + half];
  return lanes[0];
}

float lanesSum(const std::function<float(int64_t)> &at, int64_t count) {
  std::array<float, 16> lanes = {};
  for (int64_t i = 0; i < count; ++i)
    lanes[i % 16] += at(i);
  return sumOfLanes(lanes);
}

// In `fast`: four such vectors take 16 elements by turns, while there are 64; then they are added, the first takes the rest.
float chainsSum(const std::function<float(int64_t)> &at, int64_t count) {
  std::array<float, 16> chains[4] = {};
  int64_t whole = count / 64 * 64;
  for (int64_t i = 0; i < whole; ++i)
    chains[i / 16 % 4][i % 16] += at(i);
  for (int lane = 0; lane < 16; ++lane)
    for (int chain = 1; chain < 4; ++chain)
      chains[0][lane] += chains[chain][lane];
  for (int64_t i = whole; i < count; ++i)
    chains[0][i % 16] += at(i);
  return sumOfLanes(chains[0]);
}

// Rows of `n` over the root of the sum of their squares.
std::string normaliseRows(int64_t n) {
  std::string d = std::to_string(n);
  return R"(
    %x = girih.buffer_at "arena"[%c0] rows %t : memref<?x)" + d + R"(xf32>
    %y = girih.buffer_at "arena"[%outAt] rows %t : memref<?x)" + d + R"(xf32>
    scf.forall (%i) in (%t) {
      %xi = memref.subview %x[%i, 0] [1, )" + d + R"(] [1, 1] : memref<?x)" + d + "xf32> to memref<1x" + d +
                                 "xf32, strided<[" + d + R"(, 1], offset: ?>>
      %yi = memref.subview %y[%i, 0] [1, )" + d + R"(] [1, 1] : memref<?x)" + d + "xf32> to memref<1x" + d +
                                 "xf32, strided<[" + d + R"(, 1], offset: ?>>
      %s = girih.buffer_at "scratch"[%c0] : memref<1xf32>
      %zero = arith.constant 0.0 : f32
      linalg.fill ins(%zero : f32) outs(%s : memref<1xf32>)
      linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
          iterator_types = ["parallel", "reduction"]}
          ins(%xi : memref<1x)" + d + "xf32, strided<[" + d + R"(, 1], offset: ?>>) outs(%s : memref<1xf32>) {
      ^bb0(%a: f32, %acc: f32):
        %sq = arith.mulf %a, %a : f32
        %r = arith.addf %acc, %sq : f32
        linalg.yield %r : f32
      }
      linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>,
          affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
          ins(%xi, %s : memref<1x)" + d + "xf32, strided<[" + d + R"(, 1], offset: ?>>, memref<1xf32>)
          outs(%yi : memref<1x)" + d + "xf32, strided<[" + d + R"(, 1], offset: ?>>) {
      ^bb0(%a: f32, %sum: f32, %out: f32):
        %eps = arith.constant 1.0e-5 : f32
        %m = arith.addf %sum, %eps : f32
        %q = math.rsqrt %m : f32
        %r = arith.mulf %a, %q : f32
        linalg.yield %r : f32
      }
    }
)";
}

struct Normalising {
  const char *numerics;
  float (*sum)(const std::function<float(int64_t)> &at, int64_t count);
};

class ExtentTest : public testing::TestWithParam<int64_t> {};

TEST_P(ExtentTest, NormalisesRows) {
  int64_t n = GetParam(), rows = 5;
  for (auto [numerics, sumOf] : {Normalising{"exact", lanesSum}, Normalising{"invariant", lanesSum}, Normalising{"fast", chainsSum}}) {
    std::vector<float> x;
    std::vector<float> y = run(normaliseRows(n), rows, rows * n, &x, numerics);
    for (int64_t i = 0; i < rows; ++i) {
      float sum = sumOf([&](int64_t j) { return x[i * n + j] * x[i * n + j]; }, n);
      float factor = 1.0f / std::sqrt(sum + 1.0e-5f);
      for (int64_t j = 0; j < n; ++j)
        ASSERT_EQ(y[i * n + j], x[i * n + j] * factor) << numerics << ": row " << i << " column " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Extents, ExtentTest, testing::Values(1, 2, 15, 16, 17, 31, 33, 64, 97, 576));

TEST(ElementwiseTest, CopiesBroadcastsAndTransposes) {
  std::vector<float> x;
  std::vector<float> y = run(oneUnit(R"(
    %x = girih.buffer_at "arena"[%c0] : memref<20x35xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<35x20xf32>
    linalg.transpose ins(%x : memref<20x35xf32>) outs(%y : memref<35x20xf32>) permutation = [1, 0]
    %b = arith.constant 68536 : index
    %z = girih.buffer_at "arena"[%b] : memref<20x35xf32>
    memref.copy %x, %z : memref<20x35xf32> to memref<20x35xf32>
)"), 1, 750 + 700, &x);
  for (int64_t i = 0; i < 20; ++i)
    for (int64_t j = 0; j < 35; ++j) {
      ASSERT_EQ(y[j * 20 + i], x[i * 35 + j]);
      ASSERT_EQ(y[750 + i * 35 + j], x[i * 35 + j]);
    }
}

// Interleaved pairs: strides of 2, index arithmetic, select, a modulus in a map.
TEST(ElementwiseTest, RotatesPairs) {
  std::vector<float> x;
  std::vector<float> y = run(oneUnit(R"(
    %x = girih.buffer_at "arena"[%c0] : memref<3x40xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<3x40xf32>
    linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1 mod 20)>,
        affine_map<(d0, d1) -> (d0, (d1 floordiv 2) * 2)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]}
        ins(%x, %x, %x : memref<3x40xf32>, memref<3x40xf32>, memref<3x40xf32>) outs(%y : memref<3x40xf32>) {
    ^bb0(%a: f32, %b: f32, %c: f32, %out: f32):
      %j = linalg.index 1 : index
      %two = arith.constant 2 : index
      %odd = arith.remui %j, %two : index
      %isOdd = arith.cmpi ne, %odd, %c0 : index
      %ji = arith.index_cast %j : index to i32
      %jf = arith.sitofp %ji : i32 to f32
      %s = arith.addf %b, %jf : f32
      %p = arith.mulf %c, %s : f32
      %r = arith.select %isOdd, %a, %p : f32
      linalg.yield %r : f32
    }
)"), 1, 120, &x);
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 40; ++j) {
      float expected = j % 2 ? x[i * 40 + j] : x[i * 40 + j / 2 * 2] * (x[i * 40 + j % 20] + static_cast<float>(j));
      ASSERT_EQ(y[i * 40 + j], expected);
    }
}

TEST(ElementwiseTest, ScattersIntoStridedViews) {
  std::vector<float> x;
  std::vector<float> y = run(oneUnit(R"(
    %x = girih.buffer_at "arena"[%c0] : memref<19x2xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<38xf32>
    %zero = arith.constant 0.0 : f32
    linalg.fill ins(%zero : f32) outs(%y : memref<38xf32>)
    %odd = memref.subview %y[1] [19] [2] : memref<38xf32> to memref<19xf32, strided<[2], offset: 1>>
    %even = memref.subview %x[0, 0] [19, 1] [1, 1] : memref<19x2xf32> to memref<19xf32, strided<[2]>>
    linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
        ins(%even : memref<19xf32, strided<[2]>>) outs(%odd : memref<19xf32, strided<[2], offset: 1>>) {
    ^bb0(%a: f32, %out: f32):
      %r = arith.negf %a : f32
      linalg.yield %r : f32
    }
)"), 1, 40, &x);
  for (int64_t i = 0; i < 38; ++i)
    ASSERT_EQ(y[i], i % 2 ? -x[i - 1] : 0.0f);
  // Nothing behind the last element is touched.
  uint32_t behind[2];
  std::memcpy(behind, &y[38], sizeof behind);
  ASSERT_EQ(behind[0] & behind[1], 0xCCCCCCCCu);
}

// Two ops that write the even and the odd elements: one loop where whole vectors are written and the second reads
// nothing that the first wrote, else two.
std::string rotation(int64_t pairs) {
  std::string n = std::to_string(pairs), all = "memref<5x" + n + "x2xf32>";
  std::string row = "memref<5x" + n + "xf32, strided<[" + std::to_string(2 * pairs) + ", 2]";
  auto view = [&](const std::string &name, const std::string &of, int64_t offset) {
    return "%" + name + " = memref.subview %" + of + "[0, 0, " + std::to_string(offset) + "] [5, " + n +
           ", 1] [1, 1, 1] : " + all + " to " + row + (offset ? ", offset: 1>>\n" : ">>\n");
  };
  auto op = [&](const std::string &out, bool isOdd, const std::string &body) {
    std::string even = row + ">>", other = row + ", offset: 1>>", angles = "memref<" + n + "xf32>";
    return R"(linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>,
        affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
        ins(%even, %odd, %c : )" + even + ", " + other + ", " + angles + ") outs(%" + out + " : " +
           (isOdd ? other : even) + ") {\n^bb0(%a: f32, %b: f32, %w: f32, %out: f32):\n" + body + "}\n";
  };
  return oneUnit("%x = girih.buffer_at \"arena\"[%c0] : " + all + "\n%y = girih.buffer_at \"arena\"[%outAt] : " + all +
                 "\n%at = arith.constant 8192 : index\n%c = girih.buffer_at \"arena\"[%at] : memref<" + n + "xf32>\n" +
                 view("even", "x", 0) + view("odd", "x", 1) + view("evenOut", "y", 0) + view("oddOut", "y", 1) +
                 op("evenOut", false, "%p = arith.mulf %b, %w : f32\n%r = arith.subf %a, %p : f32\nlinalg.yield %r : f32\n") +
                 op("oddOut", true, "%p = arith.mulf %a, %w : f32\n%r = arith.addf %b, %p : f32\nlinalg.yield %r : f32\n"));
}

TEST(ElementwiseTest, RotatesNeighbours) {
  for (int64_t pairs : {16, 48, 19}) {
    std::vector<float> x;
    std::vector<float> y = run(rotation(pairs), 1, 10 * pairs, &x);
    for (int64_t i = 0; i < 5 * pairs; ++i) {
      float a = x[2 * i], b = x[2 * i + 1], w = x[2048 + i % pairs];
      float down = b * w, up = a * w;
      ASSERT_EQ(y[2 * i], a - down) << pairs << " pairs, " << i;
      ASSERT_EQ(y[2 * i + 1], b + up) << pairs << " pairs, " << i;
    }
  }
}

TEST(ElementwiseTest, KeepsTheOrderOfOpsThatReadEachOther) {
  std::vector<float> x;
  std::string text = rotation(16);
  // The second op reads as even elements what the first wrote.
  size_t second = text.rfind("ins(%even");
  std::vector<float> y = run(text.replace(second, 9, "ins(%evenOut"), 1, 160, &x);
  for (int64_t i = 0; i < 80; ++i) {
    float w = x[2048 + i % 16], down = x[2 * i + 1] * w, even = x[2 * i] - down, up = even * w;
    ASSERT_EQ(y[2 * i], even);
    ASSERT_EQ(y[2 * i + 1], x[2 * i + 1] + up);
  }
}

// Not one combiner: a scalar loop nest; and a contraction, whose reduction is the innermost dimension.
TEST(ElementwiseTest, ContractsInOrder) {
  std::vector<float> x;
  std::vector<float> y = run(oneUnit(R"(
    %a = girih.buffer_at "arena"[%c0] : memref<7x33xf32>
    %bAt = arith.constant 4096 : index
    %b = girih.buffer_at "arena"[%bAt] : memref<33x9xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<7x9xf32>
    %zero = arith.constant 0.0 : f32
    linalg.fill ins(%zero : f32) outs(%y : memref<7x9xf32>)
    linalg.matmul ins(%a, %b : memref<7x33xf32>, memref<33x9xf32>) outs(%y : memref<7x9xf32>)
    %zAt = arith.constant 65792 : index
    %z = girih.buffer_at "arena"[%zAt] : memref<7xf32>
    linalg.fill ins(%zero : f32) outs(%z : memref<7xf32>)
    linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]} ins(%a : memref<7x33xf32>) outs(%z : memref<7xf32>) {
    ^bb0(%in: f32, %acc: f32):
      %half = arith.mulf %acc, %in : f32
      %r = arith.addf %half, %in : f32
      linalg.yield %r : f32
    }
)"), 1, 64 + 7, &x);
  for (int64_t i = 0; i < 7; ++i) {
    for (int64_t j = 0; j < 9; ++j)
      ASSERT_EQ(y[i * 9 + j], lanesSum([&](int64_t k) { return x[i * 33 + k] * x[1024 + k * 9 + j]; }, 33));
    float chain = 0;
    for (int64_t k = 0; k < 33; ++k)
      chain = chain * x[i * 33 + k] + x[i * 33 + k];
    ASSERT_EQ(y[64 + i], chain);
  }
}

TEST(ElementwiseTest, ReducesOuterDimensionsThroughTheOutput) {
  std::vector<float> x;
  std::vector<float> y = run(oneUnit(R"(
    %x = girih.buffer_at "arena"[%c0] : memref<13x37xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<37xf32>
    %m = girih.buffer_at "arena"[%c0] : memref<37xf32>
    memref.copy %m, %y : memref<37xf32> to memref<37xf32>
    linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>],
        iterator_types = ["reduction", "parallel"]} ins(%x : memref<13x37xf32>) outs(%y : memref<37xf32>) {
    ^bb0(%in: f32, %acc: f32):
      %r = arith.maximumf %acc, %in : f32
      linalg.yield %r : f32
    }
)"), 1, 37, &x);
  for (int64_t j = 0; j < 37; ++j) {
    float expected = x[j];
    for (int64_t i = 0; i < 13; ++i)
      expected = std::max(expected, x[i * 37 + j]);
    ASSERT_EQ(y[j], expected);
  }
}

// A graph may compute any index; what lies outside of the table is not read.
TEST(GenericTest, LoadsStayWithinTheirTable) {
  std::vector<float> y = run(oneUnit(R"(
    %y = girih.buffer_at "arena"[%outAt] : memref<16xf32>
    %table = memref.get_global @table : memref<3x4xi64>
    linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} outs(%y : memref<16xf32>) {
    ^bb0(%out: f32):
      %i = linalg.index 0 : index
      %far = arith.constant 1000000007 : index
      %c5 = arith.constant 5 : index
      %from5 = arith.subi %i, %c5 : index
      %row = arith.muli %from5, %far : index
      %v = memref.load %table[%row, %i] : memref<3x4xi64>
      %f = arith.sitofp %v : i64 to f32
      linalg.yield %f : f32
    }
)"), 1, 16);
  for (int64_t i = 0; i < 16; ++i)
    EXPECT_EQ(y[i], float((i <= 5 ? 0 : 2) * 4 + std::min<int64_t>(i, 3) + 1)) << i;
}

// Tables in the image, loops over layers, nested and stepped foralls, all distributions, dynamic column extents. The
// arena begins as 0xCC: counters of dynamic dispatches are nobody's to clear but the step's own.
TEST(DistributeTest, CoversEveryUnitOnce) {
  for (const char *distribution : {R"("block")", R"("cyclic")", R"("dynamic", girih.queue = 8 : i64)"}) {
    std::vector<float> y = run(R"(
    %y = girih.buffer_at "arena"[%outAt] : memref<3x7x5xf32>
    %table = memref.get_global @table : memref<3x4xi64>
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %zero = arith.constant 0.0 : f32
    scf.forall (%unit) in (1) {
      linalg.fill ins(%zero : f32) outs(%y : memref<3x7x5xf32>)
    }
    scf.for %layer = %c0 to %c3 step %c1 {
      %v = memref.load %table[%layer, %c1] : memref<3x4xi64>
      %f = arith.sitofp %v : i64 to f32
      scf.forall (%i) = (0) to (7) step (2) {
        %n = affine.min affine_map<(d0) -> (2, 7 - d0)>(%i)
        scf.forall (%j) in (5) {
          %cell = memref.subview %y[%layer, %i, %j] [1, %n, 1] [1, 1, 1]
              : memref<3x7x5xf32> to memref<?xf32, strided<[5], offset: ?>>
          linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
              outs(%cell : memref<?xf32, strided<[5], offset: ?>>) {
          ^bb0(%out: f32):
            %r = arith.addf %out, %f : f32
            linalg.yield %r : f32
          }
        }
      } {girih.distribution = )" + std::string(distribution) + R"(}
    }
)", 1, 105);
    for (int64_t layer = 0; layer < 3; ++layer)
      for (int64_t i = 0; i < 35; ++i)
        ASSERT_EQ(y[layer * 35 + i], static_cast<float>(2 + 4 * layer)) << distribution;
  }
}

// A first dispatch that counts: nobody may take a unit before its owner has set the counter to zero. And one that every
// thread does by itself, into its own scratch.
TEST(DistributeTest, StartsWithADynamicDispatch) {
  std::vector<float> y = run(R"(
    %own = girih.buffer_at "scratch"[%c64] : memref<16xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<96x16xf32>
    %two = arith.constant 2.0 : f32
    scf.forall (%i) in (1) {
      linalg.fill ins(%two : f32) outs(%own : memref<16xf32>)
    } {girih.distribution = "every"}
    scf.forall (%i) in (96) {
      %row = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<96x16xf32> to memref<16xf32, strided<[1], offset: ?>>
      linalg.copy ins(%own : memref<16xf32>) outs(%row : memref<16xf32, strided<[1], offset: ?>>)
    } {girih.distribution = "dynamic", girih.queue = 0 : i64}
)", 1, 96 * 16);
  EXPECT_THAT(y, testing::Each(2.0f));
}

TEST(ImageTest, NamesAFunctionThatWouldBeCalled) {
  auto step = Step::compile(moduleOf(R"(
    %x = girih.buffer_at "arena"[%c0] : memref<16xf32>
    %v = memref.load %x[%c0] : memref<16xf32>
    %w = math.atan %v : f32
    memref.store %w, %x[%c0] : memref<16xf32>
)"), "avx2");
  ASSERT_FALSE(step.isOk());
  EXPECT_THAT(std::string(step.status().message()), testing::HasSubstr("atan"));
}

}  // namespace
}  // namespace girih::cpu::test
