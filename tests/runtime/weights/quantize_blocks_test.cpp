// SPDX-License-Identifier: Apache-2.0
// Quantised blocks: how far their values may be from what they stand for, and which tensors become what.
#include "runtime/weights/quantize_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace girih::weights {
namespace {

std::vector<float> roundTrip(StorageFormat format, const std::vector<float> &values) {
  int64_t count = static_cast<int64_t>(values.size());
  std::vector<uint8_t> blocks(static_cast<size_t>(storageBytes(format, count).value()));
  quantize(format, values, blocks.data());
  std::vector<float> again(values.size());
  dequantize(format, blocks.data(), count, again.data());
  return again;
}

// Codes are nearest, so a value is off by half a step, and by what rounding scale and min to f16 does: 2^-11 of each times
// the code. A symmetric code's range ends a step before the largest value of the other sign: up to a whole step there.
TEST(QuantizeBlocks, StaysWithinAStep) {
  struct Case {
    StorageFormat format;
    int codes;
    bool hasMin;
  };
  for (auto [format, codes, hasMin] :
       {Case{StorageFormat::Q4_0, 16, false}, Case{StorageFormat::Q4_1, 15, true},
        Case{StorageFormat::Q5_0, 32, false}, Case{StorageFormat::Q5_1, 31, true},
        Case{StorageFormat::Q8_0, 254, false}}) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(32 * 500);
    for (float &value : values)
      value = normal(random);
    std::vector<float> again = roundTrip(format, values);
    for (size_t first = 0; first < values.size(); first += 32) {
      auto block = std::span(values).subspan(first, 32);
      float least = *std::min_element(block.begin(), block.end()),
            most = *std::max_element(block.begin(), block.end());
      float reach = std::max(std::fabs(least), std::fabs(most));
      float step = (hasMin ? most - least : 2 * reach) / float(codes);
      float bound = step * (hasMin || codes > 100 ? 0.5F : 1.0F) + 2 * reach * 0x1p-11F;
      for (size_t k = 0; k < 32; ++k)
        ASSERT_NEAR(again[first + k], block[k], bound) << formatRow(format).name << ", value " << first + k;
    }
  }
}

// What a format can say it keeps: quantising what was quantised changes nothing.
TEST(QuantizeBlocks, KeepsWhatIsExact) {
  std::vector<float> values(32);
  for (int k = 0; k < 32; ++k)
    values[static_cast<size_t>(k)] = float(k % 16 - 8) * 0.25F;
  EXPECT_EQ(roundTrip(StorageFormat::Q4_0, values), values);
  EXPECT_EQ(roundTrip(StorageFormat::Q4_1, values), values);
  EXPECT_EQ(roundTrip(StorageFormat::Q5_0, roundTrip(StorageFormat::Q5_0, values)),
            roundTrip(StorageFormat::Q5_0, values));
  std::vector<float> zeros(64);
  for (StorageFormat format : {StorageFormat::Q4_0, StorageFormat::Q4_1, StorageFormat::Q5_0,
                               StorageFormat::Q5_1, StorageFormat::Q8_0})
    EXPECT_EQ(roundTrip(format, zeros), zeros) << formatRow(format).name;
}

TEST(QuantizeBlocks, ChoosesByNameAndShape) {
  const int64_t matrix[] = {64, 96}, odd[] = {64, 90}, row[] = {96};
  auto wanted = [&](std::string_view name, std::span<const int64_t> shape,
                    StorageFormat stored = StorageFormat::BF16) {
    return formatWanted(name, shape, stored, StorageFormat::Q4_1);
  };
  EXPECT_EQ(wanted("model.layers.0.mlp.gate_proj.weight", matrix), StorageFormat::Q4_1);
  EXPECT_EQ(wanted("blk.0.attn_output.weight", matrix, StorageFormat::F16), StorageFormat::Q4_1);
  for (const char *name :
       {"model.embed_tokens.weight", "lm_head.weight", "token_embd.weight", "output.weight"})
    EXPECT_EQ(wanted(name, matrix), StorageFormat::Q8_0) << name;
  for (const char *name : {"model.layers.0.mlp.gate.weight", "blk.0.ffn_gate_inp.weight",
                           "transformer.wpe.weight", "model.layers.0.self_attn.q_proj.bias"})
    EXPECT_EQ(wanted(name, matrix), StorageFormat::BF16) << name;
  EXPECT_EQ(wanted("model.layers.0.mlp.gate_proj.weight", odd), StorageFormat::BF16);
  EXPECT_EQ(wanted("model.norm.weight", row), StorageFormat::BF16);
  EXPECT_EQ(wanted("blk.0.attn_q.weight", matrix, StorageFormat::Q6_K), StorageFormat::Q6_K);
  EXPECT_FALSE(isWritable(StorageFormat::Q4_K));
  EXPECT_EQ(writableFormatNames(), "q4_0, q4_1, q5_0, q5_1 and q8_0");
}

} // namespace
} // namespace girih::weights
