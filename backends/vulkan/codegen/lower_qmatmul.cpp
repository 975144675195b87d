// SPDX-License-Identifier: Apache-2.0
// Matmuls and lookups of packed weights: an invocation takes one column's weights apart and multiplies a few rows by them.
#include "backends/vulkan/codegen/lower_dispatch.h"

#include "runtime/weights/packed_layout.h"

using namespace mlir;
using namespace girih::dialect;
using girih::weights::CodeType;
using girih::weights::PackedLayout;
using girih::weights::ScaleType;

namespace girih::vulkan {
namespace {

constexpr int64_t kColumns = weights::kPanelColumns, kDepth = weights::kBlockDepth;
constexpr int64_t kMostRows = 8;  // whose sums an invocation keeps in registers

// A value of 8, 16 or 32 bits at a byte offset that is a multiple of its size, as f32. `at` is of the block, in words.
class BlockReader {
public:
  BlockReader(ShaderBuilder &k, const PackedLayout &layout, uint32_t memory) : k(k), layout(layout), memory(memory) {}

  // The codes of 32 k of one column, as f32, before scale and min.
  SmallVector<Value> codes(Value block, Value column) {
    SmallVector<Value> values(kDepth);
    if (layout.hasFloatCodes()) {
      for (int64_t depth = 0; depth < kDepth; ++depth)
        values[size_t(depth)] = floatCode(block, column, k.c(depth));
      return values;
    }
    int64_t numLines = layout.codes == CodeType::U4 ? 4 : 8;
    for (int64_t line = 0; line < numLines; ++line) {
      Value word = k.load(memory, k.add(block, k.add(column, line * kColumns)));
      for (int64_t byte = 0; byte < 4; ++byte)
        if (layout.codes == CodeType::U4)
          for (int64_t high : {0, 1})
            values[size_t(high * 16 + line * 4 + byte)] = integerCode(k.bitAnd(k.shiftRight(word, byte * 8 + high * 4), 15));
        else
          values[size_t(line * 4 + byte)] = integerCode(byteOf(word, k.c(byte)));
    }
    return values;
  }

  // One of them, wherever it is.
  Value code(Value block, Value column, Value depth) {
    if (layout.hasFloatCodes())
      return floatCode(block, column, depth);
    bool isNibble = layout.codes == CodeType::U4;
    Value within = isNibble ? k.rem(depth, 16) : depth;
    Value word = k.load(memory, k.add(block, k.add(column, k.mul(k.div(within, 4), kColumns))));
    if (!isNibble)
      return integerCode(byteOf(word, k.rem(within, 4)));
    Value shift = k.add(k.mul(k.rem(within, 4), 8), k.mul(k.div(depth, 16), 4));
    return integerCode(k.bitAnd(k.shiftRight(word, shift), 15));
  }

  // Null where the layout has none.
  Value scale(Value block, Value column, Value group) { return factor(block, column, group, layout.scales, layout.codeBytes()); }
  Value least(Value block, Value column, Value group) {
    return factor(block, column, group, layout.mins, layout.codeBytes() + layout.scaleBytes());
  }

private:
  Value factor(Value block, Value column, Value group, ScaleType type, int64_t begin) {
    if (type == ScaleType::None)
      return {};
    Value element = k.add(k.mul(group, kColumns), column);
    return type == ScaleType::F32 ? k.asFloat(k.load(memory, k.add(k.add(block, begin / 4), element)))
                                  : half(k.add(block, begin / 4), element);
  }

  Value half(Value begin, Value element) {
    return k.halfOf(k.load(memory, k.add(begin, k.div(element, 2))), k.rem(element, 2));
  }

  Value floatCode(Value block, Value column, Value depth) {
    Value element = k.add(k.mul(depth, kColumns), column);
    if (layout.codes == CodeType::F32)
      return k.asFloat(k.load(memory, k.add(block, element)));
    if (layout.codes == CodeType::F16)
      return half(block, element);
    Value word = k.load(memory, k.add(block, k.div(element, 2)));
    // The upper half of an f32: an odd element is there already.
    Value odd = k.bitAnd(word, int64_t(0xffff0000));
    Value even = arith::ShLIOp::create(k.b, k.loc, word, k.c(16));
    return k.asFloat(k.select(k.isEqual(k.rem(element, 2), k.c(1)), odd, even));
  }

  Value byteOf(Value word, Value byte) {
    Value moved = k.shiftRight(word, k.mul(byte, 8));
    if (layout.codes != CodeType::S8)
      return k.bitAnd(moved, 255);
    Value up = arith::ShLIOp::create(k.b, k.loc, moved, k.c(24));
    return arith::ShRSIOp::create(k.b, k.loc, up, k.c(24));
  }

  Value integerCode(Value code) { return k.toFloat(layout.codeOffset ? k.sub(code, k.c(layout.codeOffset)) : code); }

  ShaderBuilder &k;
  const PackedLayout &layout;
  uint32_t memory;
};

std::optional<PackedLayout> layoutOf(const PackedWeight &weight) {
  auto layout = PackedLayout::parse(std::string_view(weight.type.getLayout()));
  if (!layout.isOk())
    return std::nullopt;
  return *layout;
}

// scale * code + min, where there are such; products of codes and scales are exact, so fused or not is the same.
Value dequantise(ShaderBuilder &k, Value code, Value scale, Value least) {
  if (!scale)
    return code;
  return least ? k.fma(code, scale, least) : k.mulf(code, scale);
}

// Where the panel of `column` begins, in words, and the column in it.
std::pair<Value, Value> panelOf(ShaderBuilder &k, const PackedWeight &weight, const PackedLayout &layout, Value column) {
  Value panel = k.mul(k.div(column, kColumns), layout.panelBytes(weight.type.getDepth()) / 4);
  return {k.add(weight.offset, panel), k.rem(column, kColumns)};
}

class MatmulLowering {
public:
  MatmulLowering(ShaderBuilder &k, KernelValues &values, QMatmulOp op)
      : k(k), values(values), op(op), x(values.view(op.getX())), out(values.view(op.getInit())),
        weight(values.packed(op.getW())),
        first(op.getColumnOffset() ? values.scalar(op.getColumnOffset()) : k.c(0)), layout(layoutOf(weight)) {}

