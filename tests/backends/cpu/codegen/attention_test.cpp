// SPDX-License-Identifier: Apache-2.0
// kv_append and cached attention: against plain f64 loops with an error bound, and bit for bit equal across query
// tiles, thread counts, ISAs and whatever else is in the step.
#include "tests/backends/cpu/codegen/step_harness.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <llvm/ADT/STLExtras.h>
#include <random>

namespace girih::cpu::test {
namespace {

struct Case {
  int64_t heads, groups, keyDim, valueDim;
  bool isHalf;
  int64_t window;  // 0: none
  float softCap;   // 0: none
  int64_t chunk = 64;
  bool isByte = false;  // int8, whatever isHalf says

  std::string element() const { return isByte ? "i8" : isHalf ? "f16" : "f32"; }
};

void PrintTo(const Case &c, std::ostream *out) {
  *out << "H=" << c.heads << " G=" << c.groups << " D=" << c.keyDim << " Dv=" << c.valueDim
       << " " << c.element() << " window=" << c.window << " cap=" << c.softCap;
}

// One sequence of a step: `past` positions are in the cache from earlier steps, `now` tokens are new.
struct Chunk {
  int sequence;
  int64_t past, now;
};

constexpr int64_t kMaxPositions = 240;
constexpr int64_t kLong = 210;
const std::vector<Chunk> kJudged = {{2, 0, 18}, {1, 120, 33}, {0, kLong, 1}};
// No sequence decodes alone, and tiles of 5, 16 and 32 tokens never leave one over.
const std::vector<Chunk> kMany = {{2, 0, 18}, {1, 120, 34}};
constexpr int64_t kNumSequences = 3;
constexpr int64_t kBlocksEach = kMaxPositions / 16;
constexpr int64_t kLayerOffset = 128;  // the layer does not start at the block's start

// The q, k and v of each position of each sequence, fixed by a seed.
struct Contents {
  Case c;
  std::vector<float> q, k, v;

  explicit Contents(const Case &c) : c(c) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    q.resize(kNumSequences * kMaxPositions * c.heads * c.keyDim);
    k.resize(kNumSequences * kMaxPositions * c.groups * c.keyDim);
    v.resize(kNumSequences * kMaxPositions * c.groups * c.valueDim);
    for (std::vector<float> *values : {&q, &k, &v})
      for (float &value : *values)
        value = normal(random);
  }
  const float *qAt(int64_t s, int64_t p, int64_t h) const {
    return &q[((s * kMaxPositions + p) * c.heads + h) * c.keyDim];
  }
  const float *kAt(int64_t s, int64_t p, int64_t g) const {
    return &k[((s * kMaxPositions + p) * c.groups + g) * c.keyDim];
  }
  const float *vAt(int64_t s, int64_t p, int64_t g) const {
    return &v[((s * kMaxPositions + p) * c.groups + g) * c.valueDim];
  }
  // What the cache gives back of a key or value of `count` elements.
  std::vector<double> stored(const float *values, int64_t count) const {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i)
      largest = std::max(largest, std::abs(values[i]));
    std::vector<double> result;
    for (int64_t i = 0; i < count; ++i)
      result.push_back(c.isByte   ? double(std::nearbyint(values[i] / (largest / 127))) * (largest / 127)
                       : c.isHalf ? double(static_cast<_Float16>(values[i]))
                                  : values[i]);
    return result;
  }

  std::vector<double> reference(int64_t s, int64_t p, int64_t h) const {
    int64_t g = h / (c.heads / c.groups);
    int64_t first = c.window ? std::max<int64_t>(0, p - c.window + 1) : 0;
    std::vector<double> scores;
    double maximum = -INFINITY, total = 0;
    for (int64_t u = first; u <= p; ++u) {
      double score = 0;
      std::vector<double> key = stored(kAt(s, u, g), c.keyDim);
      for (int64_t d = 0; d < c.keyDim; ++d)
        score += double(qAt(s, p, h)[d]) * key[d];
      score *= 0.125f;
      if (c.softCap != 0)
        score = c.softCap * std::tanh(score / c.softCap);
      scores.push_back(score);
      maximum = std::max(maximum, score);
    }
    std::vector<double> out(c.valueDim);
    for (int64_t u = first; u <= p; ++u) {
      double weight = std::exp(scores[u - first] - maximum);
      total += weight;
      std::vector<double> value = stored(vAt(s, u, g), c.valueDim);
      for (int64_t d = 0; d < c.valueDim; ++d)
        out[d] += weight * value[d];
    }
    for (double &value : out)
      value /= total;
    return out;
  }
};

