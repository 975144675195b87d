// SPDX-License-Identifier: Apache-2.0
// Reads an image with a bound on every length, before anything is made of it.
#include "backends/vulkan/device/image_reader.h"

#include <algorithm>
#include <cstring>

namespace girih::vulkan {
namespace {

constexpr uint32_t kMaxKernels = 4096, kMaxEntries = 64, kMaxGrids = 4096, kMaxDispatches = 1 << 20;
constexpr uint32_t kMaxTokens = 1 << 16, kMaxSpirvWords = 1 << 24, kMaxInvocations = 1024;
constexpr uint32_t kSpirvMagic = 0x07230203;

class Reader {
public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes(bytes) {}

  Expected<uint32_t> word() {
    uint32_t value = 0;
    GIRIH_TRY(take(&value, sizeof value));
    return value;
  }
  Expected<uint64_t> doubleWord() {
    uint64_t value = 0;
    GIRIH_TRY(take(&value, sizeof value));
    return value;
  }
  // A count that a later loop trusts.
  Expected<uint32_t> count(const char *what, uint32_t most) {
    GIRIH_ASSIGN(uint32_t value, word());
    if (value > most)
      return dataLoss("the image says " + std::to_string(value) + " " + what + "; " + std::to_string(most) +
                      " is the most");
    return value;
  }
  Expected<std::vector<uint32_t>> words(const char *what, uint32_t most) {
    GIRIH_ASSIGN(uint32_t length, count(what, most));
    std::vector<uint32_t> values;
    GIRIH_TRY(hasLeft(uint64_t{length} * 4));
    values.resize(length);
    GIRIH_TRY(take(values.data(), uint64_t{length} * 4));
    return values;
  }
  Expected<std::string> text() {
    GIRIH_ASSIGN(uint32_t length, count("characters of a name", 4096));
    uint64_t padded = (uint64_t{length} + 3) / 4 * 4;
    GIRIH_TRY(hasLeft(padded));
    std::string value(reinterpret_cast<const char *>(bytes.data() + at), length);
    at += padded;
    return value;
  }
  Status take(void *to, uint64_t numBytes) {
    GIRIH_TRY(hasLeft(numBytes));
    if (numBytes > 0)
      std::memcpy(to, bytes.data() + at, numBytes);
    at += numBytes;
    return {};
  }
  Status hasLeft(uint64_t numBytes) const {
    if (numBytes > bytes.size() - at)
      return dataLoss("the image ends at byte " + std::to_string(bytes.size()) + ", " +
                      std::to_string(numBytes) + " more are due at " + std::to_string(at) +
                      "; the file is cut or damaged");
    return {};
  }
  bool isAtEnd() const { return at == bytes.size(); }

private:
  std::span<const uint8_t> bytes;
  uint64_t at = 0;
};

Status checkExpression(const GridExpression &expression) {
  int64_t depth = 0;
  int32_t last = 0;
  for (const GridStep &step : expression) {
    if (step.op > GridOp::Minimum)
      return dataLoss("the image has a grid operation number " +
                      std::to_string(static_cast<uint32_t>(step.op)));
    bool isLeaf = step.op <= GridOp::Extent;
    if (step.op == GridOp::Extent && (step.value < 0 || step.value >= static_cast<int32_t>(kNumExtents)))
      return dataLoss("the image's grid asks for extent " + std::to_string(step.value));
    bool divides =
        step.op == GridOp::FloorDivide || step.op == GridOp::CeilDivide || step.op == GridOp::Modulo;
    if (divides && last <= 0)
      return dataLoss("the image's grid divides by something that is no positive constant");
    depth += isLeaf ? 1 : -1;
    if (depth < 1 || depth > kMaxGridDepth)
      return dataLoss("the image has a grid expression with the wrong number of operands");
    last = step.op == GridOp::Constant ? step.value : 0;
  }
  return depth == 1 ? Status() : dataLoss("the image has an empty grid expression");
}

Expected<GridExpression> readExpression(Reader &reader) {
  GIRIH_ASSIGN(uint32_t length, reader.count("steps of an expression", 256));
  GridExpression expression;
  for (uint32_t index = 0; index < length; ++index) {
    GIRIH_ASSIGN(uint32_t op, reader.word());
    GIRIH_ASSIGN(uint32_t value, reader.word());
    expression.push_back({static_cast<GridOp>(op), static_cast<int32_t>(value)});
  }
  GIRIH_TRY(checkExpression(expression));
  return expression;
}

Expected<ImageKernel> readKernel(Reader &reader) {
  ImageKernel kernel;
  GIRIH_ASSIGN(kernel.name, reader.text());
  GIRIH_ASSIGN(kernel.invocations, reader.count("invocations", kMaxInvocations));
  GIRIH_ASSIGN(kernel.sharedBytes, reader.word());
  GIRIH_ASSIGN(kernel.numPushWords, reader.count("push constants", kMaxPushWords - kMaxWeights));
  GIRIH_ASSIGN(kernel.spirv, reader.words("words of a shader", kMaxSpirvWords));
  if (kernel.invocations == 0 || kernel.spirv.size() < 5 || kernel.spirv[0] != kSpirvMagic)
    return dataLoss("the image's kernel \"" + kernel.name + "\" is no shader");
  return kernel;
}

Expected<ImageDispatch> readDispatch(Reader &reader, const Image &image, const ImageEntry &entry) {
  ImageDispatch dispatch;
  GIRIH_ASSIGN(dispatch.kernel, reader.word());
  GIRIH_ASSIGN(dispatch.grid, reader.word());
  if (dispatch.kernel >= image.kernels.size() || dispatch.grid >= entry.grids.size())
    return dataLoss("the image's entry \"" + entry.name + "\" names kernel " +
                    std::to_string(dispatch.kernel) + " and grid " + std::to_string(dispatch.grid) +
                    ", which it has not");
  GIRIH_ASSIGN(uint32_t numWeights, reader.count("weights of a dispatch", kMaxWeights));
  for (uint32_t index = 0; index < numWeights; ++index) {
    WeightRange range;
    GIRIH_ASSIGN(range.offsetBytes, reader.doubleWord());
    GIRIH_ASSIGN(range.numBytes, reader.doubleWord());
    if (uint32_t grain = image.readsTexels ? kTexelBytes : 4; range.offsetBytes % grain != 0)
      return dataLoss("the image reads a weight at byte " + std::to_string(range.offsetBytes) +
                      ", no multiple of " + std::to_string(grain));
    dispatch.weights.push_back(range);
  }
  GIRIH_ASSIGN(dispatch.pushWords, reader.words("push constants", kMaxPushWords - kMaxWeights));
  if (dispatch.pushWords.size() != image.kernels[dispatch.kernel].numPushWords)
    return dataLoss("the image gives kernel \"" + image.kernels[dispatch.kernel].name +
                    "\" another number of push "
                    "constants than it has");
  return dispatch;
}

Expected<ImageEntry> readEntry(Reader &reader, const Image &image) {
  ImageEntry entry;
  GIRIH_ASSIGN(entry.name, reader.text());
  GIRIH_ASSIGN(entry.maxTokens, reader.count("tokens", kMaxTokens));
  GIRIH_ASSIGN(uint32_t numGrids, reader.count("grids", kMaxGrids));
  GIRIH_ASSIGN(uint32_t numDispatches, reader.count("dispatches", kMaxDispatches));
  for (uint32_t index = 0; index < numGrids; ++index) {
    std::array<GridExpression, 3> grid;
    for (GridExpression &expression : grid) {
      GIRIH_ASSIGN(expression, readExpression(reader));
    }
    entry.grids.push_back(std::move(grid));
  }
  for (uint32_t index = 0; index < numDispatches; ++index) {
    GIRIH_ASSIGN(ImageDispatch dispatch, readDispatch(reader, image, entry));
    entry.dispatches.push_back(std::move(dispatch));
  }
  return entry;
}

} // namespace

Expected<Image> Image::parse(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  char magic[8];
  GIRIH_TRY(reader.take(magic, sizeof magic));
  if (std::memcmp(magic, kImageMagic, sizeof magic) != 0)
    return dataLoss("the image does not begin with GIRIHSPV; it is not one of ours");
  GIRIH_ASSIGN(uint32_t version, reader.word());
  if (version != kImageVersion)
    return unimplemented("the image has version " + std::to_string(version) + "; this runtime reads " +
                         std::to_string(kImageVersion) + ": compile the model again");
  GIRIH_ASSIGN(uint32_t numKernels, reader.count("kernels", kMaxKernels));
  GIRIH_ASSIGN(uint32_t numEntries, reader.count("entries", kMaxEntries));
  GIRIH_ASSIGN(uint32_t flags, reader.word());
  if (flags & ~uint32_t{kReadsTexels})
    return unimplemented("the image has flags " + std::to_string(flags) + ", of which this runtime knows " +
                         std::to_string(kReadsTexels) + ": a newer runtime reads it");
  Image image;
  image.readsTexels = (flags & kReadsTexels) != 0;
  GIRIH_ASSIGN(image.arenaBytes, reader.doubleWord());
  for (uint32_t index = 0; index < numKernels; ++index) {
    GIRIH_ASSIGN(ImageKernel kernel, readKernel(reader));
    image.kernels.push_back(std::move(kernel));
  }
  for (uint32_t index = 0; index < numEntries; ++index) {
    GIRIH_ASSIGN(ImageEntry entry, readEntry(reader, image));
    image.entries.push_back(std::move(entry));
  }
  if (!reader.isAtEnd())
    return dataLoss("the image has bytes behind its last entry");
  return image;
}

int64_t evaluate(const GridExpression &expression, std::span<const int64_t> extents) {
  int64_t stack[kMaxGridDepth] = {};
  int64_t *top = stack - 1;
  for (const GridStep &step : expression) {
    if (step.op <= GridOp::Extent) {
      *++top = step.op == GridOp::Constant ? step.value : extents[static_cast<size_t>(step.value)];
      continue;
    }
    int64_t right = *top--, left = *top;
    switch (step.op) {
    case GridOp::Add:
      *top = left + right;
      break;
    case GridOp::Multiply:
      *top = static_cast<int64_t>(static_cast<uint64_t>(left) * static_cast<uint64_t>(right));
      break;
    case GridOp::FloorDivide:
      *top = left >= 0 ? left / right : -((-left + right - 1) / right);
      break;
    case GridOp::CeilDivide:
      *top = left >= 0 ? (left + right - 1) / right : -(-left / right);
      break;
    case GridOp::Modulo:
      *top = ((left % right) + right) % right;
      break;
    default:
      *top = std::min(left, right);
    }
  }
  return *top;
}

} // namespace girih::vulkan
