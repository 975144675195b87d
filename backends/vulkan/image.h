// SPDX-License-Identifier: Apache-2.0
// The image that the compile half writes and the run half reads: shaders, and for each entry the list of its dispatches.
//
// All numbers are little-endian; everything is a multiple of 4 bytes, strings are a length and bytes padded with zeros.
//   image     magic[8] version:u32 kernels:u32 entries:u32 flags:u32 arena:u64, the kernels, the entries
//   kernel    name:string invocations:u32 sharedBytes:u32 pushWords:u32 spirvWords:u32 spirv[]
//   entry     name:string maxTokens:u32 grids:u32 dispatches:u32, the grids, the dispatches
//   grid      three expressions: groups in x, y and z
//   expression  length:u32 (operation:u32 value:i32)[]: postfix, over the step's extents
//   dispatch  kernel:u32 grid:u32 weights:u32 (offset:u64 bytes:u64)[] words:u32 push constants:u32[]
//
// A dispatch's weight number w is bound at kWeightBinding + w; the device puts its first 32-bit word, counted from where
// it bound, into push constant w. The dispatch's own push constants begin at kMaxWeights. What a step brings along is one
// buffer, StepLayout.
//
// With kReadsTexels each storage buffer b is also a uniform texel buffer at kTexelBinding + b, of R32G32B32A32_UINT: four
// words at a time. Weights are then bound as texels only.
#pragma once

#include <cstdint>

namespace girih::vulkan {

inline constexpr char kImageFormat[] = "spirv-girih-1";
inline constexpr char kImageMagic[8] = {'G', 'I', 'R', 'I', 'H', 'S', 'P', 'V'};
inline constexpr uint32_t kImageVersion = 2;

// Storage buffers of the one descriptor set.
enum Binding : uint32_t { kKvBinding, kArenaBinding, kLogitsBinding, kStepBinding, kWeightBinding };
inline constexpr uint32_t kMaxWeights = 4;    // dynamic storage buffers that every device has
inline constexpr uint32_t kMaxPushWords = 32; // 128 bytes: what every device has
inline constexpr uint32_t kNumBindings = kWeightBinding + kMaxWeights;
inline constexpr uint32_t kTexelBinding = kNumBindings;
inline constexpr uint32_t kTexelWords = 4, kTexelBytes = 4 * kTexelWords;

enum ImageFlag : uint32_t { kReadsTexels = 1 };

enum class GridOp : uint32_t { Constant, Extent, Add, Multiply, FloorDivide, CeilDivide, Modulo, Minimum };
inline constexpr uint32_t kMaxGroups = 65535; // of a grid in each direction: what every device takes
inline constexpr uint32_t kMaxGridDepth = 16; // values on the stack

// Extents of a step, in the order of the step buffer's first words.
enum Extent : uint32_t { kNumTokens, kNumLogitRows, kLongestContext, kTableStride, kNumExtents };

// Where the parts of a step lie in its buffer, in 32-bit words: fixed for an entry, so that shaders have them as constants.
struct StepLayout {
  uint32_t maxTokens, numGrids;

  static constexpr uint32_t kHeaderWords = 16;
  uint32_t grids() const { return kHeaderWords; } // 3 words each, as indirect dispatches read them
  uint32_t array(uint32_t number) const { return grids() + 3 * numGrids + number * (maxTokens + 1); }
  uint32_t tokens() const { return array(0); }
  uint32_t positions() const { return array(1); }
  uint32_t tokenSequences() const { return array(2); }
  uint32_t kvSlots() const { return array(3); }
  uint32_t sequenceStarts() const { return array(4); }
  uint32_t contextLengths() const { return array(5); }
  uint32_t logitRows() const { return array(6); }
  uint32_t blockTables() const { return array(7); } // the last: its size is the step's
};

} // namespace girih::vulkan