std::string replaced(std::string text, std::initializer_list<std::pair<std::string, std::string>> words) {
  for (const auto &[from, to] : words)
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  return text;
}

int64_t layerBytes(const Case &c) {
  int64_t elements = c.groups * 16 * (c.keyDim + c.valueDim);
  return c.isByte ? (elements + 63) / 64 * 64 + c.groups * 16 * 2 * 4 : elements * (c.isHalf ? 2 : 4);
}
int64_t blockBytes(const Case &c) { return kLayerOffset + layerBytes(c) + 64; }
constexpr int64_t kScratchBytes = 2 << 20;
constexpr int64_t kBufferBytes = 4 << 20;  // each of q, k, v, out

std::string moduleOf(const Case &c, int64_t queryTile) {
  std::string text = R"(
module attributes {girih.arena_bytes = 20971520 : i64, girih.scratch_bytes = 0 : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 4194304 : index
    %c2 = arith.constant 8388608 : index
    %c3 = arith.constant 12582912 : index
    %layer = arith.constant 128 : index
    %groups = arith.constant $G : index
    %t = girih.step_extent "num_tokens"
    %q = girih.buffer_at "arena"[%c0] rows %t : memref<?x$Hx$Kxf32>
    %k = girih.buffer_at "arena"[%c1] rows %t : memref<?x$Gx$Kxf32>
    %v = girih.buffer_at "arena"[%c2] rows %t : memref<?x$Gx$Vxf32>
    %out = girih.buffer_at "arena"[%c3] rows %t : memref<?x$Hx$Vxf32>
    %kv = girih.kv_at %layer {block_bytes = $BLOCK : i64} : !girih.kv<$G, $K, $V, $E>
    scf.forall (%i) in (%t) {
      %ki = memref.subview %k[%i, 0, 0] [1, $G, $K] [1, 1, 1]
          : memref<?x$Gx$Kxf32> to memref<1x$Gx$Kxf32, strided<[$GK, $K, 1], offset: ?>>
      %vi = memref.subview %v[%i, 0, 0] [1, $G, $V] [1, 1, 1]
          : memref<?x$Gx$Vxf32> to memref<1x$Gx$Vxf32, strided<[$GV, $V, 1], offset: ?>>
      %next = girih.kv_append %ki, %vi into %kv[%i] : memref<1x$Gx$Kxf32, strided<[$GK, $K, 1], offset: ?>>,
          memref<1x$Gx$Vxf32, strided<[$GV, $V, 1], offset: ?>>, !girih.kv<$G, $K, $V, $E>
    }
    scf.forall (%first, %g) = (0, 0) to (%t, %groups) step ($UNIT, 1) {
      %n = affine.min affine_map<(d0, d1) -> ($UNIT, d1 - d0)>(%first, %t)
      %head = affine.apply affine_map<(d0) -> (d0 * $R)>(%g)
      %qi = memref.subview %q[%first, %head, 0] [%n, $R, $K] [1, 1, 1]
          : memref<?x$Hx$Kxf32> to memref<?x$Rx$Kxf32, strided<[$HK, $K, 1], offset: ?>>
      %oi = memref.subview %out[%first, %head, 0] [%n, $R, $V] [1, 1, 1]
          : memref<?x$Hx$Vxf32> to memref<?x$Rx$Vxf32, strided<[$HV, $V, 1], offset: ?>>
      girih.attention ins(%qi : memref<?x$Rx$Kxf32, strided<[$HK, $K, 1], offset: ?>>)
          cache(%kv[%first, %g] : !girih.kv<$G, $K, $V, $E>)
          outs(%oi : memref<?x$Rx$Vxf32, strided<[$HV, $V, 1], offset: ?>>)
          {scale = 0.125 : f32, query_tile = $TILE : i64, chunk = $CHUNK : i64 $OPTIONS}
    } {girih.distribution = "cyclic"}
    return
  }
})";
  auto n = [](int64_t value) { return std::to_string(value); };
  std::string options;
  if (c.window)
    options += ", window = " + n(c.window) + " : i64";
  if (c.softCap != 0)
    options += ", soft_cap = " + std::to_string(c.softCap) + " : f32";
  return replaced(text, {{"$BLOCK", n(blockBytes(c))}, {"$UNIT", n(queryTile * 2)}, {"$TILE", n(queryTile)}, {"$CHUNK", n(c.chunk)},
                         {"$OPTIONS", options}, {"$GK", n(c.groups * c.keyDim)}, {"$GV", n(c.groups * c.valueDim)},
                         {"$HK", n(c.heads * c.keyDim)}, {"$HV", n(c.heads * c.valueDim)},
                         {"$R", n(c.heads / c.groups)}, {"$H", n(c.heads)}, {"$G", n(c.groups)}, {"$K", n(c.keyDim)},
                         {"$V", n(c.valueDim)}, {"$E", c.element()}});
}

