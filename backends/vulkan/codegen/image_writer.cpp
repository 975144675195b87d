// SPDX-License-Identifier: Apache-2.0
// Writes an image; tests/backends/vulkan/device reads what is made here and what is made wrong.
#include "backends/vulkan/codegen/image_writer.h"

using namespace mlir;

namespace girih::vulkan {
namespace {

class Writer {
public:
  void word(uint32_t value) { raw(&value, sizeof value); }
  void doubleWord(uint64_t value) { raw(&value, sizeof value); }
  void text(const std::string &value) {
    word(uint32_t(value.size()));
    raw(value.data(), value.size());
    bytes.resize((bytes.size() + 3) / 4 * 4);
  }
  void words(const std::vector<uint32_t> &values) {
    word(uint32_t(values.size()));
    raw(values.data(), values.size() * 4);
  }
  void raw(const void *from, size_t numBytes) {
    const auto *begin = static_cast<const uint8_t *>(from);
    bytes.insert(bytes.end(), begin, begin + numBytes);
  }
  std::vector<uint8_t> bytes;
};

using Steps = std::vector<std::pair<GridOp, int32_t>>;

void append(Steps &steps, AffineExpr expr) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return steps.push_back({GridOp::Constant, int32_t(constant.getValue())});
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return steps.push_back({GridOp::Extent, int32_t(symbol.getPosition())});
  auto binary = cast<AffineBinaryOpExpr>(expr);
  append(steps, binary.getLHS());
  append(steps, binary.getRHS());
  GridOp op = expr.getKind() == AffineExprKind::Add        ? GridOp::Add
              : expr.getKind() == AffineExprKind::Mul      ? GridOp::Multiply
              : expr.getKind() == AffineExprKind::FloorDiv ? GridOp::FloorDivide
              : expr.getKind() == AffineExprKind::CeilDiv  ? GridOp::CeilDivide
                                                           : GridOp::Modulo;
  steps.push_back({op, 0});
}

void writeCount(Writer &writer, const GroupCount &count) {
  Steps steps;
  for (auto [index, expr] : llvm::enumerate(count)) {
    append(steps, expr);
    if (index > 0)
      steps.push_back({GridOp::Minimum, 0});
  }
  writer.word(uint32_t(steps.size()));
  for (auto [op, value] : steps) {
    writer.word(uint32_t(op));
    writer.word(uint32_t(value));
  }
}

} // namespace

std::vector<uint8_t> writeImage(const std::vector<Kernel> &kernels, const std::vector<PlannedEntry> &entries,
                                uint64_t arenaBytes, uint32_t flags) {
  Writer writer;
  writer.raw(kImageMagic, sizeof kImageMagic);
  for (uint32_t value : {kImageVersion, uint32_t(kernels.size()), uint32_t(entries.size()), flags})
    writer.word(value);
  writer.doubleWord(arenaBytes);
  for (const Kernel &kernel : kernels) {
    writer.text(kernel.name);
    for (uint32_t value :
         {uint32_t(kernel.invocations), uint32_t(kernel.sharedBytes), uint32_t(kernel.inputs.words.size())})
      writer.word(value);
    writer.words(kernel.spirv);
  }
  for (const PlannedEntry &entry : entries) {
    writer.text(entry.name);
    for (uint32_t value : {entry.maxTokens, uint32_t(entry.grids.size()), uint32_t(entry.dispatches.size())})
      writer.word(value);
    for (const auto &grid : entry.grids)
      for (const GroupCount &count : grid)
        writeCount(writer, count);
    for (const PlannedDispatch &dispatch : entry.dispatches) {
      for (uint32_t value : {dispatch.kernel, dispatch.grid, uint32_t(dispatch.weights.size())})
        writer.word(value);
      for (auto [offset, numBytes] : dispatch.weights) {
        writer.doubleWord(offset);
        writer.doubleWord(numBytes);
      }
      writer.words(dispatch.words);
    }
  }
  return std::move(writer.bytes);
}

} // namespace girih::vulkan
