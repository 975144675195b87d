// SPDX-License-Identifier: Apache-2.0
// PackedLayout: descriptors, ids, sizes, and that no two values share a byte.
#include "runtime/weights/packed_layout.h"

#include "runtime/program/tables.h"
#include "runtime/weights/formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace girih::weights {
namespace {

using testing::HasSubstr;

TEST(PackedLayout, PrintsWhatItParses) {
  for (std::string_view text :
       {"p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32", "p16:u7,f16*s8,f16*s8,16",
        "p16:bf16x2,none,none,32", "p16:f32,none,none,32", "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32",
        "p16:u5,f16,none,32,16", "p16:u6,f16*s8,none,16,32", "dense:f32"}) {
    auto layout = PackedLayout::parse(text);
    ASSERT_TRUE(layout.isOk()) << text;
    EXPECT_EQ(layout->print(), text);
  }
}

TEST(PackedLayout, RefusesOtherTextsAndSecondSpellings) {
  for (std::string_view text :
       {"", "p16", "p16:", "p16:u4", "p16:u4,f16,none,32,0", "p16:u4,f16,none,32,16", "p16:u4,f16,none,8",
        "p16:u4,none,none,32", "p16:f16,f16,none,32", "p16:s8,f16,none,32,1", "p16:u4,f16,none,+32",
        "p16:u4,f16,none,32,", "p16:u4,f16,none,32,8,8", " dense:f32", "dense:f16", "p16:u4,f16,none,99999999999",
        "p16:iq4,f16,none,32,8", "p16:u4,f16,e8m0,32", "p16:u4,f32,none,32", "p16:u5,f16,none,32,32", "p16:u6,f16,none,32,64"}) {
    auto layout = PackedLayout::parse(text);
    ASSERT_EQ(layout.status().code(), StatusCode::InvalidArgument) << text;
    EXPECT_THAT(std::string(layout.status().message()), HasSubstr("dense:f32"));
  }
}

TEST(PackedLayout, IdIsFnv1aOfTheDescriptor) {
  // Files name layouts by these ids: they must never change.
  EXPECT_EQ(PackedLayout::dense().layoutId(), 0xeea3215963cd9049u);
  for (const FormatRow &row : formatTable())  // a program file computes it from the text alone
    EXPECT_EQ(row.packed.layoutId(), program::layoutIdOf(row.packed.print()));
  EXPECT_EQ(PackedLayout::parse("p16:u4,f16,f16,32")->layoutId(), 0x7da614e5c64a11b8u);
}

TEST(PackedLayout, SizesAreThoseOfTheDescription) {
  PackedLayout q4_1 = formatRow(StorageFormat::Q4_1).packed;
  EXPECT_EQ(q4_1.blockBytes(), 256 + 32 + 32);
  EXPECT_EQ(q4_1.numPanels(17), 2);
  EXPECT_EQ(q4_1.panelBytes(576), 18 * 320);
  EXPECT_EQ(q4_1.tensorBytes(17, 576).value(), 2 * 18 * 320);
  PackedLayout q6_K = formatRow(StorageFormat::Q6_K).packed;
  EXPECT_EQ(q6_K.blockBytes(), 256 + 2 * 64 + 2 * 16 + 2 * 16);
  EXPECT_EQ(formatRow(StorageFormat::Q4_K).packed.blockBytes(), 256 + 2 * (2 * 16 + 16));
  EXPECT_EQ(formatRow(StorageFormat::MXFP4).packed.blockBytes(), 16 * 17) << "as many bytes as the format has";
  EXPECT_EQ(formatRow(StorageFormat::Q5_0).packed.blockBytes(), 16 * 22) << "as many bytes as the format has";
  EXPECT_EQ(formatRow(StorageFormat::IQ4_NL).packed.blockBytes(), 16 * 18);
  PackedLayout f16 = formatRow(StorageFormat::F16).packed;
  EXPECT_EQ(f16.blockBytes(), 1024);
  EXPECT_EQ(f16.panelBytes(33), 2048);
  EXPECT_EQ(PackedLayout::dense().tensorBytes(3, 5).value(), 60);
}

TEST(PackedLayout, ScalesAreExact) {
  for (uint32_t exponent = 0; exponent < 256; ++exponent)
    EXPECT_EQ(scaleValue(ScaleType::E8M0, exponent), std::ldexp(1.0f, static_cast<int>(exponent) - 128)) << exponent;
  EXPECT_EQ(scaleValue(ScaleType::F16, 0xc100), -2.5f);
  EXPECT_EQ(scaleValue(ScaleType::F16S8, productBits(0xc100, static_cast<uint32_t>(-3))), 7.5f);
  // The most significant bits that both have.
  EXPECT_EQ(scaleValue(ScaleType::F16S8, productBits(0x67ff, 127)), 2047.0f * 127);
}

TEST(PackedLayout, TensorBytesRefusesOverflow) {
  PackedLayout layout = formatRow(StorageFormat::F32).packed;
  EXPECT_EQ(layout.tensorBytes(INT64_MAX, 1).status().code(), StatusCode::OutOfRange);
  EXPECT_EQ(layout.tensorBytes(int64_t(1) << 40, int64_t(1) << 40).status().code(), StatusCode::OutOfRange);
  EXPECT_EQ(layout.tensorBytes(-1, 1).status().code(), StatusCode::OutOfRange);
}

// Marks the bits of one field and counts how many were marked before.
class BitMap {
public:
  explicit BitMap(int64_t numBytes) : marked(static_cast<size_t>(numBytes * 8)) {}
  int mark(int64_t offsetBits, int64_t numBits) {
    int numTwice = 0;
    for (int64_t bit = offsetBits; bit < offsetBits + numBits; ++bit) {
      numTwice += marked.at(static_cast<size_t>(bit));
      marked[static_cast<size_t>(bit)] = true;
    }
    return numTwice;
  }
  bool isFull() const { return std::find(marked.begin(), marked.end(), false) == marked.end(); }

private:
  std::vector<bool> marked;
};

TEST(PackedLayout, FieldsCoverABlockExactlyOnce) {
  for (const FormatRow &row : formatTable()) {
    const PackedLayout &layout = row.packed;
    BitMap bits(layout.blockBytes());
    int numTwice = 0;
    for (int64_t column = 0; column < kPanelColumns; ++column)
      for (int64_t k = 0; k < kBlockDepth; ++k) {
        int64_t codeBits = layout.hasNibbles() ? 4 : codeTypeBytes(layout.codes) * 8;
        numTwice += bits.mark(layout.codeOffsetBytes(column, k) * 8 + layout.codeShift(k), codeBits);
        numTwice += bits.mark(layout.highOffsetBytes(column, k) * 8 + layout.highShift(k), layout.highBits());
        if (k % layout.groupSize != 0)
          continue;
        numTwice += bits.mark(layout.scaleOffsetBytes(column, k) * 8, scaleTypeBytes(layout.scales) * 8);
        numTwice += bits.mark(layout.minOffsetBytes(column, k) * 8, scaleTypeBytes(layout.mins) * 8);
        if (k == 0 && sharesHalf(layout.scales))
          numTwice += bits.mark(layout.scaleHalfOffsetBytes(column) * 8, 16);
        if (k == 0 && sharesHalf(layout.mins))
          numTwice += bits.mark(layout.minHalfOffsetBytes(column) * 8, 16);
      }
    EXPECT_EQ(numTwice, 0) << row.name;
    EXPECT_TRUE(bits.isFull()) << row.name;
  }
}

}  // namespace
}  // namespace girih::weights