// The same, each chunk of the cache a unit of work.
std::string partsOf(std::string text, const Case &c) {
  auto n = [](int64_t value) { return std::to_string(value); };
  size_t begin = text.find("    scf.forall (%first, %g)"), end = text.find("    return");
  std::string units = R"(
    %c4 = arith.constant 16777216 : index
    %parts = girih.buffer_at "arena"[%c4] rows %t : memref<?x$Hx$Cx$Pxf32>
    %longest = girih.step_extent "longest_context"
    %chunks = affine.apply affine_map<(d0) -> (d0 ceildiv $CHUNK)>(%longest)
    scf.forall (%i, %g, %c) in (%t, %groups, %chunks) {
      %head = affine.apply affine_map<(d0) -> (d0 * $R)>(%g)
      %qi = memref.subview %q[%i, %head, 0] [1, $R, $K] [1, 1, 1]
          : memref<?x$Hx$Kxf32> to memref<1x$Rx$Kxf32, strided<[$HK, $K, 1], offset: ?>>
      %pi = memref.subview %parts[%i, %head, %c, 0] [1, $R, 1, $P] [1, 1, 1, 1]
          : memref<?x$Hx$Cx$Pxf32> to memref<1x$Rx1x$Pxf32, strided<[$HCP, $CP, $P, 1], offset: ?>>
      girih.attention_parts ins(%qi : memref<1x$Rx$Kxf32, strided<[$HK, $K, 1], offset: ?>>)
          cache(%kv[%i, %g, %c] : !girih.kv<$G, $K, $V, $E>)
          outs(%pi : memref<1x$Rx1x$Pxf32, strided<[$HCP, $CP, $P, 1], offset: ?>>)
          {scale = 0.125 : f32, chunk = $CHUNK : i64 $OPTIONS}
    }
    scf.forall (%unit) in (1) {
      girih.join_parts ins(%parts : memref<?x$Hx$Cx$Pxf32>) outs(%out : memref<?x$Hx$Vxf32>)
          {chunk = $CHUNK : i64 $WINDOW}
    }
)";
  int64_t chunks = (kMaxPositions + c.chunk - 1) / c.chunk, width = 32 + (c.valueDim + 15) / 16 * 16;
  std::string window = c.window ? ", window = " + n(c.window) + " : i64" : "";
  std::string options = window + (c.softCap != 0 ? ", soft_cap = " + std::to_string(c.softCap) + " : f32" : "");
  return text.substr(0, begin) +
         replaced(units, {{"$CHUNK", n(c.chunk)}, {"$OPTIONS", options}, {"$WINDOW", window},
                          {"$HCP", n(c.heads * chunks * width)}, {"$CP", n(chunks * width)}, {"$HK", n(c.heads * c.keyDim)},
                          {"$R", n(c.heads / c.groups)}, {"$H", n(c.heads)}, {"$G", n(c.groups)}, {"$K", n(c.keyDim)},
                          {"$V", n(c.valueDim)}, {"$E", c.element()}, {"$C", n(chunks)}, {"$P", n(width)}}) +
         text.substr(end);
}

