// SPDX-License-Identifier: Apache-2.0
// ByteMatrixGenerator: implementation.
#include "backends/cpu/codegen/microkernels/byte_matrix_generator.h"

#include "backends/cpu/codegen/microkernels/nibble_codes.h"
#include "backends/cpu/codegen/microkernels/tile_instructions.h"
#include "backends/cpu/codegen/microkernels/unpack_formats.h"
#include "dialects/girih/activation_block.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace girih::dialect;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kTotals = 0, kRows = 4, kCodes = 6; // tile registers
constexpr int64_t kLineBytes = 64;
constexpr int64_t kQuads = kBlockDepth / kActivationQuad; // rows of a tile of codes
constexpr int64_t kCodeBytes = kQuads * kTileRowBytes;
// Items from being taken apart to being multiplied, and from then to being scaled: a tile is loaded, or its sums are,
// when the stores to it have left the store buffer. Buffers go round.
constexpr int64_t kLag = 2, kBuffers = 4;
// Of the stream of weights: what memory needs to answer, at what a core reads. Into the second level: the first one is
// full of rows and tiles.
constexpr int64_t kFetchedAhead = 8192, kFetchedInto = 2;

// The frame begins with what its rows are of: an address, or 0, and what was made of them; then the number of items, the
// tiles' extents, and what a tile of sums begins as.
constexpr int64_t kSourceAt = 0, kMeaningAt = 8, kCountAt = 16, kExtentsAt = 64, kStartAt = 128, kFrameHead = 192;
// An item: where its codes of x lie from its first row on, and its block of weights in its panel.
constexpr int64_t kItemBytes = 16, kItemWeights = 8;

struct FrameParts {
  int64_t items, scales, sums, tiles, totals, end;
};

FrameParts partsOf(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  int64_t most = 2 * llvm::divideCeil(depth, kBlockDepth), numbers = llvm::alignTo(most * shape.rows * 4, kLineBytes);
  FrameParts parts{};
  parts.items = kFrameHead;
  parts.scales = parts.items + llvm::alignTo((most + 2 * kLag) * kItemBytes, kLineBytes);
  parts.sums = parts.scales + numbers;
  parts.tiles = parts.sums + (layout.mins == ScaleType::None ? 0 : numbers);
  parts.totals = parts.tiles + (layout.hasNibbles() ? kBuffers * kCodeBytes : 0);
  parts.end = parts.totals + kBuffers * shape.rows * kTileRowBytes;
  return parts;
}

} // namespace

bool ByteMatrixGenerator::takes(const PackedLayout &layout) {
  bool isByte = layout.hasNibbles() || layout.codeOffset == 0;
  return !layout.isDense && !layout.hasFloatCodes() && layout.numGroups() == 1 && isByte;
}

int64_t ByteMatrixGenerator::frameBytes(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  return partsOf(layout, shape, depth).end;
}

void ByteMatrixGenerator::emitReset(KernelBuilder &k, Value frame) {
  k.store(k.integer(k.b.getI64Type(), 0), k.at(frame, kSourceAt), 8);
}

int64_t ByteMatrixGenerator::numBlocks(const TileOperands &tile) const {
  return llvm::divideCeil(tile.depth, kBlockDepth);
}

// ---- Places ----
Value ByteMatrixGenerator::itemAt(Value item) {
  return k.at(k.at(frame, itemsAt), k.mul(item, kItemBytes));
}

Value ByteMatrixGenerator::codesAt(const Panel &panel, Value item) {
  Value buffer = k.rem(k.add(panel.before, item), k.index(kBuffers));
  return k.at(k.at(frame, tilesAt), k.mul(buffer, kCodeBytes));
}

Value ByteMatrixGenerator::productsAt(const Panel &panel, Value item) {
  Value buffer = k.rem(k.add(panel.before, item), k.index(kBuffers));
  return k.at(k.at(frame, totalsAt), k.mul(buffer, shape.rows * kTileRowBytes));
}

// Behind a panel's last item lies the next panel, behind the last panel its last block stands in.
Value ByteMatrixGenerator::weightsAt(const TileOperands &tile, const Panel &panel, Value item) {
  Value offset = k.toIndex(k.load(k.b.getI64Type(), k.at(itemAt(item), kItemWeights), 8));
  return k.at(tile.weights, k.minOf(k.add(panel.start, offset), lastBlock));
}

