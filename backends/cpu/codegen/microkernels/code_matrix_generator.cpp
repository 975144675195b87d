// SPDX-License-Identifier: Apache-2.0
// CodeMatrixGenerator: implementation. Tile registers 0-3 hold sums of the groups of two blocks, 4-5 rows, 6-7 codes.
#include "backends/cpu/codegen/microkernels/code_matrix_generator.h"

#include "backends/cpu/codegen/microkernels/nibble_codes.h"
#include "backends/cpu/codegen/microkernels/tile_instructions.h"
#include "backends/cpu/codegen/microkernels/unpack_formats.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kSums = 0, kRows = 4, kCodes = 6; // first tile registers of each kind
constexpr int64_t kTileRows = 16;
constexpr int64_t kTogether = 2; // blocks in a stage: with one a third more time, with three no less
constexpr int64_t kRowsOfPiece = 2;
constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kWordsOfLine = kLineBytes / 2;
// Of the stream of weights: what memory needs to answer, at what a core reads. Into the second level: the first one is
// full of rows and tiles.
constexpr int64_t kFetchedAhead = 8192, kFetchedInto = 2;

// The frame begins with what its rows are of: an address, or 0, and what was made of them. A tile of ones in column j
// is read from there too: the same 64 bytes for each of its rows, with a pair of ones in place j.
constexpr int64_t kSourceAt = 0, kMeaningAt = 8, kOnesAt = 64, kFrameHead = 192;
constexpr int64_t kPairOfOnes = 0x3f803f80;
constexpr int64_t kPlaceOfOnes = kLineBytes - 4;

uint16_t bfloatOf(int64_t integer) {
  return static_cast<uint16_t>(llvm::bit_cast<uint32_t>(static_cast<float>(integer)) >> 16);
}

struct FrameParts {
  int64_t rows, rowSums, pairs, products, end;
};

FrameParts partsOf(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  int64_t blocks = llvm::divideCeil(depth, kBlockDepth), numParts = layout.hasNibbles() ? 1 : 2;
  FrameParts parts{};
  parts.rows = kFrameHead;
  parts.rowSums = parts.rows + blocks * shape.rows * kTileRowBytes;
  int64_t groups = layout.mins == ScaleType::None ? 0 : blocks * layout.numGroups();
  parts.pairs = parts.rowSums + groups * kLineBytes;
  parts.products = parts.pairs + 2 * kTogether * numParts * kTileBytes;
  parts.end = parts.products + 2 * kTogether * layout.numGroups() * shape.rows * kTileRowBytes;
  return parts;
}

} // namespace

int64_t CodeMatrixGenerator::frameBytes(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  return partsOf(layout, shape, depth).end;
}

void CodeMatrixGenerator::emitReset(KernelBuilder &k, Value frame) {
  k.store(k.integer(k.b.getI64Type(), 0), k.at(frame, kSourceAt), 8);
}

int64_t CodeMatrixGenerator::numBlocks(const TileOperands &tile) const {
  return llvm::divideCeil(tile.depth, kBlockDepth);
}

Value CodeMatrixGenerator::pairsAt(const Blocks &blocks, int64_t block) {
  int64_t bytes = numParts() * kTileBytes;
  Value buffer = k.at(k.at(frame, pairs), k.mul(k.rem(blocks.number, k.index(2)), kTogether * bytes));
  return k.at(buffer, block * bytes);
}

Value CodeMatrixGenerator::sumsAt(const Blocks &blocks, int64_t block) {
  int64_t bytes = layout.numGroups() * shape.rows * kTileRowBytes;
  Value buffer = k.at(k.at(frame, products), k.mul(k.rem(blocks.number, k.index(2)), kTogether * bytes));
  return k.at(buffer, block * bytes);
}

void CodeMatrixGenerator::emit(const TileOperands &tile, Value memory) {
  FrameParts parts = partsOf(layout, shape, tile.depth);
  frame = memory;
  rowsAt = parts.rows;
  rowSumsAt = parts.rowSums;
  pairs = parts.pairs;
  products = parts.products;
  configure();
  Value numPanels = k.div(k.add(tile.numColumns, kPanelColumns - 1), kPanelColumns);
  Stream stream{tile.weights, k.sub(k.mul(numPanels, numBlocks(tile)), k.index(1))};
  k.loop(k.index(0), tile.numRows, shape.rows, [&](Value firstRow) {
    keepRows(tile, firstRow);
    emitByTurns({takeApart(tile, stream, {k.index(0), k.index(0), kTogether, k.index(0)})});
    k.loop(k.index(0), numPanels, 1, [&](Value panel) { emitPanel(tile, stream, panel, firstRow); });
  });
  callTile(k, "tilerelease", {});
}