// Runs one step of the chunks over `data`'s cache; returns out [T, H, Dv].
std::vector<float> runStep(const Step &step, StepData &data, const Contents &contents, std::vector<Chunk> chunks,
                           int numThreads) {
  const Case &c = contents.c;
  data.arena.assign(5 * kBufferBytes + numThreads * kScratchBytes, 0xCC);
  data.positions.clear();
  data.tokenSequences.clear();
  data.kvSlots.clear();
  data.sequenceStarts.clear();
  data.contextLengths.clear();
  data.blockTables.clear();
  data.blockTableStride = kBlocksEach;
  int64_t token = 0;
  for (size_t row = 0; row < chunks.size(); ++row) {
    const Chunk &chunk = chunks[row];
    data.sequenceStarts.push_back(static_cast<int32_t>(token));
    data.contextLengths.push_back(static_cast<int32_t>(chunk.past + chunk.now));
    // Block ids are scattered: sequence s has blocks s, s + 3, s + 6, ...
    for (int64_t block = 0; block < kBlocksEach; ++block)
      data.blockTables.push_back(static_cast<int32_t>(chunk.sequence + block * kNumSequences));
    for (int64_t i = 0; i < chunk.now; ++i, ++token) {
      int64_t position = chunk.past + i;
      data.positions.push_back(static_cast<int32_t>(position));
      data.tokenSequences.push_back(static_cast<int32_t>(row));
      data.kvSlots.push_back(
          static_cast<int32_t>((chunk.sequence + position / 16 * kNumSequences) * 16 + position % 16));
      std::memcpy(data.arenaAt(0) + token * c.heads * c.keyDim, contents.qAt(chunk.sequence, position, 0),
                  c.heads * c.keyDim * 4);
      std::memcpy(data.arenaAt(kBufferBytes) + token * c.groups * c.keyDim, contents.kAt(chunk.sequence, position, 0),
                  c.groups * c.keyDim * 4);
      std::memcpy(data.arenaAt(2 * kBufferBytes) + token * c.groups * c.valueDim,
                  contents.vAt(chunk.sequence, position, 0), c.groups * c.valueDim * 4);
    }
  }
  data.sequenceStarts.push_back(static_cast<int32_t>(token));
  data.numTokens = token;
  data.numSequences = static_cast<int64_t>(chunks.size());
  step.run(data, numThreads);
  const float *out = data.arenaAt(3 * kBufferBytes);
  return std::vector<float>(out, out + token * c.heads * c.valueDim);
}

StepData emptyCache(const Case &c) {
  StepData data;
  // Slots that nobody wrote hold NaN in either type: a kernel that lets one through is seen.
  data.kvPool.assign(kNumSequences * kBlocksEach * blockBytes(c), 0xFF);
  return data;
}

class AttentionTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionTest, MatchesPlainLoopsWhateverTheTiles) {
  const Case &c = GetParam();
  Contents contents(c);
  std::vector<float> expected;  // of the first variant: all others must have its bits
  for (const std::string &isa : runnableIsas()) {
    for (int64_t queryTile : {0, 1, 4, 7}) {  // 0: in parts
      SCOPED_TRACE(isa + " query_tile " + std::to_string(queryTile));
      std::string text = moduleOf(c, std::max<int64_t>(1, queryTile));
      auto step = Step::compile(queryTile == 0 ? partsOf(text, c) : text, isa);
      ASSERT_TRUE(step.isOk()) << step.status().message();
      for (int numThreads : {1, 2}) {
        StepData data = emptyCache(c);
        runStep(**step, data, contents, {{0, 0, kLong}, {1, 0, 120}}, numThreads);
        // Sequence 2 starts, 1 goes on over the border of two chunks, 0 decodes one token.
        std::vector<float> out = runStep(**step, data, contents, kJudged, numThreads);
        if (expected.empty())
          expected = out;
        EXPECT_EQ(std::memcmp(expected.data(), out.data(), out.size() * 4), 0) << "differs from the first variant";
      }
      // One token at a time, each sequence alone.
      StepData data = emptyCache(c);
      std::vector<float> alone;
      for (int64_t p = 0; p < 18; ++p) {
        std::vector<float> row = runStep(**step, data, contents, {{2, p, 1}}, 1);
        alone.insert(alone.end(), row.begin(), row.end());
      }
      EXPECT_EQ(std::memcmp(expected.data(), alone.data(), alone.size() * 4), 0) << "decode differs from prefill";
    }
  }
  int64_t token = 0;
  for (const Chunk &chunk : kJudged) {
    for (int64_t i = 0; i < chunk.now; ++i, ++token) {
      for (int64_t h = 0; h < c.heads; ++h) {
        std::vector<double> reference = contents.reference(chunk.sequence, chunk.past + i, h);
        for (int64_t d = 0; d < c.valueDim; ++d) {
          // |out| <= max |v| < 6; scores err by (D + 4) roundings of terms up to |q||k|, weights by that relatively.
          // A quotient beside a half may get the next code: a step of it is 1/127 of the largest.
          double bound = 6 * (c.keyDim + 60) * 6e-8 * 4 + (c.isByte ? 4e-3 : 0);
          ASSERT_NEAR(expected[(token * c.heads + h) * c.valueDim + d], reference[d], bound)
              << "token " << token << " head " << h << " d " << d;
        }
      }
    }
  }
}