// ---- What is kept of rows ----
void ByteMatrixGenerator::keepRows(const TileOperands &tile, const Rows &rows) {
  Type word = k.b.getI64Type();
  Value source = LLVM::PtrToIntOp::create(k.b, k.loc, word, rows.x);
  Value meaning = k.integer(word, (tile.depth << 32) + layout.blockBytes() * 2 + hasMins());
  auto isKept = [&](int64_t at, Value value) -> Value {
    return arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, k.load(word, k.at(frame, at), 8), value);
  };
  Value same = arith::AndIOp::create(k.b, k.loc, isKept(kSourceAt, source), isKept(kMeaningAt, meaning));
  k.when(
      same, [] {},
      [&] {
        Value numItems = k.loop(k.index(0), k.index(numBlocks(tile)), 1, k.index(0), [&](Value block, ValueRange carried) {
          Value item = carried[0], next = k.add(item, 1);
          Value quads = keepDigit(rows, block, item, {kActivationCodes, kActivationScale, true});
          Value hasSecond = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, quads, k.integer(quads.getType(), 0));
          return k.when(hasSecond, next, [&]() -> SmallVector<Value> {
            keepDigit(rows, block, next, {kActivationOutlierCodes, kActivationOutlierScale, false});
            return {k.add(next, 1)};
          });
        })[0];
        keepNextPanel(tile, numItems);
        keepTiles(rows);
        k.store(dot.start({Value()})[0], k.at(frame, kStartAt), kLineBytes);
        k.store(k.toInteger(numItems, word), k.at(frame, kCountAt), 8);
        k.store(source, k.at(frame, kSourceAt), 8);
        k.store(meaning, k.at(frame, kMeaningAt), 8);
      });
}

// Returns the quads of k that have a second digit in any row, as an i32.
Value ByteMatrixGenerator::keepDigit(const Rows &rows, Value block, Value item, const Digit &digit) {
  Type number = k.b.getF32Type(), word = k.b.getI64Type();
  Value blockAt = k.mul(block, kActivationBytes);
  k.store(k.toInteger(k.add(blockAt, digit.codes), word), itemAt(item), 8);
  k.store(k.toInteger(k.mul(block, layout.blockBytes()), word), k.at(itemAt(item), kItemWeights), 8);
  Value last = k.sub(rows.count, k.index(1)); // stands in for those that a tile lacks
  Value first = k.mul(item, shape.rows);
  auto quads = k.loop(k.index(0), k.index(shape.rows), 1, k.integer(k.b.getI32Type(), 0), [&](Value row, ValueRange carried) {
    Value source = k.at(k.at(rows.x, k.mul(k.minOf(row, last), rows.stride)), blockAt);
    Value place = k.mul(k.add(first, row), 4);
    k.store(k.load(number, k.at(source, digit.scale)), k.at(k.at(frame, scalesAt), place));
    if (hasMins()) {
      Value sum = digit.hasMins ? k.load(number, k.at(source, kActivationScaledSums)) : k.constF32(0);
      k.store(sum, k.at(k.at(frame, sumsAt), place));
    }
    Value ofRow = k.load(k.b.getI32Type(), k.at(source, kActivationOutliers));
    return SmallVector<Value>{arith::OrIOp::create(k.b, k.loc, carried[0], ofRow)};
  });
  return quads[0];
}

// The first items of the panel that follows, as items of this one.
void ByteMatrixGenerator::keepNextPanel(const TileOperands &tile, Value numItems) {
  Type word = k.b.getI64Type();
  k.loop(k.index(0), k.index(2 * kLag), 1, [&](Value item) {
    Value source = itemAt(item), target = itemAt(k.add(numItems, item));
    k.store(k.load(word, source, 8), target, 8);
    Value weights = k.toIndex(k.load(word, k.at(source, kItemWeights), 8));
    k.store(k.toInteger(k.add(weights, layout.panelBytes(tile.depth)), word), k.at(target, kItemWeights), 8);
  });
}