void CodeMatrixGenerator::configure() {
  std::array<TileExtent, kTileRegisters> extents;
  int64_t pairRows = layout.groupSize / 2;
  for (int64_t sum = kSums; sum < kRows; ++sum)
    extents[size_t(sum)] = {shape.rows, kTileRowBytes};
  extents[kRows] = extents[kRows + 1] = {shape.rows, layout.groupSize * 2};
  extents[kCodes] = extents[kCodes + 1] = {pairRows, kTileRowBytes};
  configureTiles(k, k.frameBytes(kLineBytes), extents);
}

// ---- Rows of x ----
// [block][row][32 k], the k of each quad in the order 0 2 1 3: that of the pairs that two bytes of a word make.
void CodeMatrixGenerator::keepRows(const TileOperands &tile, Value firstRow) {
  Type word = k.b.getI64Type();
  Value x = k.at(tile.x, k.mul(firstRow, tile.xStride));
  Value source = LLVM::PtrToIntOp::create(k.b, k.loc, word, x);
  bool hasMins = layout.mins != ScaleType::None;
  Value meaning = k.integer(word, (tile.depth * 4 + layout.numGroups()) * 2 + hasMins);
  auto isKept = [&](int64_t at, Value value) -> Value {
    return arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, k.load(word, k.at(frame, at), 8),
                                 value);
  };
  Value same = arith::AndIOp::create(k.b, k.loc, isKept(kSourceAt, source), isKept(kMeaningAt, meaning));
  k.when(
      same, [] {},
      [&] {
        Value last =
            k.sub(k.sub(tile.numRows, firstRow), k.index(1)); // stands in for those that a tile lacks
        k.loop(k.index(0), k.index(shape.rows), 1,
               [&](Value row) { keepRow(tile, k.at(x, k.mul(k.minOf(row, last), tile.xStride)), row); });
        if (hasMins)
          sumRows(tile);
        k.store(source, k.at(frame, kSourceAt), 8);
        k.store(meaning, k.at(frame, kMeaningAt), 8);
      });
}

void CodeMatrixGenerator::keepRow(const TileOperands &tile, Value source, Value row) {
  auto words = VectorType::get(kWordsOfLine, k.b.getI16Type());
  SmallVector<int64_t> order;
  for (int64_t quad = 0; quad < kWordsOfLine; quad += 4)
    order.append({quad, quad + 2, quad + 1, quad + 3});
  auto keep = [&](Value block, Value values) {
    Value ordered = vector::ShuffleOp::create(k.b, k.loc, values, values, order);
    Value place = k.add(k.mul(block, shape.rows * kTileRowBytes), k.mul(row, kTileRowBytes));
    k.store(ordered, k.at(k.at(frame, rowsAt), place), kLineBytes);
  };
  int64_t full = tile.depth / kBlockDepth, rest = tile.depth % kBlockDepth;
  if (full > 0)
    k.loop(k.index(0), k.index(full), 1,
           [&](Value block) { keep(block, k.load(words, k.at(source, k.mul(block, kLineBytes)))); });
  if (rest == 0)
    return;
  // What follows a row is another row: zeros instead.
  SmallVector<Value> halves;
  for (int64_t half = 0; half < 2; ++half) {
    Value mask = k.maskOf(k.index(std::clamp<int64_t>(rest - half * kLanes, 0, kLanes)));
    Value from = k.at(source, full * kLineBytes + half * kLanes * 2);
    halves.push_back(k.loadMasked(k.lanes(k.b.getI16Type()), from, mask));
  }
  keep(k.index(full), k.joined(halves));
}