// The same append by tiles of 16 tokens, which fill a block of the cache, a part of two, or none.
std::string inTiles(std::string text) {
  return replaced(text, {{"scf.forall (%i) in (%t) {",
                          "scf.forall (%i) = (0) to (%t) step (16) {\n      %some = affine.min affine_map<(d0, d1) -> (16, d1 - d0)>(%i, %t)"},
                         {"[%i, 0, 0] [1, ", "[%i, 0, 0] [%some, "}, {"memref<1x", "memref<?x"}});
}

TEST_P(AttentionTest, AppendsTilesAsItAppendsTokens) {
  const Case &c = GetParam();
  Contents contents(c);
  for (const std::string &isa : runnableIsas()) {
    std::vector<uint8_t> expected;
    for (bool isTiled : {false, true}) {
      std::string text = moduleOf(c, 1);
      auto step = Step::compile(isTiled ? inTiles(text) : text, isa);
      ASSERT_TRUE(step.isOk()) << step.status().message();
      StepData data = emptyCache(c);
      runStep(**step, data, contents, {{0, 0, 40}, {1, 0, 8}}, 2);  // whole blocks, a rest, another sequence
      runStep(**step, data, contents, {{0, 40, 50}, {2, 0, 20}}, 1);  // not from a block's start
      std::vector<uint8_t> pool(data.kvPool.begin(), data.kvPool.end());
      if (!isTiled)
        expected = pool;
      EXPECT_EQ(pool, expected) << isa;
    }
  }
}

// What operands are rounded to, and the ISA whose unit then multiplies them.
struct Rounding {
  const char *element, *isa;
};

std::string roundedModule(const Case &c, int64_t queryTile, const Rounding &rounding) {
  return replaced(moduleOf(c, queryTile),
                  {{"scale = 0.125 : f32", std::string("operand_type = ") + rounding.element + ", scale = 0.125 : f32"},
                   {"scratch_bytes = 0", "scratch_bytes = " + std::to_string(kScratchBytes)}});
}

void expectNear(const Case &c, const Contents &contents, const std::vector<float> &out, double bound) {
  int64_t token = 0;
  for (const Chunk &chunk : kMany)
    for (int64_t i = 0; i < chunk.now; ++i, ++token)
      for (int64_t h = 0; h < c.heads; ++h) {
        std::vector<double> reference = contents.reference(chunk.sequence, chunk.past + i, h);
        for (int64_t d = 0; d < c.valueDim; ++d)
          ASSERT_NEAR(out[(token * c.heads + h) * c.valueDim + d], reference[d], bound)
              << "token " << token << " head " << h << " d " << d;
      }
}

// On a matrix unit: operands have 8 bits, so the result is near, and still the same whatever shares the step.
TEST_P(AttentionTest, MatrixUnitIsNear) {
  const Case &c = GetParam();
  if (!llvm::is_contained(runnableIsas(), "amx"))
    GTEST_SKIP() << "this machine has no matrix unit";
  Contents contents(c);
  std::vector<float> expected;
  for (int64_t queryTile : {5, 16, 32}) {
    SCOPED_TRACE("query_tile " + std::to_string(queryTile));
    auto step = Step::compile(roundedModule(c, queryTile, {"bf16", "amx"}), "amx");
    ASSERT_TRUE(step.isOk()) << step.status().message();
    for (int numThreads : {1, 2}) {
      StepData data = emptyCache(c);
      runStep(**step, data, contents, {{0, 0, kLong}, {1, 0, 120}}, numThreads);
      std::vector<float> out = runStep(**step, data, contents, kMany, numThreads);
      if (expected.empty())
        expected = out;
      EXPECT_EQ(std::memcmp(expected.data(), out.data(), out.size() * 4), 0) << "differs from the first variant";
    }
  }
  // Scores err by 2^-8 of |q||k| / 8 each at most, in practice by its root; weights by that relatively.
  expectNear(c, contents, expected, 0.02 + 0.006 * std::sqrt(double(c.keyDim)));
}