// As many rows as there are: behind them may be the end of memory.
void ByteMatrixGenerator::keepTiles(const Rows &rows) {
  std::array<TileExtent, kTileRegisters> extents;
  extents[kRows] = {shape.rows, kBlockDepth};
  extents[kCodes] = {kQuads, kTileRowBytes};
  storeTiles(k, k.at(frame, kExtentsAt), extents);
  for (int64_t number : {kTotals, kRows})
    storeTileRows(k, k.at(frame, kExtentsAt), number, rows.count);
}

// ---- The three stages ----
void ByteMatrixGenerator::takeLine(Value source, Value target, int64_t line) {
  for (int64_t step : {line, kNibbleLines + line}) {
    NibbleLines lines = loadNibbleLines(k, layout, source, k.index(step));
    Value codes = nibbleBytes(k, layout, isa, lines, k.index(step), -layout.codeOffset);
    k.store(codes, k.at(target, step * kTileRowBytes), kLineBytes);
  }
}

void ByteMatrixGenerator::takeApart(const TileOperands &tile, const Panel &panel, Value item) {
  Value source = weightsAt(tile, panel, item), target = codesAt(panel, item);
  for (int64_t line = 0; isApart() && line < kNibbleLines; ++line)
    takeLine(source, target, line);
}

// `between` comes behind each instruction but the last.
void ByteMatrixGenerator::multiply(const TileOperands &tile, const Rows &rows, const Panel &panel, Value item,
                                   llvm::function_ref<void()> between) {
  Type word = k.b.getI64Type();
  Value stride = k.integer(word, kTileRowBytes);
  Value x = k.at(rows.x, k.toIndex(k.load(word, itemAt(item), 8)));
  Value codes = isApart() ? codesAt(panel, item) : weightsAt(tile, panel, item);
  callTile(k, "tileloadd64", {kTotals}, {k.at(frame, kStartAt), k.integer(word, 0)});
  callTile(k, "tileloadd64", {kRows}, {x, k.toInteger(rows.stride, word)});
  between();
  callTile(k, "tileloadd64", {kCodes}, {codes, stride});
  between();
  bool isSigned = layout.codes == CodeType::S8 || layout.codeOffset != 0 || !layout.codeValues().empty();
  callTile(k, isSigned ? "tdpbssd" : "tdpbsud", {kTotals, kRows, kCodes});
  between();
  callTile(k, "tilestored64", {kTotals}, {productsAt(panel, item), stride});
}

void ByteMatrixGenerator::step(const TileOperands &tile, const Rows &rows, const Panel &panel, Value item,
                               Accumulators &sums) {
  constexpr int64_t kPieces = 8;
  Value scaledItem = k.sub(item, k.index(kLag)), takenItem = k.add(item, kLag);
  Value source = weightsAt(tile, panel, takenItem), target = codesAt(panel, takenItem);
  Value scaledWeights = weightsAt(tile, panel, scaledItem), totals = productsAt(panel, scaledItem);
  Value numbers = k.mul(scaledItem, shape.rows * 4);
  Value scales = k.at(k.at(frame, scalesAt), numbers), rowSums = k.at(k.at(frame, sumsAt), numbers);
  Value scale = loadScales(k, layout, scaledWeights, 0);
  Value base = dot.hasBase() ? dot.baseOf(scale) : Value();
  Value min = hasMins() ? loadMins(k, layout, scaledWeights, 0) : Value();
  int64_t piece = 0;
  auto scaleRows = [&](int64_t pieces) {
    int64_t end = (piece + pieces) * shape.rows / kPieces;
    for (int64_t row = piece * shape.rows / kPieces; row < end; ++row) {
      auto ofRow = [&](Value numbers) { return k.splat(k.load(k.b.getF32Type(), k.at(numbers, row * 4))); };
      Value total = k.load(k.lanes(k.b.getI32Type()), k.at(totals, row * kTileRowBytes), kLineBytes);
      sums[row] = k.fma(dot.scaled(total, scale, base), ofRow(scales), sums[row]);
      if (min)
        sums[row] = k.fma(min, ofRow(rowSums), sums[row]);
      sums[row] = pinned(k, sums[row], isa);
    }
    piece += pieces;
    k.phase();
  };
  int64_t line = 0;
  auto takeNext = [&] {
    if (isApart())
      takeLine(source, target, line++);
  };
  int64_t numCalls = 0;
  multiply(tile, rows, panel, item, [&] {
    switch (numCalls++) {
    case 0:
      return scaleRows(2);
    case 1:
      scaleRows(1);
      return takeNext();
    default:
      for (int64_t each = 0; each < 3; ++each) {
        scaleRows(1);
        takeNext();
      }
      scaleRows(1);
    }
  });
  scaleRows(kPieces - piece);
  for (int64_t at = 0; at < layout.blockBytes(); at += kLineBytes)
    k.prefetch(k.at(source, at + kFetchedAhead), kFetchedInto);
  k.phase();
}

