// SPDX-License-Identifier: Apache-2.0
// Matmuls and lookups of packed weights: an invocation takes some columns' weights apart and multiplies a few rows by them.
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
constexpr int64_t kMostRows = 8, kMostSums = 24; // that an invocation keeps in registers
constexpr int64_t kQuad = kTexelWords;           // neighbouring columns, whose weights are loaded together
constexpr int64_t kNeighbours = 8;               // that read each other's registers

// A value of 8, 16 or 32 bits at a byte offset that is a multiple of its size, as f32. `at` is of the block, in words.
class BlockReader {
public:
  BlockReader(ShaderBuilder &k, const PackedLayout &layout, uint32_t memory)
      : k(k), layout(layout), memory(memory) {
    SmallVector<float> numbers(layout.codeValues().begin(), layout.codeValues().end());
    auto type = RankedTensorType::get(int64_t(numbers.size()), k.b.getF32Type());
    if (!numbers.empty())
      table = k.constantArray(DenseElementsAttr::get(type, ArrayRef<float>(numbers)));
  }

  // The words with the codes of 32 k of one column, those with what nibbles lack last; none where codes are values.
  SmallVector<Value> lines(Value block, Value column) {
    SmallVector<Value> words;
    if (layout.hasFloatCodes())
      return words;
    for (int64_t line = 0; line < numLines(); ++line)
      words.push_back(k.load(memory, k.add(block, k.add(column, line * kColumns))));
    return words;
  }

  // The code of k = `depth` from them, as f32, before scale and min.
  Value codeOf(ArrayRef<Value> lines, Value block, Value column, int64_t depth) {
    if (layout.hasFloatCodes())
      return floatCode(block, column, k.c(depth));
    return codeOfLines(lines, depth);
  }

  // One of them, wherever it is.
  Value code(Value block, Value column, Value depth) {
    if (layout.hasFloatCodes())
      return floatCode(block, column, depth);
    bool isNibble = layout.hasNibbles();
    Value within = isNibble ? k.rem(depth, 16) : depth;
    Value word = k.load(memory, k.add(block, k.add(column, k.mul(k.div(within, 4), kColumns))));
    if (!isNibble)
      return integerCode(byteOf(word, k.rem(within, 4)));
    Value byte = k.mul(k.rem(within, 4), 8), nibble = k.bitAnd(k.shiftRight(word, k.add(byte, k.mul(k.div(depth, 16), 4))), 15);
    if (int64_t highBits = layout.highBits()) {
      Value bit = k.mul(k.div(depth, 4), highBits);
      Value high = k.load(memory, k.add(block, k.add(column, k.mul(k.add(k.div(bit, 8), kNibbleLines), kColumns))));
      nibble = joined(nibble, k.shiftRight(high, k.add(byte, k.rem(bit, 8))));
    }
    return integerCode(nibble);
  }

  // ---- By texels: those of a quad of columns, number `quad` of the block's 16 ----
  using Quad = std::array<Value, kTexelWords>;

  SmallVector<Quad> quadLines(Value block, Value quad) {
    SmallVector<Quad> words;
    for (int64_t line = 0; !layout.hasFloatCodes() && line < numLines(); ++line)
      words.push_back(texel(block, line * kColumns, quad));
    return words;
  }

  Quad quadOf(ArrayRef<Quad> lines, Value block, Value quad, int64_t depth) {
    Quad codes;
    if (layout.codes == CodeType::BF16) {
      codes = texel(block, depth / 2 * kColumns, quad);
      for (Value &code : codes)
        code = upperHalf(code, depth % 2);
      return codes;
    }
    if (layout.hasFloatCodes())
      return quadOfFloats(block, layout.codes, depth * kColumns, quad);
    for (auto [column, code] : llvm::enumerate(codes)) {
      SmallVector<Value> words;
      for (const Quad &line : lines)
        words.push_back(line[column]);
      code = codeOfLines(words, depth);
    }
    return codes;
  }

  Quad quadScales(Value block, Value quad, int64_t group) {
    return quadFactors(block, quad, group, layout.scales, layout.codeBytes());
  }
  Quad quadMins(Value block, Value quad, int64_t group) {
    return quadFactors(block, quad, group, layout.mins, layout.codeBytes() + layout.scaleBytes());
  }