  void run(int64_t maxRows) {
    if (!layout || layout->isDense)
      return values.fail("a matmul has weights of layout \"" + Twine(weight.type.getLayout()) + "\", which has no shader yet");
    rows = rowsAtOnce(maxRows);
    Value groups = k.div(k.add(out.extents[0], rows - 1), rows);
    k.forEach(k.mul(groups, out.extents[1]), [&](Value number) {
      SmallVector<Value> position = positionOf(k, number, ValueRange{groups, out.extents[1]});
      tile(k.mul(position[0], rows), position[1]);
    });
  }

private:
  // `rows` rows from `row` on of one column; rows beyond the last repeat it and are not stored.
  void tile(Value row, Value column) {
    auto [panel, within] = panelOf(k, weight, *layout, k.add(first, column));
    SmallVector<Value> starts, sums;
    for (int64_t number = 0; number < rows; ++number) {
      Value clamped = k.min(k.add(row, number), k.sub(out.extents[0], k.c(1)));
      starts.push_back(k.add(x.offset, k.mul(clamped, x.strides[0])));
      sums.push_back(k.f(0));
    }
    int64_t depth = weight.type.getDepth(), numBlocks = int64_t(llvm::divideCeil(depth, kDepth));
    Value blockWords = k.c(layout->blockBytes() / 4);
    sums = k.loop(k.c(0), k.c(depth / kDepth), k.c(1), sums, [&, panel = panel, within = within](Value number, ValueRange carried) {
      return block(k.add(panel, k.mul(number, blockWords)), within, k.mul(number, kDepth), kDepth, starts, carried);
    });
    // What is left of a depth that is no multiple of a block: x ends there.
    if (depth % kDepth != 0)
      sums = block(k.add(panel, (numBlocks - 1) * layout->blockBytes() / 4), within, k.c((numBlocks - 1) * kDepth),
                   depth % kDepth, starts, sums);
    for (int64_t number = 0; number < rows; ++number) {
      Value at = k.add(row, number);
      k.when(k.less(at, out.extents[0]), [&] { storeElement(k, out, ValueRange{at, column}, sums[size_t(number)]); });
    }
  }

  SmallVector<Value> block(Value begin, Value column, Value depth, int64_t numDepths, ArrayRef<Value> starts,
                           ValueRange carried) {
    BlockReader reader(k, *layout, weight.memory);
    SmallVector<Value> codes = reader.codes(begin, column), sums(carried.begin(), carried.end());
    Value scale, least;
    for (int64_t at = 0; at < numDepths; ++at) {
      if (at % layout->groupSize == 0) {
        scale = reader.scale(begin, column, k.c(at / layout->groupSize));
        least = reader.least(begin, column, k.c(at / layout->groupSize));
      }
      Value value = dequantise(k, codes[size_t(at)], scale, least);
      for (size_t row = 0; row < starts.size(); ++row)
        sums[row] = k.fma(k.asFloat(k.load(x.memory, k.add(k.add(starts[row], depth), at))), value, sums[row]);
    }
    return sums;
  }

  ShaderBuilder &k;
  KernelValues &values;
  QMatmulOp op;
  View x, out;
  PackedWeight weight;
  Value first;  // column
  std::optional<PackedLayout> layout;
  int64_t rows = 1;
};

}  // namespace

int64_t rowsAtOnce(int64_t maxRows) { return std::min(maxRows, kMostRows); }

void lowerQMatmul(ShaderBuilder &k, KernelValues &values, QMatmulOp op) {
  if (!isa<PackedType>(op.getW().getType()) || !getElementTypeOrSelf(op.getX()).isF32())
    return values.fail("a matmul of " + Twine(op.getStrategy().value_or("no strategy")) +
                       " with activations that are not f32 has no shader yet");
  auto extent = cast<ShapedType>(op.getInit().getType()).getDimSize(0);
  auto entry = op->getParentOfType<func::FuncOp>()->getAttrOfType<IntegerAttr>("girih.max_tokens");
  MatmulLowering(k, values, op).run(ShapedType::isDynamic(extent) && entry ? entry.getInt() : std::max<int64_t>(extent, 1));
}

Value loadWeight(ShaderBuilder &k, const PackedWeight &weight, Value row, Value depth) {
  std::optional<PackedLayout> layout = layoutOf(weight);
  if (layout && layout->isDense)
    return k.asFloat(k.load(weight.memory, k.add(weight.offset, k.add(k.mul(row, weight.type.getDepth()), depth))));
  auto [panel, column] = panelOf(k, weight, *layout, row);
  Value block = k.add(panel, k.mul(k.div(depth, kDepth), layout->blockBytes() / 4)), within = k.rem(depth, kDepth);
  BlockReader reader(k, *layout, weight.memory);
  Value group = k.div(within, layout->groupSize);
  return dequantise(k, reader.code(block, column, within), reader.scale(block, column, group),
                    reader.least(block, column, group));
}

}  // namespace girih::vulkan
