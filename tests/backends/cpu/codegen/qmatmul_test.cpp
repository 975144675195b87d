// SPDX-License-Identifier: Apache-2.0
// Microkernels of qmatmul and gather_rows against one plain chain of fmaf per element: equal bit for bit, for every
// layout, tile, ISA, odd extent and thread count.
#include "tests/backends/cpu/codegen/step_harness.h"

#include "runtime/weights/packed_layout.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <random>

namespace girih::cpu::test {
namespace {

using weights::CodeType;
using weights::PackedLayout;
using weights::ScaleType;

struct Case {
  const char *layout;
  int64_t rows, columns, depth;
  const char *strategy;
  int64_t rowTile, columnTile, kTile;
  int64_t unitColumns;  // columns of one forall unit
};

void PrintTo(const Case &c, std::ostream *out) {
  *out << c.layout << " T=" << c.rows << " N=" << c.columns << " K=" << c.depth << " " << c.strategy << " MR="
       << c.rowTile << " NC=" << c.columnTile << " KC=" << c.kTile << " unit=" << c.unitColumns;
}

uint16_t halfBits(float value) {
  _Float16 half = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

template <typename T> T readAt(const Bytes &bytes, int64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

float readScale(const Bytes &bytes, int64_t offset, ScaleType type) {
  if (type == ScaleType::F32)
    return readAt<float>(bytes, offset);
  return static_cast<float>(readAt<_Float16>(bytes, offset));
}

// A weight of random codes, its padding zero as the packer leaves it.
struct PackedWeight {
  PackedLayout layout;
  int64_t columns, depth;
  Bytes bytes;

  PackedWeight(const char *descriptor, int64_t columns, int64_t depth, unsigned seed)
      : layout(PackedLayout::parse(descriptor).value()), columns(columns), depth(depth) {
    bytes.assign(layout.tensorBytes(columns, depth).value(), 0);
    std::mt19937 random(seed);
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t k = 0; k < depth; ++k)
        fill(n, k, random);
  }

  int64_t blockAt(int64_t n, int64_t k) const {
    return n / 16 * layout.panelBytes(depth) + k / 32 * layout.blockBytes();
  }

  void fill(int64_t n, int64_t k, std::mt19937 &random) {
    std::normal_distribution<float> normal;
    int64_t block = blockAt(n, k), code = block + layout.codeOffsetBytes(n % 16, k % 32);
    float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint16_t half = layout.codes == CodeType::BF16 ? static_cast<uint16_t>(bits >> 16) : halfBits(value);
    if (layout.codes == CodeType::F32)
      std::memcpy(&bytes[code], &bits, 4);
    else if (layout.hasFloatCodes())
      std::memcpy(&bytes[code], &half, 2);
    else if (layout.codes == CodeType::U4)
      bytes[code] |= static_cast<uint8_t>((random() & 15) << layout.codeShift(k % 32));
    else
      bytes[code] = static_cast<uint8_t>(random());
    if (layout.scales != ScaleType::None)
      fillScale(block + layout.scaleOffsetBytes(n % 16, k % 32), layout.scales, 0.01f * normal(random));
    if (layout.mins != ScaleType::None)
      fillScale(block + layout.minOffsetBytes(n % 16, k % 32), layout.mins, 0.1f * normal(random));
  }

  // f32 scales keep few bits, as those of K-quants do: every product with a code is exact.
  void fillScale(int64_t offset, ScaleType type, float value) {
    uint16_t half = halfBits(value);
    float rounded = static_cast<float>(static_cast<_Float16>(value));
    if (type == ScaleType::F16)
      std::memcpy(&bytes[offset], &half, 2);
    else
      std::memcpy(&bytes[offset], &rounded, 4);
  }

  float at(int64_t n, int64_t k) const {
    int64_t block = blockAt(n, k), code = block + layout.codeOffsetBytes(n % 16, k % 32);
    if (layout.codes == CodeType::F32)
      return readAt<float>(bytes, code);
    if (layout.codes == CodeType::F16)
      return static_cast<float>(readAt<_Float16>(bytes, code));
    if (layout.codes == CodeType::BF16) {
      uint32_t bits = uint32_t{readAt<uint16_t>(bytes, code)} << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }
    int value = layout.codes == CodeType::S8 ? readAt<int8_t>(bytes, code) : bytes[code];
    if (layout.codes == CodeType::U4)
      value = (value >> layout.codeShift(k % 32)) & 15;
    float scale = readScale(bytes, block + layout.scaleOffsetBytes(n % 16, k % 32), layout.scales);
    float product = scale * static_cast<float>(value - layout.codeOffset);
    if (layout.mins == ScaleType::None)
      return product;
    return product + readScale(bytes, block + layout.minOffsetBytes(n % 16, k % 32), layout.mins);
  }
};

std::string replaced(std::string text, std::initializer_list<std::pair<std::string, std::string>> words) {
  for (const auto &[from, to] : words)
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  return text;
}

int64_t bytesOfX(const Case &c) { return (c.rows * c.depth * 4 + 63) / 64 * 64; }
int64_t bytesOfY(const Case &c) { return (c.rows * c.columns * 4 + 63) / 64 * 64; }

std::string moduleOf(const Case &c) {
  std::string text = R"(
module attributes {girih.arena_bytes = $ARENA : i64, girih.scratch_bytes = $SCRATCH : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %yAt = arith.constant $YAT : index
    %units = arith.constant $UNITS : index
    %t = girih.step_extent "num_tokens"
    %x = girih.buffer_at "arena"[%c0] rows %t : memref<?x$Kxf32>
    %y = girih.buffer_at "arena"[%yAt] rows %t : memref<?x$Nxf32>
    %w = girih.packed_at %c0 : !girih.packed<$N x $K, "$LAYOUT">
    scf.forall (%i) in (%units) {
      %column = affine.apply affine_map<(d0) -> (d0 * $UNIT)>(%i)
      %out = memref.subview %y[0, %column] [%t, $UNIT] [1, 1]
          : memref<?x$Nxf32> to memref<?x$UNITxf32, strided<[$N, 1], offset: ?>>
      girih.qmatmul ins(%x, %w[%column] : memref<?x$Kxf32>, !girih.packed<$N x $K, "$LAYOUT">)
          outs(%out : memref<?x$UNITxf32, strided<[$N, 1], offset: ?>>)
          {strategy = "$STRATEGY", row_tile = $MR : i64, column_tile = $NC : i64, k_tile = $KC : i64}
    } {girih.dispatch = "project", girih.distribution = "block"}
    return
  }
})";
  auto number = [](int64_t value) { return std::to_string(value); };
  int64_t scratch = (c.kTile * c.columnTile * 4 + 63) / 64 * 64 + 64;
  return replaced(text, {{"$ARENA", number(bytesOfX(c) + bytesOfY(c))}, {"$SCRATCH", number(scratch)},
                         {"$YAT", number(bytesOfX(c))}, {"$UNITS", number(c.columns / c.unitColumns)},
                         {"$UNIT", number(c.unitColumns)}, {"$LAYOUT", c.layout}, {"$STRATEGY", c.strategy},
                         {"$MR", number(c.rowTile)}, {"$NC", number(c.columnTile)}, {"$KC", number(c.kTile)},
                         {"$K", number(c.depth)}, {"$N", number(c.columns)}});
}

class QMatmulTest : public testing::TestWithParam<Case> {};

TEST_P(QMatmulTest, EqualsTheChainBitForBit) {
  const Case &c = GetParam();
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
    if (isa == "avx2" && c.rowTile * c.columnTile / 16 + c.columnTile / 16 + 1 > 8)
      continue;
    SCOPED_TRACE(isa);
    auto step = Step::compile(moduleOf(c), isa);
    ASSERT_TRUE(step.isOk()) << step.status().message();
    for (int numThreads : {1, 2}) {
      StepData data;
      data.numTokens = c.rows;
      data.weights = weight.bytes;
      data.arena.assign(bytesOfX(c) + bytesOfY(c) + 4 * (c.kTile * c.columnTile * 4 + 128), 0xCC);
      std::memcpy(data.arena.data(), x.data(), x.size() * 4);
      (*step)->run(data, numThreads);
      const float *y = data.arenaAt(bytesOfX(c));
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
  std::vector<Case> cases;
  for (const char *layout : {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u4,f32,f32,32",
                             "p16:u8,f16,f16,32", "p16:u8,f32,f32,32", "p16:s8,f32,none,16", "p16:u8,f32,f32,16",
                             "p16:s8,f32,none,32", "p16:f16,none,none,32", "p16:bf16,none,none,32",
                             "p16:f32,none,none,32"}) {
    cases.push_back({layout, 3, 64, 96, "direct", 2, 32, 32, 32});
    cases.push_back({layout, 5, 64, 96, "panel", 2, 32, 64, 64});
  }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Extents, QMatmulTest, testing::ValuesIn([] {
  std::vector<Case> cases;
  for (int64_t rows : {1, 7, 17})
    for (int64_t columns : {1, 31, 80})
      for (int64_t depth : {33, 96}) {
        cases.push_back({kQ41, rows, columns, depth, "direct", 4, 16, 32, columns});
        cases.push_back({kQ41, rows, columns, depth, "panel", 2, 32, 64, columns});
      }
  return cases;
}()));

INSTANTIATE_TEST_SUITE_P(Tiles, QMatmulTest,
                         testing::Values(Case{kQ41, 19, 192, 288, "panel", 8, 48, 128, 96},
                                         Case{kQ41, 19, 192, 288, "panel", 6, 64, 96, 192},
                                         Case{kQ41, 19, 192, 288, "panel", 14, 32, 288, 64},
                                         Case{kQ41, 9, 192, 288, "direct", 8, 48, 32, 48},
                                         Case{kQ41, 9, 192, 288, "direct", 1, 64, 32, 64},
                                         Case{kQ41, 9, 192, 288, "direct", 6, 16, 32, 16}));

}  // namespace
}  // namespace girih::cpu::test