  // Null where the layout has none.
  Value scale(Value block, Value column, Value group) {
    return factor(block, column, group, layout.scales, layout.codeBytes());
  }
  Value least(Value block, Value column, Value group) {
    return factor(block, column, group, layout.mins, layout.codeBytes() + layout.scaleBytes());
  }

private:
  static constexpr int64_t kNibbleLines = 4;
  int64_t numLines() const { return layout.codeBytes() / (4 * kColumns); }

  // The code of k = `depth`, of one column's words of all lines.
  Value codeOfLines(ArrayRef<Value> lines, int64_t depth) {
    if (!layout.hasNibbles())
      return integerCode(byteOf(lines[size_t(depth / 4)], k.c(depth % 4)));
    int64_t byte = depth % 4 * 8;
    Value nibble = k.bitAnd(k.shiftRight(lines[size_t(depth % 16 / 4)], byte + layout.codeShift(depth)), 15);
    if (layout.highBits())
      nibble = joined(nibble, k.shiftRight(lines[size_t(layout.highOffsetBytes(0, depth) / (4 * kColumns))],
                                           byte + layout.highShift(depth)));
    return integerCode(nibble);
  }

  // A nibble and the lowest bits of `high` above it.
  Value joined(Value nibble, Value high) {
    return k.add(nibble, k.mul(k.bitAnd(high, (1 << layout.highBits()) - 1), 16));
  }

  // The texel of the quad among those of 16 columns, a word each, that begin at word `begin` of the block.
  Quad texel(Value block, int64_t begin, Value quad) {
    return k.loadTexel(memory, k.add(k.div(block, kTexelWords), k.add(quad, begin / kTexelWords)));
  }

  Quad quadFactors(Value block, Value quad, int64_t group, ScaleType type, int64_t begin) {
    if (type == ScaleType::None)
      return {};
    if (type == ScaleType::F16)
      return quadOfFloats(block, CodeType::F16, begin / 2 + group * kColumns, quad);
    // A word has the bytes of a quad's columns, a texel those of 16.
    Quad halves = sharesHalf(type) ? quadOfFloats(block, CodeType::F16, begin / 2, quad) : Quad();
    int64_t first = (begin + ownBegin(type)) / 4 + group * kTexelWords;
    Quad words = k.loadTexel(memory, k.add(k.div(block, kTexelWords), first / kTexelWords)), values;
    Value word = words[0];
    for (int64_t number = 1; number < kTexelWords; ++number)
      word = k.select(k.isEqual(quad, k.c(number)), words[size_t(number)], word);
    for (int64_t column = 0; column < kTexelWords; ++column)
      values[size_t(column)] = factorOf(type, k.shiftRight(word, column * 8), halves[size_t(column)]);
    return values;
  }

  // Where the parts of groups' own begin.
  static int64_t ownBegin(ScaleType type) { return sharesHalf(type) ? kColumns * 2 : 0; }

  // That of the byte in the low bits of `word`.
  Value factorOf(ScaleType type, Value word, Value half) {
    if (sharesHalf(type))
      return k.mulf(half, k.toFloat(k.ofByte(word)));
    // 2 to the power of it less 128. The first two are denormal: there the other integer is the larger one.
    Value exponent = k.bitAnd(word, 255);
    Value normal = arith::ShLIOp::create(k.b, k.loc, k.sub(exponent, k.c(1)), k.c(23));
    Value denormal = arith::ShLIOp::create(k.b, k.loc, k.c(1 << 21), k.bitAnd(exponent, 1));
    return k.asFloat(arith::MaxSIOp::create(k.b, k.loc, normal, denormal));
  }

  // Values of 16 columns that begin at element `begin` of the block, where each has the bytes of one.
  Quad quadOfFloats(Value block, CodeType type, int64_t begin, Value quad) {
    Quad values;
    if (type == CodeType::F32) {
      values = texel(block, begin, quad);
      for (Value &value : values)
        value = k.asFloat(value);
      return values;
    }
    // Two quads share a texel.
    Quad words =
        k.loadTexel(memory, k.add(k.div(block, kTexelWords), k.add(k.div(quad, 2), begin / 2 / kTexelWords)));
    Value isSecond = k.isEqual(k.bitAnd(quad, 1), k.c(1));
    for (size_t pair = 0; pair < 2; ++pair) {
      Value word = k.select(isSecond, words[2 + pair], words[pair]);
      for (int64_t half = 0; half < 2; ++half)
        values[pair * 2 + size_t(half)] = k.halfOf(word, k.c(half));
    }
    return values;
  }