// ---- Panels ----
void ByteMatrixGenerator::emit(const TileOperands &tile, Value memory) {
  FrameParts parts = partsOf(layout, shape, tile.depth);
  frame = memory;
  itemsAt = parts.items;
  scalesAt = parts.scales;
  sumsAt = parts.sums;
  tilesAt = parts.tiles;
  totalsAt = parts.totals;
  k.loop(k.index(0), tile.numRows, shape.rows, [&](Value firstRow) {
    Rows rows{k.at(tile.x, k.mul(firstRow, tile.xStride)), tile.xStride,
              k.minOf(k.sub(tile.numRows, firstRow), k.index(shape.rows))};
    keepRows(tile, rows);
    emitPanels(tile, rows, firstRow);
  });
  callTile(k, "tilerelease", {});
}

void ByteMatrixGenerator::emitPanels(const TileOperands &tile, const Rows &rows, Value firstRow) {
  int64_t panelBytes = layout.panelBytes(tile.depth);
  Value numPanels = k.div(k.add(tile.numColumns, kPanelColumns - 1), kPanelColumns);
  lastBlock = k.sub(k.mul(numPanels, panelBytes), k.index(layout.blockBytes()));
  Value numItems = k.toIndex(k.load(k.b.getI64Type(), k.at(frame, kCountAt), 8));
  callTile(k, "ldtilecfg", {}, k.at(frame, kExtentsAt));
  Panel first{k.index(0), k.index(0)};
  for (int64_t item = 0; item < 2 * kLag; ++item)
    takeApart(tile, first, k.index(item));
  k.phase();
  for (int64_t item = 0; item < kLag; ++item)
    multiply(tile, rows, first, k.index(item), [] {});
  k.loop(k.index(0), numPanels, 1, [&](Value number) {
    Panel panel{k.mul(number, panelBytes), k.mul(number, numItems)};
    Accumulators sums(shape.rows, k.lanesOf(0));
    sums = k.loop(k.index(kLag), k.add(numItems, kLag), 1, sums, [&](Value item, ValueRange carried) {
      Accumulators inner(carried);
      step(tile, rows, panel, item, inner);
      return inner;
    });
    storeRows(tile, number, rows, firstRow, sums);
  });
}

void ByteMatrixGenerator::storeRows(const TileOperands &tile, Value panel, const Rows &rows, Value firstRow,
                                    const Accumulators &sums) {
  Value column = k.mul(panel, kPanelColumns), columnsLeft = k.sub(tile.numColumns, column);
  Value out = k.at(k.at(tile.out, k.mul(firstRow, tile.outStride)), k.mul(column, 4));
  Value isWhole = arith::AndIOp::create(k.b, k.loc, k.less(k.index(shape.rows - 1), rows.count),
                                        k.less(k.index(kPanelColumns - 1), columnsLeft));
  auto whole = [&] {
    for (int64_t row = 0; row < shape.rows; ++row)
      k.store(sums[row], k.at(out, k.mul(tile.outStride, row)));
  };
  auto partial = [&] {
    Value mask = k.maskOf(k.minOf(columnsLeft, k.index(kPanelColumns)));
    for (int64_t row = 0; row < shape.rows; ++row)
      k.when(k.less(k.index(row), rows.count),
             [&] { k.storeMasked(sums[row], k.at(out, k.mul(tile.outStride, row)), mask); });
  };
  k.when(isWhole, whole, partial);
}

} // namespace girih::cpu