// [group][16 rows]: the sums of x over each group, as products with a tile of ones in the group's column.
void CodeMatrixGenerator::sumRows(const TileOperands &tile) {
  Type word = k.b.getI64Type(), lanes = k.lanes(k.b.getI32Type());
  for (int64_t line = 0; line < 2; ++line)
    k.store(k.integer(lanes, 0), k.at(frame, kOnesAt + line * kLineBytes), kLineBytes);
  k.store(k.integer(k.b.getI32Type(), kPairOfOnes), k.at(frame, kOnesAt + kPlaceOfOnes), 4);
  int64_t groups = numBlocks(tile) * layout.numGroups(), tileBytes = shape.rows * kTileRowBytes;
  k.loop(k.index(0), k.index(groups), kLanes, [&](Value first) {
    callTile(k, "tilezero", {kSums});
    Value end = k.minOf(k.add(first, kLanes), k.index(groups));
    k.loop(first, end, 1, [&](Value group) {
      Value block = k.div(group, layout.numGroups()), half = k.rem(group, k.index(layout.numGroups()));
      Value rows = k.add(k.mul(block, tileBytes), k.mul(half, layout.groupSize * 2));
      Value ones = k.sub(k.index(kOnesAt + kPlaceOfOnes), k.mul(k.sub(group, first), 4));
      callTile(k, "tileloadd64", {kRows}, {k.at(k.at(frame, rowsAt), rows), k.integer(word, kTileRowBytes)});
      callTile(k, "tileloadd64", {kCodes}, {k.at(frame, ones), k.integer(word, 0)});
      callTile(k, "tdpbf16ps", {kSums, kRows, kCodes});
    });
    callTile(k, "tilestored64", {kSums}, {k.at(frame, products), k.integer(word, kTileRowBytes)});
    k.loop(first, end, 1, [&](Value group) {
      Value made = k.at(k.at(frame, products), k.mul(k.sub(group, first), 4));
      Value place = k.at(k.at(frame, rowSumsAt), k.mul(group, kLineBytes));
      for (int64_t row = 0; row < shape.rows; ++row)
        k.store(k.load(k.b.getF32Type(), k.at(made, row * kTileRowBytes)), k.at(place, row * 4));
    });
  });
}

// ---- Blocks of weights ----
// bf16 of the values of the 32 codes from `first` on.
Value CodeMatrixGenerator::tableOf(int64_t first, llvm::function_ref<int64_t(int64_t)> valueOf) {
  SmallVector<int16_t> entries;
  for (int64_t index = first; index < first + kWordsOfLine; ++index)
    entries.push_back(static_cast<int16_t>(bfloatOf(valueOf(index))));
  auto type = VectorType::get(kWordsOfLine, k.b.getI16Type());
  return arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(type, ArrayRef<int16_t>(entries)));
}

// A lookup takes the low 5 bits of a word, one in two tables 6: those of a nibble and some more, whatever they are.
Value CodeMatrixGenerator::lookUp(Value index, int64_t part) {
  int64_t indexBits = layout.hasNibbles() ? 4 + layout.highBits() : 4;
  auto valueOf = [&](int64_t code) -> int64_t {
    code %= int64_t(1) << indexBits;
    if (layout.hasNibbles())
      return layout.codeNumber(uint32_t(code));
    bool isSigned = part == 1 && layout.codes == CodeType::S8 && code >= 8;
    return ((code - (isSigned ? 16 : 0)) << 4 * part) - (part == 1 ? layout.codeOffset : 0);
  };
  SmallVector<Value> operands{tableOf(0, valueOf), index};
  StringRef name = "llvm.x86.avx512.permvar.hi.512";
  if (indexBits == 6) {
    name = "llvm.x86.avx512.vpermi2var.hi.512";
    operands.push_back(tableOf(kWordsOfLine, valueOf));
  }
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(index.getType()), k.b.getStringAttr(name), operands).getResult(0);
}

// The nibbles at the bottom of `index`, the bits above them of the even or odd bytes of `step` from bit 4 on.
Value CodeMatrixGenerator::withHighBits(Value index, Value source, int64_t step, bool isOdd) {
  Type words = index.getType();
  Value high = k.load(words, k.at(source, layout.highOffsetBytes(0, 4 * step)));
  int64_t right = layout.highShift(4 * step) + (isOdd ? 8 : 0) - 4;
  if (right > 0)
    high = arith::ShRUIOp::create(k.b, k.loc, high, k.integer(words, right));
  else if (right < 0)
    high = arith::ShLIOp::create(k.b, k.loc, high, k.integer(words, -right));
  return arith::OrIOp::create(k.b, k.loc, arith::AndIOp::create(k.b, k.loc, index, k.integer(words, 15)),
                              arith::AndIOp::create(k.b, k.loc, high, k.integer(words, ~int64_t(15))));
}

