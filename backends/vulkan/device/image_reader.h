// SPDX-License-Identifier: Apache-2.0
// Image: backends/vulkan/image.h's bytes, checked whole and taken apart.
#pragma once

#include "backends/vulkan/image.h"
#include "runtime/base/expected.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace girih::vulkan {

struct GridStep {
  GridOp op;
  int32_t value;
};
using GridExpression = std::vector<GridStep>;

struct ImageKernel {
  std::string name;
  uint32_t invocations = 0, sharedBytes = 0, numPushWords = 0;
  std::vector<uint32_t> spirv;
};

struct WeightRange {
  uint64_t offsetBytes, numBytes;
};

struct ImageDispatch {
  uint32_t kernel = 0, grid = 0;
  std::vector<WeightRange> weights;
  std::vector<uint32_t> pushWords; // from number kMaxWeights on
};

struct ImageEntry {
  std::string name;
  uint32_t maxTokens = 0;
  std::vector<std::array<GridExpression, 3>> grids;
  std::vector<ImageDispatch> dispatches;
  StepLayout layout() const { return {maxTokens, static_cast<uint32_t>(grids.size())}; }
};

struct Image {
  std::vector<ImageKernel> kernels;
  std::vector<ImageEntry> entries;
  uint64_t arenaBytes = 0;
  bool readsTexels = false;

  // Fails: DataLoss, naming what is wrong. What a shader does inside is its driver's to judge.
  static Expected<Image> parse(std::span<const uint8_t> bytes);
};

// The value for a step's extents. Requires: the expression is of a parsed image.
int64_t evaluate(const GridExpression &expression, std::span<const int64_t> extents);

} // namespace girih::vulkan
