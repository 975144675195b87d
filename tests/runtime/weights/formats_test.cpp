// SPDX-License-Identifier: Apache-2.0
// The formats table agrees with the `gguf` package, bit for bit, on random and extreme blocks of every format.
#include "runtime/weights/formats.h"

#include "runtime/base/sha256.h"
#include "tests/runtime/weights/block_samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <sstream>

namespace girih::weights {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 0x61726967;  // as in block_formats_judge.py

std::string hashOfValues(const FormatRow &format, int64_t numSamples) {
  std::vector<uint8_t> bytes = sampleBlocks(format, kSeed, numSamples);
  std::vector<float> values(static_cast<size_t>(numSamples * sampleElements(format)));
  dequantize(format.format, bytes.data(), static_cast<int64_t>(values.size()), values.data());
  for (float &value : values)
    if (std::isnan(value))
      value = std::bit_cast<float>(0x7FC00000);  // the sign and payload of a NaN are nobody's
  return hexDigits(sha256({reinterpret_cast<const uint8_t *>(values.data()), values.size() * sizeof(float)}));
}

TEST(Formats, DequantizeAsTheGgufPackageDoes) {
  std::ifstream golden(GIRIH_GOLDEN_FOLDER "/block_formats.txt");
  ASSERT_TRUE(golden) << "no golden file; block_formats_judge.py --write makes it";
  int numFormats = 0;
  for (std::string line; std::getline(golden, line);) {
    if (line.starts_with("#"))
      continue;
    std::istringstream fields(line);
    std::string name, hash;
    int64_t numSamples = 0;
    fields >> name >> numSamples >> hash;
    const FormatRow *format = findFormatByName(name);
    ASSERT_NE(format, nullptr) << name;
    EXPECT_GE(numSamples, 10000);
    EXPECT_EQ(hashOfValues(*format, numSamples), hash) << name << ": block_formats_judge.py --full shows the values";
    ++numFormats;
  }
  EXPECT_EQ(numFormats, kNumStorageFormats);
}

TEST(Formats, EveryRowIsFoundByItsNames) {
  for (const FormatRow &row : formatTable()) {
    EXPECT_EQ(findFormatByName(row.name), &row);
    EXPECT_EQ(findFormatByGgmlType(row.ggmlType), &row);
    EXPECT_EQ(&formatRow(row.format), &row);
    EXPECT_THAT(supportedFormatNames(), HasSubstr(std::string(row.name)));
    if (!row.safetensors.empty()) {
      EXPECT_EQ(findFormatBySafetensorsName(row.safetensors), &row);
    }
  }
  EXPECT_EQ(findFormatByName("q9_9"), nullptr);
  EXPECT_EQ(findFormatByGgmlType(4), nullptr);  // a type that ggml removed
  EXPECT_EQ(findFormatBySafetensorsName(""), nullptr);
}

TEST(Formats, LayoutsOfTheTableArePrintableAndDistinctWhereTheirMeaningIs) {
  for (const FormatRow &row : formatTable()) {
    auto layout = PackedLayout::parse(row.packed.print());
    ASSERT_TRUE(layout.isOk()) << row.name;
    EXPECT_EQ(*layout, row.packed) << row.name;
  }
  EXPECT_EQ(formatRow(StorageFormat::Q4_1).packed.print(), "p16:u4,f16,f16,32");
  EXPECT_EQ(formatRow(StorageFormat::Q4_0).packed.print(), "p16:u4,f16,none,32,8");
  EXPECT_EQ(formatRow(StorageFormat::BF16).packed.print(), "p16:bf16x2,none,none,32");
}

TEST(Formats, TableOfTheReadmeIsThisTable) {
  std::ifstream file(GIRIH_WEIGHTS_README);
  std::stringstream readme;
  readme << file.rdbuf();
  for (const FormatRow &row : formatTable()) {
    std::ostringstream line;
    line << "| " << row.name << " | " << row.ggmlType << " | " << row.blockElements << " | " << row.blockBytes << " | `"
         << row.packed.print() << "` | " << row.bitLayout << " |\n";
    EXPECT_THAT(readme.str(), HasSubstr(line.str()));
  }
}

TEST(Formats, StorageBytesRefusesPartsOfBlocksAndOverflow) {
  EXPECT_EQ(storageBytes(StorageFormat::Q4_1, 64).value(), 40);
  EXPECT_EQ(storageBytes(StorageFormat::Q6_K, 0).value(), 0);
  EXPECT_EQ(storageBytes(StorageFormat::Q4_1, 65).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(storageBytes(StorageFormat::F32, -1).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(storageBytes(StorageFormat::F32, INT64_MAX).status().code(), StatusCode::OutOfRange);
}

TEST(Formats, ScaleAndMinOfABlockAreWhatTheBitsSay) {
  // f16 1.0, f16 -2.0, then nibbles: byte j holds codes j and 16 + j.
  uint8_t block[20] = {0x00, 0x3C, 0x00, 0xC0, 0x5A};
  float values[32];
  dequantize(StorageFormat::Q4_1, block, 32, values);
  EXPECT_EQ(values[0], 10 - 2);
  EXPECT_EQ(values[16], 5 - 2);
  EXPECT_EQ(values[1], -2);
}

}  // namespace
}  // namespace girih::weights