// Target: [part][pair of k][16 columns][2]. A byte of a line is one k of a column, or with nibbles one of each half of the block:
// the low nibbles of its even bytes are a row of pairs, those of its odd bytes the next one.
void CodeMatrixGenerator::takeLineApart(Value source, Value target, int64_t line) {
  auto words = VectorType::get(kWordsOfLine, k.b.getI16Type());
  int64_t highAt = numParts() == 1 ? kTileBytes / 2 : kTileBytes;
  Value codes = k.load(words, k.at(source, line * kLineBytes));
  for (int64_t shift : {0, 4, 8, 12}) {
    bool isHigh = shift % 8 != 0, isOdd = shift >= 8;
    Value index = shift == 0 ? codes : arith::ShRUIOp::create(k.b, k.loc, codes, k.integer(words, shift)).getResult();
    if (layout.highBits())
      index = withHighBits(index, source, line + (isHigh ? kNibbleLines : 0), isOdd);
    k.store(lookUp(index, isHigh ? numParts() - 1 : 0),
            k.at(target, (2 * line + isOdd) * kTileRowBytes + isHigh * highAt), kLineBytes);
  }
}

// Always all of a stage: behind a panel's last block lies the next panel, behind the stream its last block stands in.
CodeMatrixGenerator::Pieces CodeMatrixGenerator::takeApart(const TileOperands &tile, const Stream &stream, const Blocks &blocks) {
  Pieces pieces;
  for (int64_t block = 0; block < kTogether; ++block) {
    Value number = k.minOf(k.add(blocks.first, block), stream.lastBlock);
    Value source = k.at(stream.weights, k.mul(number, layout.blockBytes())), target = pairsAt(blocks, block);
    int64_t numLines = layout.hasNibbles() ? kNibbleLines : 2 * kNibbleLines;
    for (int64_t line = 0; line < numLines; ++line)
      pieces.push_back([=, this, &tile] {
        takeLineApart(source, target, line);
        fetchBeside(tile, number, line, numLines);
      });
    pieces.push_back([=, this] {
      for (int64_t line = 0; line < layout.blockBytes(); line += kLineBytes)
        k.prefetch(k.at(source, line + kFetchedAhead), kFetchedInto);
    });
  }
  return pieces;
}

CodeMatrixGenerator::Pieces CodeMatrixGenerator::multiply(const Blocks &blocks) {
  Pieces pieces;
  Value stride = k.integer(k.b.getI64Type(), kTileRowBytes);
  int64_t tileBytes = shape.rows * kTileRowBytes, numGroups = layout.numGroups();
  Value rows = k.at(k.at(frame, rowsAt), k.mul(blocks.firstOfRow, tileBytes));
  for (int64_t block = 0; block < blocks.count; ++block)
    for (int64_t group = 0; group < numGroups; ++group) {
      int64_t sum = kSums + block * numGroups + group, row = kRows + block;
      Value rowsOfGroup = k.at(rows, block * tileBytes + group * layout.groupSize * 2);
      pieces.push_back([=, this] {
        callTile(k, "tilezero", {sum});
        callTile(k, "tileloadd64", {row}, {rowsOfGroup, stride});
      });
      for (int64_t part = 0; part < numParts(); ++part) {
        int64_t codes = kCodes + (numParts() == 1 ? block : part);
        Value pairs = k.at(pairsAt(blocks, block),
                           part * kTileBytes + group * layout.groupSize / 2 * kTileRowBytes);
        pieces.push_back([=, this] { callTile(k, "tileloadd64", {codes}, {pairs, stride}); });
        pieces.push_back([=, this] { callTile(k, "tdpbf16ps", {sum, row, codes}); });
      }
      Value made = k.at(sumsAt(blocks, block), group * tileBytes);
      pieces.push_back([=, this] { callTile(k, "tilestored64", {sum}, {made, stride}); });
    }
  return pieces;
}

CodeMatrixGenerator::Pieces CodeMatrixGenerator::addScaled(const Stream &stream, const Blocks &blocks,
                                                           Accumulators &sums) {
  Pieces pieces;
  int64_t numGroups = layout.numGroups();
  auto vectors = std::make_shared<std::pair<Value, Value>>(); // scales and mins of the group at work
  for (int64_t block = 0; block < blocks.count; ++block)
    for (int64_t group = 0; group < numGroups; ++group) {
      int64_t depth = group * layout.groupSize;
      Value source = k.at(stream.weights, k.mul(k.add(blocks.first, block), layout.blockBytes()));
      Value number = k.add(k.mul(k.add(blocks.firstOfRow, block), numGroups), group);
      Value made = k.at(sumsAt(blocks, block), group * shape.rows * kTileRowBytes);
      Value rowSums = k.at(k.at(frame, rowSumsAt), k.mul(number, kLineBytes));
      pieces.push_back([=, this] {
        vectors->first = loadScales(k, layout, source, depth);
        if (layout.mins != ScaleType::None)
          vectors->second = loadMins(k, layout, source, depth);
      });
      for (int64_t first = 0; first < shape.rows; first += kRowsOfPiece)
        pieces.push_back([=, this, &sums] {
          for (int64_t row = first; row < std::min(first + kRowsOfPiece, shape.rows); ++row) {
            Value product = k.load(k.lanesF32(), k.at(made, row * kTileRowBytes), kLineBytes);
            sums[row] = k.fma(product, vectors->first, sums[row]);
            if (vectors->second)
              sums[row] = k.fma(vectors->second, k.splat(k.load(k.b.getF32Type(), k.at(rowSums, row * 4))), sums[row]);
            sums[row] = pinned(k, sums[row], isa);
          }
        });
    }
  return pieces;
}