// Dots of 16-bit integers: weights err by 0.6 %, values by 1/2046 of the largest, scores by 2^-12 of |q||k| / 8.
TEST_P(AttentionTest, DotsAreNear) {
  const Case &c = GetParam();
  if (!llvm::is_contained(runnableIsas(), "avx512"))
    GTEST_SKIP() << "this machine has no dots of 16-bit integers";
  Contents contents(c);
  for (int64_t queryTile : {5, 16, 32}) {
    SCOPED_TRACE("query_tile " + std::to_string(queryTile));
    auto step = Step::compile(roundedModule(c, queryTile, {"i16", "avx512"}), "avx512");
    ASSERT_TRUE(step.isOk()) << step.status().message();
    std::vector<float> expected;
    for (int numThreads : {1, 2}) {
      StepData data = emptyCache(c);
      runStep(**step, data, contents, {{0, 0, kLong}, {1, 0, 120}}, numThreads);
      std::vector<float> out = runStep(**step, data, contents, kMany, numThreads);
      if (expected.empty())
        expected = out;
      EXPECT_EQ(std::memcmp(expected.data(), out.data(), out.size() * 4), 0) << "differs with two threads";
    }
    expectNear(c, contents, expected, 0.02);
  }
}

// Results that the kernel rounds are those of f32, rounded once.
TEST_P(AttentionTest, MatrixUnitRoundsItsResults) {
  const Case &c = GetParam();
  if (!llvm::is_contained(runnableIsas(), "amx"))
    GTEST_SKIP() << "this machine has no matrix unit";
  Contents contents(c);
  std::string text = roundedModule(c, 16, {"bf16", "amx"});
  auto n = [](int64_t value) { return std::to_string(value); };
  std::string of = n(c.heads / c.groups) + "x" + n(c.valueDim), whole = n(c.heads) + "x" + n(c.valueDim);
  std::string view = "%out[%first, %head, 0] [%n, " + n(c.heads / c.groups) + ", " + n(c.valueDim) +
                     "] [1, 1, 1]\n          : memref<?x" + whole;
  std::string half = replaced(text, {{"[%c3] rows %t : memref<?x" + whole + "xf32", "[%c3] rows %t : memref<?x" + whole + "xbf16"},
                                     {view + "xf32> to memref<?x" + of + "xf32", view + "xbf16> to memref<?x" + of + "xbf16"},
                                     {"outs(%oi : memref<?x" + of + "xf32", "outs(%oi : memref<?x" + of + "xbf16"}});
  std::vector<std::vector<float>> outs;
  for (const std::string &module : {text, half}) {
    auto step = Step::compile(module, "amx");
    ASSERT_TRUE(step.isOk()) << step.status().message();
    StepData data = emptyCache(c);
    runStep(**step, data, contents, {{0, 0, kLong}, {1, 0, 120}}, 1);
    outs.push_back(runStep(**step, data, contents, kMany, 1));
  }
  const auto *rounded = reinterpret_cast<const uint16_t *>(outs[1].data());
  for (size_t i = 0; i < outs[0].size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &outs[0][i], 4);
    ASSERT_EQ(rounded[i], (bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << i;
  }
}

// Scores that rise or fall by a nat a position, 200 nats from 0: references of a row move, and weights stay in range.
TEST(RoundedAttentionTest, ReferencesFollowScores) {
  Case c{4, 2, 32, 32, true, 0, 0};
  for (const Rounding &rounding : {Rounding{"bf16", "amx"}, Rounding{"i16", "avx512"}})
    for (float slope : {1.0f, -1.0f}) {
      if (!llvm::is_contained(runnableIsas(), rounding.isa))
        continue;
      SCOPED_TRACE(std::string(rounding.isa) + " slope " + std::to_string(slope));
      Contents contents(c);
      for (size_t i = 0; i < contents.q.size(); ++i)
        contents.q[i] = i % c.keyDim == 0 ? 1 : 0;
      for (size_t i = 0; i < contents.k.size(); ++i) {
        auto position = static_cast<float>(i / (c.groups * c.keyDim) % kMaxPositions);
        contents.k[i] = i % c.keyDim != 0 ? 0 : 8 * (slope * position - (slope < 0 ? 200 : 0));
      }
      auto step = Step::compile(roundedModule(c, 16, rounding), rounding.isa);
      ASSERT_TRUE(step.isOk()) << step.status().message();
      StepData data = emptyCache(c);
      runStep(**step, data, contents, {{1, 0, 120}}, 1);
      expectNear(c, contents, runStep(**step, data, contents, kMany, 2), 0.05);
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         testing::Values(Case{9, 3, 64, 64, true, 0, 0}, Case{9, 3, 64, 64, false, 0, 0},
                                         Case{4, 4, 8, 8, false, 0, 0}, Case{8, 1, 40, 24, false, 0, 0},
                                         Case{2, 1, 256, 256, true, 0, 0, 192}, Case{4, 2, 33, 17, true, 0, 0},
                                         Case{4, 2, 32, 32, true, 7, 0}, Case{4, 2, 32, 32, false, 70, 0}, Case{8, 1, 16, 16, true, 100, 0, 128},
                                         Case{4, 2, 32, 32, false, 16, 5.0f}, Case{4, 2, 32, 32, true, 0, 2.0f},
                                         Case{9, 3, 64, 64, false, 0, 0, 128, true}, Case{2, 1, 256, 256, false, 0, 0, 192, true},
                                         Case{4, 2, 33, 17, false, 50, 0, 64, true}, Case{8, 1, 16, 16, false, 0, 3.0f, 64, true}));

// The stateless form: token t at position t, keys and values from the step itself.
TEST(StatelessAttentionTest, MatchesPlainLoops) {
  for (const Case &c : {Case{6, 3, 20, 12, false, 0, 0}, Case{4, 4, 16, 16, false, 3, 2.0f}}) {
    Contents contents(c);
    std::string options = c.window ? ", window = 3 : i64, soft_cap = 2.0 : f32" : "";
    auto n = [](int64_t value) { return std::to_string(value); };
    std::string text = replaced(R"(
module attributes {girih.arena_bytes = 20971520 : i64, girih.scratch_bytes = 0 : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 4194304 : index
    %c2 = arith.constant 8388608 : index
    %c3 = arith.constant 12582912 : index
    %t = girih.step_extent "num_tokens"
    %q = girih.buffer_at "arena"[%c0] rows %t : memref<?x$Hx$Kxf32>
    %k = girih.buffer_at "arena"[%c1] rows %t : memref<?x$Gx$Kxf32>
    %v = girih.buffer_at "arena"[%c2] rows %t : memref<?x$Gx$Vxf32>
    %out = girih.buffer_at "arena"[%c3] rows %t : memref<?x$Hx$Vxf32>
    scf.forall (%unit) in (1) {
      girih.attention ins(%q : memref<?x$Hx$Kxf32>) keys(%k, %v : memref<?x$Gx$Kxf32>, memref<?x$Gx$Vxf32>)
          outs(%out : memref<?x$Hx$Vxf32>) {scale = 0.125 : f32 $OPTIONS}
    }
    return
  }
})", {{"$OPTIONS", options}, {"$H", n(c.heads)}, {"$G", n(c.groups)}, {"$K", n(c.keyDim)}, {"$V", n(c.valueDim)}});
    auto step = Step::compile(text, "avx2");
    ASSERT_TRUE(step.isOk()) << step.status().message();
    StepData data;
    std::vector<float> out = runStep(**step, data, contents, {{0, 0, 9}}, 2);
    for (int64_t p = 0; p < 9; ++p)
      for (int64_t h = 0; h < c.heads; ++h) {
        std::vector<double> reference = contents.reference(0, p, h);
        for (int64_t d = 0; d < c.valueDim; ++d)
          ASSERT_NEAR(out[(p * c.heads + h) * c.valueDim + d], reference[d], 6 * (c.keyDim + 60) * 6e-8 * 4);
      }
  }
}

}  // namespace
}  // namespace girih::cpu::test
