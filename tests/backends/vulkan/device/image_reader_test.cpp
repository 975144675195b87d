// SPDX-License-Identifier: Apache-2.0
// Images of dispatches: sound ones are read, each kind of damage is told, none crashes.
#include "backends/vulkan/device/image_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace girih::vulkan {
namespace {

using testing::HasSubstr;

// What a sound image is made of, so that a test can change one thing.
struct Parts {
  uint32_t version = kImageVersion, numPushWords = 1, dispatchKernel = 0, spirvMagic = 0x07230203, weightOffset = 64, flags = 0;
  std::vector<std::pair<GridOp, int32_t>> grid = {
      {GridOp::Extent, 0}, {GridOp::Constant, 16}, {GridOp::CeilDivide, 0}};

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> made;
    auto word = [&](uint32_t value) {
      const auto *from = reinterpret_cast<const uint8_t *>(&value);
      made.insert(made.end(), from, from + 4);
    };
    auto text = [&](const char *value) {
      word(4);
      made.insert(made.end(), value, value + 4);
    };
    made.assign(kImageMagic, kImageMagic + 8);
    for (uint32_t value : {version, 1u, 1u, flags, 4096u, 0u})
      word(value);
    text("kern");
    for (uint32_t value : {64u, 0u, numPushWords, 5u, spirvMagic, 0u, 0u, 0u, 0u})
      word(value);
    text("step");
    for (uint32_t value : {8u, 1u, 1u})
      word(value);
    for (int axis = 0; axis < 3; ++axis) {
      word(static_cast<uint32_t>(grid.size()));
      for (auto [op, value] : grid) {
        word(static_cast<uint32_t>(op));
        word(static_cast<uint32_t>(value));
      }
    }
    for (uint32_t value : {dispatchKernel, 0u, 1u, weightOffset, 0u, 128u, 0u, 1u, 7u})
      word(value);
    return made;
  }
};

std::string errorOf(const Parts &parts) {
  auto image = Image::parse(parts.bytes());
  return image.isOk() ? "" : std::string(image.status().message());
}

TEST(VulkanImage, ReadsASoundImage) {
  auto image = Image::parse(Parts().bytes());
  ASSERT_TRUE(image.isOk()) << image.status().message();
  EXPECT_EQ(image->arenaBytes, 4096u);
  const ImageEntry &entry = image->entries[0];
  EXPECT_EQ(entry.name, "step");
  EXPECT_EQ(entry.dispatches[0].weights[0].offsetBytes, 64u);
  EXPECT_EQ(entry.dispatches[0].pushWords, std::vector<uint32_t>{7});
  int64_t extents[kNumExtents] = {17, 0, 0, 0};
  EXPECT_EQ(evaluate(entry.grids[0][0], extents), 2);
}

TEST(VulkanImage, EvaluatesEveryOperation) {
  int64_t extents[kNumExtents] = {10, 3, 129, 0};
  auto value = [&](GridOp op, int32_t left, int32_t right) {
    return evaluate({{GridOp::Constant, left}, {GridOp::Constant, right}, {op, 0}}, extents);
  };
  EXPECT_EQ(value(GridOp::Add, -4, 9), 5);
  EXPECT_EQ(value(GridOp::Multiply, -4, 9), -36);
  EXPECT_EQ(value(GridOp::FloorDivide, -5, 4), -2);
  EXPECT_EQ(value(GridOp::CeilDivide, -5, 4), -1);
  EXPECT_EQ(value(GridOp::CeilDivide, 5, 4), 2);
  EXPECT_EQ(value(GridOp::Modulo, -5, 4), 3);
  EXPECT_EQ(value(GridOp::Minimum, 7, 4), 4);
}

TEST(VulkanImage, SaysWhatIsWrong) {
  EXPECT_THAT(errorOf({.version = 9}), HasSubstr("version 9"));
  EXPECT_THAT(errorOf({.numPushWords = 3}), HasSubstr("another number of push constants"));
  EXPECT_THAT(errorOf({.numPushWords = 99}), HasSubstr("28 is the most"));
  EXPECT_THAT(errorOf({.dispatchKernel = 1}), HasSubstr("names kernel 1"));
  EXPECT_THAT(errorOf({.spirvMagic = 1}), HasSubstr("is no shader"));
  EXPECT_THAT(errorOf({.weightOffset = 66}), HasSubstr("no multiple of 4"));
  EXPECT_EQ(errorOf({.weightOffset = 72}), "");
  EXPECT_THAT(errorOf({.weightOffset = 72, .flags = kReadsTexels}), HasSubstr("no multiple of 16"));
  EXPECT_THAT(errorOf({.grid = {}}), HasSubstr("empty grid"));
  EXPECT_THAT(errorOf({.grid = {{GridOp::Add, 0}}}), HasSubstr("number of operands"));
  EXPECT_THAT(errorOf({.grid = {{GridOp::Extent, 0}, {GridOp::Extent, 1}, {GridOp::FloorDivide, 0}}}), HasSubstr("divides"));
  EXPECT_THAT(errorOf({.grid = {{GridOp::Extent, 9}}}), HasSubstr("extent 9"));
  EXPECT_THAT(errorOf({.grid = {{static_cast<GridOp>(99), 0}}}), HasSubstr("operation number 99"));
}

TEST(VulkanImage, SurvivesEveryCut) {
  std::vector<uint8_t> bytes = Parts().bytes();
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(Image::parse({bytes.data(), length}).isOk()) << length;
  bytes.push_back(0);
  EXPECT_FALSE(Image::parse(bytes).isOk());
}

TEST(VulkanImage, SurvivesRandomDamage) {
  std::mt19937 random(7);
  const std::vector<uint8_t> sound = Parts().bytes();
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bytes = sound;
    for (unsigned change = 0; change <= random() % 4; ++change)
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    auto image = Image::parse(bytes);
    int64_t extents[kNumExtents] = {1, 1, 1, 1};
    if (image.isOk())
      for (const ImageEntry &entry : image->entries)
        for (const auto &grid : entry.grids)
          for (const GridExpression &expression : grid)
            (void)evaluate(expression, extents);
  }
}

}  // namespace
}  // namespace girih::vulkan