// Each stage's pieces in their order, those of all stages evenly mixed: the tile unit and the vectors only work at the
// same time where their instructions lie within a core's window.
void CodeMatrixGenerator::emitByTurns(ArrayRef<Pieces> stages) {
  SmallVector<size_t> done(stages.size());
  auto progress = [&](size_t stage) { // when its next piece is due, of a stage's length
    size_t all = stages[stage].size();
    return done[stage] < all ? (double(done[stage]) + 0.5) / double(all) : 1.0;
  };
  for (;;) {
    size_t next = 0;
    for (size_t stage = 1; stage < stages.size(); ++stage)
      next = progress(stage) < progress(next) ? stage : next;
    if (done[next] == stages[next].size())
      return;
    k.phase();
    stages[next][done[next]++]();
  }
}

// On entry the panel's first blocks are taken apart, on return those of the panel that follows.
void CodeMatrixGenerator::emitPanel(const TileOperands &tile, const Stream &stream, Value panel,
                                    Value firstRow) {
  int64_t depth = numBlocks(tile), numStages = llvm::divideCeil(depth, kTogether);
  int64_t whole = depth / kTogether;
  Value first = k.mul(panel, depth), before = k.mul(panel, numStages);
  auto stage = [&](Value number, int64_t count) -> Blocks {
    Value ofRow = k.mul(number, kTogether);
    return {k.add(first, ofRow), ofRow, count, k.add(before, number)};
  };
  auto countOf = [&](int64_t number) { return number < whole ? kTogether : depth % kTogether; };
  auto takeNext = [&](Value number) {
    Blocks next = stage(k.add(number, 1), kTogether);
    next.first = k.minOf(next.first, k.add(first, depth));
    return takeApart(tile, stream, next);
  };
  Accumulators sums(shape.rows, k.lanesOf(0));
  emitByTurns({takeNext(k.index(0)), multiply(stage(k.index(0), countOf(0)))});
  auto advance = [&](Value number, int64_t count, Accumulators &inner) {
    emitByTurns({takeNext(number), multiply(stage(number, count)),
                 addScaled(stream, stage(k.sub(number, k.index(1)), kTogether), inner)});
  };
  sums = k.loop(k.index(1), k.index(std::max<int64_t>(whole, 1)), 1, sums,
                [&](Value number, ValueRange carried) {
                  Accumulators inner(carried);
                  advance(number, kTogether, inner);
                  return inner;
                });
  if (whole > 0 && whole < numStages)
    advance(k.index(whole), countOf(whole), sums);
  emitByTurns({addScaled(stream, stage(k.index(numStages - 1), countOf(numStages - 1)), sums)});
  storeRows(tile, panel, firstRow, sums);
}

void CodeMatrixGenerator::storeRows(const TileOperands &tile, Value panel, Value firstRow,
                                    const Accumulators &sums) {
  Value column = k.mul(panel, kPanelColumns), columnsLeft = k.sub(tile.numColumns, column);
  Value rowsLeft = k.sub(tile.numRows, firstRow);
  Value out = k.at(k.at(tile.out, k.mul(firstRow, tile.outStride)), k.mul(column, 4));
  Value isWhole = arith::AndIOp::create(k.b, k.loc, k.less(k.index(shape.rows - 1), rowsLeft),
                                        k.less(k.index(kPanelColumns - 1), columnsLeft));
  auto whole = [&] {
    for (int64_t row = 0; row < shape.rows; ++row)
      k.store(sums[row], k.at(out, k.mul(tile.outStride, row)));
  };
  auto partial = [&] {
    Value mask = k.maskOf(k.minOf(columnsLeft, k.index(kPanelColumns)));
    for (int64_t row = 0; row < shape.rows; ++row)
      k.when(k.less(k.index(row), rowsLeft),
             [&] { k.storeMasked(sums[row], k.at(out, k.mul(tile.outStride, row)), mask); });
  };
  k.when(isWhole, whole, partial);
}

} // namespace girih::cpu
