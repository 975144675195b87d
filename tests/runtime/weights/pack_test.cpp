// SPDX-License-Identifier: Apache-2.0
// Packing loses nothing: every weight of every format reads back bit for bit, wherever its row was sent.
#include "runtime/weights/pack.h"

#include "tests/runtime/weights/block_samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

namespace girih::weights {
namespace {

using testing::HasSubstr;

// A weight of sample blocks, with its values as the dequantizer has them.
struct Weight {
  std::vector<uint8_t> bytes;
  std::vector<float> values;
  RowMatrix matrix;

  Weight(StorageFormat format, int64_t numRows, int64_t depth, uint64_t seed) {
    const FormatRow &row = formatRow(format);
    int64_t numElements = numRows * depth, perSample = sampleElements(row);
    bytes = sampleBlocks(row, seed, (numElements + perSample - 1) / perSample);
    values.resize(static_cast<size_t>(numElements));
    dequantize(format, bytes.data(), numElements, values.data());
    matrix = {format, numRows, depth, bytes.data()};
  }
  float at(int64_t rowIndex, int64_t k) const { return values[static_cast<size_t>(rowIndex * matrix.depth + k)]; }
};

bool isSame(float left, float right) {
  return std::bit_cast<uint32_t>(left) == std::bit_cast<uint32_t>(right) || (std::isnan(left) && std::isnan(right));
}

std::vector<uint8_t> packAll(const PackPlan &plan) {
  std::vector<uint8_t> packed(static_cast<size_t>(plan.totalBytes()), 0xAA);  // so that unwritten bytes show
  plan.pack(packed.data());
  return packed;
}

// Weights that differ after packing; `rowOf` says which row each column must hold.
template <typename RowOf> int64_t countDifferences(const PackPlan &plan, RowOf rowOf) {
  std::vector<uint8_t> packed = packAll(plan);
  int64_t numDifferences = 0;
  for (int64_t column = 0; column < plan.numColumns(); ++column) {
    auto [weight, row] = rowOf(column);
    for (int64_t k = 0; k < plan.depth(); ++k)
      numDifferences += !isSame(unpackValue(plan.layout(), packed.data(), plan.depth(), column, k), weight->at(row, k));
  }
  return numDifferences;
}

class PackEveryFormat : public testing::TestWithParam<FormatRow> {};

TEST_P(PackEveryFormat, LosesNothing) {
  // More than 10,000 blocks of 256. 43 columns: the last panel is partial. K is not a multiple of the packer's chunk.
  Weight weight(GetParam().format, 43, 256 * 239, 7);
  auto plan = PackPlan::create(GetParam().packed, weight.matrix);
  ASSERT_TRUE(plan.isOk()) << plan.status().message();
  EXPECT_EQ(countDifferences(*plan, [&](int64_t column) { return std::pair(&weight, column); }), 0);
}

TEST_P(PackEveryFormat, LosesNothingAsF32CodesOrDense) {
  Weight weight(GetParam().format, 5, 256 * 5, 8);
  for (std::string_view layout : {"p16:f32,none,none,32", "dense:f32"}) {
    auto plan = PackPlan::create(PackedLayout::parse(layout).value(), weight.matrix);
    ASSERT_TRUE(plan.isOk()) << plan.status().message();
    EXPECT_EQ(countDifferences(*plan, [&](int64_t column) { return std::pair(&weight, column); }), 0) << layout;
  }
}

TEST_P(PackEveryFormat, PadsWithZeroWeights) {
  Weight weight(GetParam().format, 3, 256, 9);
  auto plan = PackPlan::create(GetParam().packed, weight.matrix);
  std::vector<uint8_t> packed = packAll(*plan);
  for (int64_t column = 3; column < kPanelColumns; ++column)
    for (int64_t k = 0; k < 256; ++k)
      ASSERT_EQ(unpackValue(plan->layout(), packed.data(), 256, column, k), 0.0f) << column << " " << k;
}

TEST_P(PackEveryFormat, GivesTheSameBytesInPieces) {
  Weight weight(GetParam().format, 70, 512, 10);
  auto plan = PackPlan::create(GetParam().packed, weight.matrix);
  std::vector<uint8_t> whole = packAll(*plan), pieces(whole.size(), 0x55);
  for (int64_t panel : {4, 1, 0, 3, 2})
    plan->packPanels(panel, panel + 1, pieces.data() + panel * plan->panelBytes());
  EXPECT_EQ(whole, pieces);
}

INSTANTIATE_TEST_SUITE_P(Formats, PackEveryFormat, testing::ValuesIn(formatTable().begin(), formatTable().end()),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(PackPlan, PadsAnOddDepthWithZeros) {
  Weight weight(StorageFormat::F16, 17, 45, 11);
  auto plan = PackPlan::create(formatRow(StorageFormat::F16).packed, weight.matrix);
  EXPECT_EQ(plan->panelBytes(), 2 * 1024);
  EXPECT_EQ(countDifferences(*plan, [&](int64_t column) { return std::pair(&weight, column); }), 0);
  std::vector<uint8_t> packed = packAll(*plan);
  for (int64_t k = 45; k < 64; ++k)
    ASSERT_EQ(unpackValue(plan->layout(), packed.data(), 45, 3, k), 0.0f);
}

TEST(PackPlan, ConcatenatesTensors) {
  Weight query(StorageFormat::Q4_1, 40, 96, 12), key(StorageFormat::Q4_1, 8, 96, 13);
  Weight value(StorageFormat::Q4_1, 9, 96, 14);
  std::vector<RowMatrix> inputs = {query.matrix, key.matrix, value.matrix};
  auto plan = PackPlan::create(formatRow(StorageFormat::Q4_1).packed, inputs, concatenateRows(inputs));
  ASSERT_TRUE(plan.isOk());
  EXPECT_EQ(plan->numColumns(), 57);
  EXPECT_EQ(countDifferences(*plan, [&](int64_t column) {
              return column < 40   ? std::pair(&query, column)
                     : column < 48 ? std::pair(&key, column - 40)
                                   : std::pair(&value, column - 48);
            }),
            0);
}

TEST(PackPlan, InterleavesTensorsByPanels) {
  Weight gate(StorageFormat::Q5_K, 48, 256, 15), up(StorageFormat::Q5_K, 48, 256, 16);
  std::vector<RowMatrix> inputs = {gate.matrix, up.matrix};
  auto plan = PackPlan::create(formatRow(StorageFormat::Q5_K).packed, inputs, interleaveRows(inputs, kPanelColumns));
  ASSERT_TRUE(plan.isOk());
  EXPECT_EQ(countDifferences(*plan, [&](int64_t column) {
              return std::pair(column / 16 % 2 ? &up : &gate, column / 32 * 16 + column % 16);
            }),
            0);
}

TEST(PackPlan, SaysWhichBytesAPieceReads) {
  Weight first(StorageFormat::Q4_0, 64, 64, 1), second(StorageFormat::Q4_0, 64, 64, 2);
  std::vector<RowMatrix> inputs = {first.matrix, second.matrix};
  constexpr int64_t kRowBytes = 2 * 18;
  auto layout = formatRow(StorageFormat::Q4_0).packed;
  auto isSpan = [&](std::span<const uint8_t> span, const Weight &weight, int64_t firstRow, int64_t numRows) {
    return span.data() == weight.bytes.data() + firstRow * kRowBytes && span.size() == size_t(numRows * kRowBytes);
  };
  auto stacked = PackPlan::create(layout, inputs, concatenateRows(inputs));
  ASSERT_TRUE(stacked.isOk());
  auto sources = stacked->sourcesOf(3, 6);  // columns 48 to 96: the last 16 rows of one, the first 32 of the other
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_TRUE(isSpan(sources[0], first, 48, 16) && isSpan(sources[1], second, 0, 32));
  EXPECT_EQ(stacked->sourcesOf(0, 2).size(), 1u);
  EXPECT_TRUE(stacked->sourcesOf(2, 2).empty());
  auto interleaved = PackPlan::create(layout, inputs, interleaveRows(inputs, 16));
  ASSERT_TRUE(interleaved.isOk());
  sources = interleaved->sourcesOf(3, 6);  // panels: first's are 0, 2, 4, ...
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_TRUE(isSpan(sources[0], first, 32, 16) && isSpan(sources[1], second, 16, 32));
}

TEST(PackPlan, PermutesRows) {
  // Pairs (2i, 2i+1) of each head of 8 become halves (i, i+4): the two conventions of rotary embeddings.
  Weight weight(StorageFormat::Q8_0, 32, 64, 17);
  std::vector<int64_t> order;
  std::vector<RowRun> runs;
  for (int64_t column = 0; column < 32; ++column) {
    order.push_back(column / 8 * 8 + column % 4 * 2 + column % 8 / 4);
    runs.push_back({0, order.back(), 1});
  }
  std::vector<RowMatrix> inputs = {weight.matrix};
  auto plan = PackPlan::create(formatRow(StorageFormat::Q8_0).packed, inputs, runs);
  ASSERT_TRUE(plan.isOk());
  auto rowOf = [&](int64_t column) { return std::pair(&weight, order[static_cast<size_t>(column)]); };
  EXPECT_EQ(countDifferences(*plan, rowOf), 0);
}

TEST(PackPlan, HoldsMixedFormatsAsF32Codes) {
  Weight query(StorageFormat::Q4_K, 20, 256, 18), value(StorageFormat::Q6_K, 20, 256, 19);
  std::vector<RowMatrix> inputs = {query.matrix, value.matrix};
  auto plan = PackPlan::create(formatRow(StorageFormat::F32).packed, inputs, concatenateRows(inputs));
  ASSERT_TRUE(plan.isOk());
  EXPECT_EQ(countDifferences(*plan, [&](int64_t column) {
              return column < 20 ? std::pair(&query, column) : std::pair(&value, column - 20);
            }),
            0);
}

TEST(PackPlan, RefusesALayoutThatWouldLose) {
  Weight weight(StorageFormat::Q6_K, 16, 256, 20);
  auto plan = PackPlan::create(formatRow(StorageFormat::Q4_K).packed, weight.matrix);
  ASSERT_EQ(plan.status().code(), StatusCode::FailedPrecondition);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("its own is `p16:u6,f16*s8,none,16,32`"));
  EXPECT_FALSE(holdsWithoutLoss(formatRow(StorageFormat::F16).packed, StorageFormat::F32));
}

TEST(PackPlan, PacksNothingAtOnceWhenTheDepthIsZero) {
  RowMatrix claimed{StorageFormat::F32, int64_t(1) << 40, 0, nullptr};  // what a hostile shape [2^40, 0] asks for
  auto plan = PackPlan::create(PackedLayout::dense(), claimed);
  ASSERT_TRUE(plan.isOk());
  EXPECT_EQ(plan->totalBytes(), 0);
  plan->pack(nullptr);
}

TEST(PackPlan, RefusesWhatIsNoWeight) {
  Weight weight(StorageFormat::Q4_1, 16, 64, 21), other(StorageFormat::Q4_1, 16, 32, 22);
  PackedLayout layout = formatRow(StorageFormat::Q4_1).packed;
  auto codeOf = [&](std::vector<RowMatrix> inputs, std::vector<RowRun> runs) {
    return PackPlan::create(layout, std::move(inputs), std::move(runs)).status().code();
  };
  EXPECT_EQ(codeOf({}, {}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix, other.matrix}, {{0, 0, 16}}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix}, {{1, 0, 16}}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix}, {{-1, 0, 16}}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix}, {{0, 1, 16}}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix}, {{0, INT64_MAX, 1}}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({weight.matrix}, {{0, 0, -1}}), StatusCode::InvalidArgument);
  RowMatrix halfBlock = weight.matrix, huge = weight.matrix;
  halfBlock.depth = 48;
  huge.numRows = INT64_MAX;
  EXPECT_EQ(codeOf({halfBlock}, {}), StatusCode::InvalidArgument);
  EXPECT_EQ(codeOf({huge}, {}), StatusCode::OutOfRange);
}

}  // namespace
}  // namespace girih::weights