  // A bf16 is the upper half of an f32; a word has those of two k.
  Value upperHalf(Value word, int64_t half) {
    return k.asFloat(half == 1 ? k.bitAnd(word, int64_t(0xffff0000))
                               : arith::ShLIOp::create(k.b, k.loc, word, k.c(16)));
  }

  Value factor(Value block, Value column, Value group, ScaleType type, int64_t begin) {
    if (type == ScaleType::None)
      return {};
    Value element = k.add(k.mul(group, kColumns), column);
    if (type == ScaleType::F16)
      return half(k.add(block, begin / 4), element);
    Value word = k.load(memory, k.add(k.add(block, (begin + ownBegin(type)) / 4), k.div(element, 4)));
    Value shared = sharesHalf(type) ? half(k.add(block, begin / 4), column) : Value();
    return factorOf(type, k.shiftRight(word, k.mul(k.rem(element, 4), 8)), shared);
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

  Value integerCode(Value code) {
    if (table)
      return k.loadConstant(table, code);
    return k.toFloat(layout.codeOffset ? k.sub(code, k.c(layout.codeOffset)) : code);
  }

  ShaderBuilder &k;
  const PackedLayout &layout;
  uint32_t memory;
  Value table; // what codes stand for; null where they are numbers
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
std::pair<Value, Value> panelOf(ShaderBuilder &k, const PackedWeight &weight, const PackedLayout &layout,
                                Value column) {
  Value panel = k.mul(k.div(column, kColumns), layout.panelBytes(weight.type.getDepth()) / 4);
  return {k.add(weight.offset, panel), k.rem(column, kColumns)};
}

bool isMultiple(Value index, int64_t of) { return !index || divisorOf(index) % of == 0; }

// What an invocation multiplies: `count` columns from one panel, side by side, of which the first is number `column`.
struct ColumnGroup {
  Value panel;  // words
  Value column; // in the panel
  int64_t count;
};

// The weights of some groups of columns, block by block of 32 k.
class WeightReader {
public:
  WeightReader(ShaderBuilder &k, const PackedLayout &layout, uint32_t memory, ArrayRef<ColumnGroup> groups)
      : k(k), layout(layout), reader(k, layout, memory), groups(groups) {}

  void begin(Value offset) {
    blocks.clear();
    lines.clear();
    quadLines.clear();
    for (const ColumnGroup &group : groups) {
      blocks.push_back(k.add(group.panel, offset));
      if (isQuad(group))
        quadLines.push_back(reader.quadLines(blocks.back(), quadOf(group)));
      else
        lines.push_back(reader.lines(blocks.back(), group.column));
    }
  }

  // Those of k = `at` of the block, which are asked for in order.
  SmallVector<Value> at(int64_t at) {
    if (at % layout.groupSize == 0)
      loadFactors(at / layout.groupSize);
    SmallVector<Value> values;
    for (auto [number, group] : llvm::enumerate(groups)) {
      if (!isQuad(group)) {
        values.push_back(reader.codeOf(lines[number], blocks[number], group.column, at));
        continue;
      }
      BlockReader::Quad codes = reader.quadOf(quadLines[number], blocks[number], quadOf(group), at);
      values.append(codes.begin(), codes.end());
    }
    for (auto [number, value] : llvm::enumerate(values))
      value = dequantise(k, value, scales[number], mins[number]);
    return values;
  }

private:
  static bool isQuad(const ColumnGroup &group) { return group.count == kQuad; }
  Value quadOf(const ColumnGroup &group) { return k.div(group.column, kQuad); }

  void loadFactors(int64_t number) {
    scales.clear();
    mins.clear();
    for (auto [block, group] : llvm::zip(blocks, groups)) {
      if (isQuad(group)) {
        llvm::append_range(scales, reader.quadScales(block, quadOf(group), number));
        llvm::append_range(mins, reader.quadMins(block, quadOf(group), number));
      } else {
        scales.push_back(reader.scale(block, group.column, k.c(number)));
        mins.push_back(reader.least(block, group.column, k.c(number)));
      }
    }
  }

  ShaderBuilder &k;
  const PackedLayout &layout;
  BlockReader reader;
  ArrayRef<ColumnGroup> groups;
  SmallVector<Value> blocks, scales, mins;
  SmallVector<SmallVector<Value>> lines;
  SmallVector<SmallVector<BlockReader::Quad>> quadLines;
};

// Some rows of x, element by element; what is loaded serves several of them.
class RowReader {
public:
  // `sharesRows`: 8 neighbours have the same rows.
  RowReader(ShaderBuilder &k, const View &x, bool sharesRows)
      : k(k), x(x), sharesRows(sharesRows),
        width(ShaderBuilder::areTexels(x.source) && x.divisor % kTexelWords == 0 &&
                      x.strides[0] % kTexelWords == 0
                  ? kTexelWords
                  : 1) {}

  void setRows(SmallVector<Value> begins) { starts = std::move(begins); }

  void begin(Value depth, int64_t numDepths) {
    first = depth;
    shares = sharesRows && numDepths == kDepth;
  }

  // Those of k = `at` from there, which are asked for in order.
  SmallVector<Value> at(int64_t at) {
    int64_t each = shares ? width * kNeighbours : width;
    if (at % each == 0)
      load(at);
    return llvm::map_to_vector(loaded, [&](auto &words) {
      Value word = words[size_t(at % width)];
      return shares ? k.ofNeighbour(word, at % each / width) : word;
    });
  }

private:
  void load(int64_t at) {
    Value begin = k.add(first, at);
    if (shares)
      begin = k.add(begin, k.mul(k.bitAnd(k.invocation(), kNeighbours - 1), width));
    loaded.clear();
    for (Value start : starts) {
      Value word = k.add(start, begin);
      if (width == 1) {
        loaded.push_back({k.asFloat(k.load(x.source, word))});
        continue;
      }
      SmallVector<Value> words;
      for (Value one : k.loadTexel(x.source, k.div(word, kTexelWords)))
        words.push_back(k.asFloat(one));
      loaded.push_back(std::move(words));
    }
  }

  ShaderBuilder &k;
  const View &x;
  bool sharesRows, shares = false;
  int64_t width; // words of a load
  SmallVector<Value> starts;
  Value first;
  SmallVector<SmallVector<Value>> loaded; // of each row
};

class MatmulLowering {
public:
  MatmulLowering(ShaderBuilder &k, KernelValues &values, QMatmulOp op)
      : k(k), values(values), op(op), x(values.view(op.getX())), out(values.view(op.getInit())),
        weight(values.packed(op.getW())),
        first(op.getColumnOffset() ? values.scalar(op.getColumnOffset()) : k.c(0)), layout(layoutOf(weight)) {
  }

  void run() {
    if (!layout || layout->isDense)
      return values.fail("a matmul has weights of layout \"" + Twine(weight.type.getLayout()) +
                         "\", which has no shader yet");
    tile = invocationTile(op, values.facts());
    numGroups = tile.columns / tile.side;
    int64_t columns = cast<ShapedType>(op.getInit().getType()).getDimSize(1);
    apart = columns / numGroups;
    Value groups = k.div(k.add(out.extents[0], tile.rows - 1), tile.rows);
    Value numColumns = ShapedType::isDynamic(columns) ? out.extents[1] : k.c(columns / tile.columns);
    // Neighbours hand each other what they load of x: they must have the same rows.
    bool sharesRows = values.facts().traits.sharesRegisters && columns / tile.columns % kNeighbours == 0;
    RowReader rows(k, x, sharesRows);
    k.forEach(k.mul(groups, numColumns), [&](Value number) {
      SmallVector<Value> position = positionOf(k, number, ValueRange{groups, numColumns});
      compute(rows, k.mul(position[0], tile.rows), k.mul(position[1], tile.side));
    });
  }

private:
  // Rows from `row` on, and groups of columns `apart` from each other; rows beyond the last repeat it and are not stored.
  void compute(RowReader &rows, Value row, Value column) {
    SmallVector<ColumnGroup> groups;
    for (int64_t number = 0; number < numGroups; ++number) {
      auto [panel, within] = panelOf(k, weight, *layout, k.add(first, k.add(column, number * apart)));
      groups.push_back({panel, within, tile.side});
    }
    SmallVector<Value> starts, sums(size_t(tile.rows * tile.columns), k.f(0));
    for (int64_t number = 0; number < tile.rows; ++number) {
      Value clamped = k.min(k.add(row, number), k.sub(out.extents[0], k.c(1)));
      starts.push_back(k.add(x.offset, k.mul(clamped, x.strides[0])));
    }
    rows.setRows(starts);
    WeightReader weights(k, *layout, weight.memory, groups);
    auto block = [&](Value offset, Value depth, int64_t numDepths, ValueRange carried) {
      SmallVector<Value> sums(carried.begin(), carried.end());
      weights.begin(offset);
      rows.begin(depth, numDepths);
      for (int64_t at = 0; at < numDepths; ++at)
        accumulate(rows.at(at), weights.at(at), sums);
      return sums;
    };
    int64_t depth = weight.type.getDepth(), whole = depth / kDepth;
    sums = k.loop(k.c(0), k.c(whole), k.c(1), sums, [&](Value number, ValueRange carried) {
      return block(k.mul(number, layout->blockBytes() / 4), k.mul(number, kDepth), kDepth, carried);
    });
    // What is left of a depth that is no multiple of a block: x ends there.
    if (depth % kDepth != 0)
      sums = block(k.c(whole * layout->blockBytes() / 4), k.c(whole * kDepth), depth % kDepth, sums);
    for (int64_t number = 0; number < tile.rows; ++number) {
      Value at = k.add(row, number);
      k.when(k.less(at, out.extents[0]), [&] {
        for (int64_t which = 0; which < tile.columns; ++which)
          storeElement(k, out, ValueRange{at, k.add(column, which / tile.side * apart + which % tile.side)},
                       sums[size_t(number * tile.columns + which)]);
      });
    }
  }

  void accumulate(ArrayRef<Value> rows, ArrayRef<Value> weights, SmallVector<Value> &sums) {
    for (size_t row = 0; row < rows.size(); ++row)
      for (size_t which = 0; which < weights.size(); ++which) {
        Value &sum = sums[row * weights.size() + which];
        sum = k.fma(rows[row], weights[which], sum);
      }
  }

  ShaderBuilder &k;
  KernelValues &values;
  QMatmulOp op;
  View x, out;
  PackedWeight weight;
  Value first; // column
  std::optional<PackedLayout> layout;
  InvocationTile tile;
  int64_t numGroups = 1, apart = 1; // groups of columns of an invocation
};

} // namespace

InvocationTile invocationTile(QMatmulOp op, const EntryFacts &entry) {
  auto type = cast<ShapedType>(op.getInit().getType());
  int64_t columns = type.getDimSize(1);
  int64_t maxRows = type.isDynamicDim(0) ? int64_t(entry.layout.maxTokens) : type.getDimSize(0);
  int64_t unitRows = std::clamp<int64_t>(int64_t(op.getRowTile().value_or(kMostRows)), 1, maxRows);
  InvocationTile tile;
  // A texel has the weights of four neighbours, wherever the unit begins.
  if (entry.traits.readsTexels && columns % kQuad == 0 && isMultiple(op.getColumnOffset(), kQuad))
    tile.side = tile.columns = kQuad;
  // Equal parts of the unit's rows.
  int64_t mostRows = std::min(kMostRows, kMostSums / tile.columns);
  tile.rows = int64_t(llvm::divideCeil(unitRows, llvm::divideCeil(unitRows, mostRows)));
  // As many columns as leave each lane something to do.
  while (!type.isDynamicDim(1) && tile.rows * tile.columns * 2 <= kMostSums &&
         columns % (tile.columns * 2) == 0 && columns / (tile.columns * 2) >= entry.lanes)
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
    return k.asFloat(
        k.load(weight.memory, k.add(weight.offset, k.add(k.mul(row, weight.type.getDepth()), depth))));
  auto [panel, column] = panelOf(k, weight, *layout, row);
  Value block = k.add(panel, k.mul(k.div(depth, kDepth), layout->blockBytes() / 4)),
        within = k.rem(depth, kDepth);
  BlockReader reader(k, *layout, weight.memory);
  Value group = k.div(within, layout->groupSize);
  return dequantise(k, reader.code(block, column, within), reader.scale(block, column, group),
                    reader.least(block, column, group));
}

} // namespace girih::vulkan
