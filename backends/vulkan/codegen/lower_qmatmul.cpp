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
constexpr int64_t kMostRows = 8, kMostSums = 24;  // that an invocation keeps in registers
constexpr int64_t kNeighbours = 8;                 // that read each other's registers

// A value of 8, 16 or 32 bits at a byte offset that is a multiple of its size, as f32. `at` is of the block, in words.
class BlockReader {
public:
  BlockReader(ShaderBuilder &k, const PackedLayout &layout, uint32_t memory) : k(k), layout(layout), memory(memory) {}

  // The words with the codes of 32 k of one column; none where codes are values themselves.
  SmallVector<Value> lines(Value block, Value column) {
    SmallVector<Value> words;
    if (layout.hasFloatCodes())
      return words;
    for (int64_t line = 0; line < (layout.codes == CodeType::U4 ? 4 : 8); ++line)
      words.push_back(k.load(memory, k.add(block, k.add(column, line * kColumns))));
    return words;
  }

  // The code of k = `depth` from them, as f32, before scale and min.
  Value codeOf(ArrayRef<Value> lines, Value block, Value column, int64_t depth) {
    if (layout.hasFloatCodes())
      return floatCode(block, column, k.c(depth));
    if (layout.codes != CodeType::U4)
      return integerCode(byteOf(lines[size_t(depth / 4)], k.c(depth % 4)));
    Value word = lines[size_t(depth % 16 / 4)];
    return integerCode(k.bitAnd(k.shiftRight(word, depth % 4 * 8 + depth / 16 * 4), 15));
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
    Value word = k.load(memory, k.add(k.add(block, k.mul(k.div(depth, 2), kColumns)), column));
    // The upper half of an f32: an odd element is there already.
    Value odd = k.bitAnd(word, int64_t(0xffff0000));
    Value even = arith::ShLIOp::create(k.b, k.loc, word, k.c(16));
    return k.asFloat(k.select(k.isEqual(k.rem(depth, 2), k.c(1)), odd, even));
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

  void run() {
    if (!layout || layout->isDense)
      return values.fail("a matmul has weights of layout \"" + Twine(weight.type.getLayout()) + "\", which has no shader yet");
    tile = invocationTile(op, values.facts());
    int64_t columns = cast<ShapedType>(op.getInit().getType()).getDimSize(1);
    apart = columns / tile.columns;
    // Neighbours hand each other what they load of x: they must have the same rows.
    sharesRows = values.facts().sharesRegisters && apart % kNeighbours == 0;
    Value groups = k.div(k.add(out.extents[0], tile.rows - 1), tile.rows);
    Value numColumns = ShapedType::isDynamic(columns) ? out.extents[1] : k.c(apart);
    k.forEach(k.mul(groups, numColumns), [&](Value number) {
      SmallVector<Value> position = positionOf(k, number, ValueRange{groups, numColumns});
      compute(k.mul(position[0], tile.rows), position[1]);
    });
  }

private:
  // Rows from `row` on, and columns `apart` from each other; rows beyond the last repeat it and are not stored.
  void compute(Value row, Value column) {
    for (int64_t number = 0; number < tile.columns; ++number)
      columns.push_back(panelOf(k, weight, *layout, k.add(first, k.add(column, number * apart))));
    SmallVector<Value> starts, sums(size_t(tile.rows * tile.columns), k.f(0));
    for (int64_t number = 0; number < tile.rows; ++number) {
      Value clamped = k.min(k.add(row, number), k.sub(out.extents[0], k.c(1)));
      starts.push_back(k.add(x.offset, k.mul(clamped, x.strides[0])));
    }
    int64_t depth = weight.type.getDepth(), whole = depth / kDepth;
    sums = k.loop(k.c(0), k.c(whole), k.c(1), sums, [&](Value number, ValueRange carried) {
      return block(k.mul(number, layout->blockBytes() / 4), k.mul(number, kDepth), kDepth, starts, carried);
    });
    // What is left of a depth that is no multiple of a block: x ends there.
    if (depth % kDepth != 0)
      sums = block(k.c(whole * layout->blockBytes() / 4), k.c(whole * kDepth), depth % kDepth, starts, sums);
    for (int64_t number = 0; number < tile.rows; ++number) {
      Value at = k.add(row, number);
      k.when(k.less(at, out.extents[0]), [&] {
        for (int64_t which = 0; which < tile.columns; ++which)
          storeElement(k, out, ValueRange{at, k.add(column, which * apart)}, sums[size_t(number * tile.columns + which)]);
      });
    }
  }

  // What 8 neighbours loaded of x, or just this one's.
  SmallVector<Value> loadRows(ArrayRef<Value> starts, Value depth, int64_t at) {
    Value element = sharesRows ? k.add(k.add(depth, at), k.bitAnd(k.invocation(), kNeighbours - 1)) : k.add(depth, at);
    return llvm::map_to_vector(starts, [&](Value start) { return k.asFloat(k.load(x.memory, k.add(start, element))); });
  }

  SmallVector<Value> block(Value begin, Value depth, int64_t numDepths, ArrayRef<Value> starts, ValueRange carried) {
    BlockReader reader(k, *layout, weight.memory);
    SmallVector<Value> sums(carried.begin(), carried.end()), rows, scales(columns.size()), mins(columns.size());
    SmallVector<SmallVector<Value>> lines;
    SmallVector<Value> blocks = llvm::map_to_vector(columns, [&](auto &column) { return k.add(column.first, begin); });
    for (auto [block, column] : llvm::zip(blocks, columns))
      lines.push_back(reader.lines(block, column.second));
    bool shares = sharesRows && numDepths == kDepth;
    std::swap(shares, sharesRows);
    for (int64_t at = 0; at < numDepths; ++at) {
      if (!sharesRows || at % kNeighbours == 0)
        rows = loadRows(starts, depth, at);
      for (size_t which = 0; which < columns.size(); ++which) {
        Value column = columns[which].second;
        if (at % layout->groupSize == 0) {
          scales[which] = reader.scale(blocks[which], column, k.c(at / layout->groupSize));
          mins[which] = reader.least(blocks[which], column, k.c(at / layout->groupSize));
        }
        Value value = dequantise(k, reader.codeOf(lines[which], blocks[which], column, at), scales[which], mins[which]);
        for (size_t row = 0; row < rows.size(); ++row) {
          Value &sum = sums[row * columns.size() + which];
          sum = k.fma(sharesRows ? k.ofNeighbour(rows[row], at % kNeighbours) : rows[row], value, sum);
        }
      }
    }
    std::swap(shares, sharesRows);
    return sums;
  }

  ShaderBuilder &k;
  KernelValues &values;
  QMatmulOp op;
  View x, out;
  PackedWeight weight;
  Value first;  // column
  std::optional<PackedLayout> layout;
  InvocationTile tile;
  int64_t apart = 1;        // columns of an invocation
  bool sharesRows = false;
  SmallVector<std::pair<Value, Value>> columns;  // panel and column in it
};

}  // namespace

InvocationTile invocationTile(QMatmulOp op, const EntryFacts &entry) {
  auto type = cast<ShapedType>(op.getInit().getType());
  int64_t maxRows = type.isDynamicDim(0) ? int64_t(entry.layout.maxTokens) : type.getDimSize(0);
  InvocationTile tile;
  tile.rows = std::clamp<int64_t>(int64_t(op.getRowTile().value_or(kMostRows)), 1, std::min(maxRows, kMostRows));
  // As many columns as leave each lane something to do.
  while (!type.isDynamicDim(1) && tile.rows * tile.columns * 2 <= kMostSums && type.getDimSize(1) % (tile.columns * 2) == 0 &&
         type.getDimSize(1) / (tile.columns * 2) >= entry.lanes)
    tile.columns *= 2;
  return tile;
}

void lowerQMatmul(ShaderBuilder &k, KernelValues &values, QMatmulOp op) {
  if (!isa<PackedType>(op.getW().getType()) || !getElementTypeOrSelf(op.getX()).isF32())
    return values.fail("a matmul of " + Twine(op.getStrategy().value_or("no strategy")) +
                       " with activations that are not f32 has no shader yet");
  MatmulLowering(k, values, op).run();
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
