// SPDX-License-Identifier: Apache-2.0
// MatrixGenerator: implementation. Tile registers 0-3 hold sums, 4-5 activations, 6-7 weights.
#include "backends/cpu/codegen/microkernels/matrix_generator.h"

#include "backends/cpu/codegen/microkernels/unpack_formats.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kRegisterBytes = 64;                     // a row of a tile
constexpr int64_t kTileBytes = kTileRows * kRegisterBytes; // a whole one
constexpr int64_t kActivations = 4, kWeights = 6;          // first tile registers of each kind; sums are 0-3
constexpr int64_t kPairRow = kPanelColumns * 2 * 2;        // 16 columns x 2 k of bf16: a row of a weight tile

// Register of the sum of row tile `row` and panel `panel`.
int64_t sumOf(int64_t row, int64_t panel) { return row * 2 + panel; }

} // namespace

void MatrixGenerator::callTile(llvm::StringRef intrinsic, ArrayRef<int64_t> registers, ValueRange memory) {
  SmallVector<Value> operands;
  for (int64_t number : registers)
    operands.push_back(LLVM::ConstantOp::create(k.b, k.loc, k.b.getI8Type(), k.b.getI8IntegerAttr(number)));
  llvm::append_range(operands, memory);
  LLVM::CallIntrinsicOp::create(k.b, k.loc, k.b.getStringAttr(("llvm.x86." + intrinsic).str()), operands);
}

// ---- The space of tiles ----
void MatrixGenerator::emit(const TileOperands &tile, Value scratch) {
  configuration = k.frameBytes(kRegisterBytes);
  spare = k.frameBytes(3 * kTileBytes);
  int64_t full = tile.depth / shape.depth, rest = tile.depth % shape.depth;
  Value numPanels = k.div(k.add(tile.numColumns, kPanelColumns - 1), kPanelColumns);
  k.loop(k.index(0), numPanels, shape.panels, [&](Value first) {
    Group group{first, k.minOf(k.sub(numPanels, first), k.index(shape.panels))};
    bool isOnly = full + (rest != 0) == 1;
    if (full > 0) {
      k.loop(k.index(0), k.index(full), 1, [&](Value number) {
        Value isFirst = isOnly ? Value() : k.less(number, k.index(1));
        emitGroup(tile, group, {k.mul(number, shape.depth), shape.depth, isFirst}, scratch);
      });
    }
    if (rest != 0) {
      Value isFirst = isOnly ? Value() : k.less(k.index(full), k.index(1));
      emitGroup(tile, group, {k.index(full * shape.depth), rest, isFirst}, scratch);
    }
  });
  callTile("tilerelease", {});
}

void MatrixGenerator::emitGroup(const TileOperands &tile, const Group &group, const Pass &pass,
                                Value scratch) {
  unpackGroup(tile, group, pass, scratch);
  Value two = k.index(2 * kTileRows);
  k.loop(k.index(0), tile.numRows, 2 * kTileRows, [&](Value first) {
    Value count = k.minOf(k.sub(tile.numRows, first), two);
    // Loading a configuration clears the tiles, so it happens between sums: at the start, and where rows run out.
    Value isWhole = arith::AndIOp::create(k.b, k.loc, k.less(k.index(0), first), k.less(k.index(31), count));
    k.when(isWhole, [] {}, [&] { configure(count); });
    k.when(
        k.less(k.index(kTileRows), count), [&] { emitPanels(tile, group, pass, {first, count, 2}, scratch); },
        [&] { emitPanels(tile, group, pass, {first, count, 1}, scratch); });
  });
}

// Tile registers of `numRows` (1 to 32) rows in two; a register of no rows would be no valid one.
void MatrixGenerator::configure(Value numRows) {
  Type word = k.b.getI64Type();
  Value low = k.toInteger(k.minOf(numRows, k.index(kTileRows)), word);
  Value high = k.toInteger(k.maxOf(k.sub(numRows, k.index(kTileRows)), k.index(1)), word);
  auto times = [&](Value rows, int64_t bytes) -> Value {
    return arith::MulIOp::create(k.b, k.loc, rows, k.integer(word, bytes));
  };
  auto plus = [&](Value x, Value y) -> Value { return arith::AddIOp::create(k.b, k.loc, x, y); };
  // A byte a register: sums and activations of the first row tile, of the second, then weights.
  Value rows = plus(plus(times(low, 0x0000'0001'0000'0101), times(high, 0x0000'0100'0101'0000)),
                    k.integer(word, 0x1010'0000'0000'0000));
  Value bytesPerRow = k.integer(word, 0x0040'0040'0040'0040);
  k.store(k.integer(word, 1), configuration, 8); // palette 1
  k.store(k.integer(word, 0), k.at(configuration, 8), 8);
  k.store(bytesPerRow, k.at(configuration, 16), 8);
  k.store(bytesPerRow, k.at(configuration, 24), 8);
  k.store(k.integer(word, 0), k.at(configuration, 32), 8);
  k.store(k.integer(word, 0), k.at(configuration, 40), 8);
  k.store(rows, k.at(configuration, 48), 8);
  k.store(k.integer(word, 0), k.at(configuration, 56), 8);
  callTile("ldtilecfg", {}, configuration);
}

void MatrixGenerator::emitPanels(const TileOperands &tile, const Group &group, const Pass &pass,
                                 const Rows &rows, Value scratch) {
  // The k that fill no tile: zero-padded copies of the activations, since what follows a row is another row.
  if (pass.depth % kBlockDepth != 0)
    copyLastK(tile, rows, pass, spare);
  Value paired = k.mul(k.div(group.count, 2), 2);
  k.loop(k.index(0), paired, 2, [&](Value panel) { emitSums(tile, group, pass, rows, panel, 2, scratch); });
  k.loop(paired, group.count, 1, [&](Value panel) { emitSums(tile, group, pass, rows, panel, 1, scratch); });
}

void MatrixGenerator::emitSums(const TileOperands &tile, const Group &group, const Pass &pass,
                               const Rows &rows, Value panel, int64_t panels, Value scratch) {
  int64_t numBlocks = llvm::divideCeil(pass.depth, kBlockDepth), panelBytes = numBlocks * kTileBytes;
  Value column = k.mul(k.add(group.first, panel), kPanelColumns);
  auto forSums = [&](llvm::function_ref<void(int64_t, int64_t, Value, Value)> body) {
    for (int64_t row = 0; row < rows.tiles; ++row)
      for (int64_t i = 0; i < panels; ++i) {
        Value first = k.add(column, i * kPanelColumns);
        Value offset = k.add(k.mul(k.add(rows.first, row * kTileRows), tile.outStride), k.mul(first, 4));
        body(row, sumOf(row, i), k.at(tile.out, offset), k.sub(tile.numColumns, first));
      }
  };
  forSums([&](int64_t row, int64_t sum, Value address, Value columns) {
    if (!pass.isFirst)
      return callTile("tilezero", {sum});
    k.when(
        pass.isFirst, [&] { callTile("tilezero", {sum}); },
        [&] { startSum(tile, {rows.first, rowsOfTile(rows, row), 1}, sum, address, columns); });
  });
  Value x = k.at(tile.x, k.add(k.mul(rows.first, tile.xStride), k.mul(pass.firstK, 2)));
  Value weights = k.at(scratch, k.mul(panel, panelBytes));
  int64_t full = pass.depth / kBlockDepth;
  k.loop(k.index(0), k.index(full), 1, [&](Value block) {
    multiply(k.at(x, k.mul(block, kBlockDepth * 2)), tile.xStride, k.at(weights, k.mul(block, kTileBytes)),
             panelBytes, rows.tiles, panels);
  });
  if (full != numBlocks)
    multiply(spare, k.index(kRegisterBytes), k.at(weights, full * kTileBytes), panelBytes, rows.tiles,
             panels);
  forSums([&](int64_t row, int64_t sum, Value address, Value columns) {
    storeSum(tile, {rows.first, rowsOfTile(rows, row), 1}, sum, address, columns);
  });
}

// 32 k: each tile of activations and of weights is loaded once and used for every sum it is part of. Activations pass
// by once for each pair of panels: loaded as a stream they do not drive the weights out of the first level, a third
// of the speed.
void MatrixGenerator::multiply(Value x, Value xStride, Value weights, int64_t panelBytes, int64_t rowTiles,
                               int64_t panels) {
  Type word = k.b.getI64Type();
  Value stride = k.toInteger(xStride, word), pairs = k.integer(word, kPairRow);
  auto product = [&](int64_t row, int64_t panel) {
    callTile("tdpbf16ps", {sumOf(row, panel), kActivations + row, kWeights + panel});
  };
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t row = 0; row < rowTiles; ++row) {
      if (panel == 0)
        callTile("tileloaddt164", {kActivations + row}, {k.at(x, k.mul(xStride, row * kTileRows)), stride});
      if (row == 0)
        callTile("tileloadd64", {kWeights + panel}, {k.at(weights, panel * panelBytes), pairs});
      product(row, panel);
    }
  }
}

// ---- Weights ----
// scratch [panel][k / 2][16 columns][2] = the weights of the pass, rounded to bf16.
void MatrixGenerator::unpackGroup(const TileOperands &tile, const Group &group, const Pass &pass,
                                  Value scratch) {
  int64_t panelBytes = layout.panelBytes(tile.depth);
  int64_t full = pass.depth / kBlockDepth, rest = pass.depth % kBlockDepth, numBlocks = full + (rest != 0);
  Value firstBlock = k.div(pass.firstK, kBlockDepth);
  // While the rows of this pass go by, memory brings what the next pass unpacks: deeper in these panels, or the next.
  Value end = k.mul(k.add(firstBlock, numBlocks), layout.blockBytes());
  Value toNextPanels = k.sub(k.index(shape.panels * panelBytes), k.mul(firstBlock, layout.blockBytes()));
  Value ahead =
      k.select(k.less(end, k.index(panelBytes)), k.index(numBlocks * layout.blockBytes()), toNextPanels);
  auto fetchAhead = [&](Value block) {
    for (int64_t line = 0; line < layout.blockBytes(); line += kRegisterBytes)
      LLVM::Prefetch::create(k.b, k.loc, k.at(k.at(block, ahead), line), /*rw=*/0u, /*hint=*/2u,
                             /*cache=*/1u);
  };
  k.loop(k.index(0), group.count, 1, [&](Value panel) {
    Value source = k.at(tile.weights, k.add(k.mul(k.add(group.first, panel), panelBytes),
                                            k.mul(firstBlock, layout.blockBytes())));
    Value target = k.at(scratch, k.mul(panel, numBlocks * kTileBytes));
    k.loop(k.index(0), k.index(full), 1, [&](Value block) {
      Value here = k.at(source, k.mul(block, layout.blockBytes()));
      fetchAhead(here);
      unpackBlock(here, k.at(target, k.mul(block, kTileBytes)), kBlockDepth);
    });
    if (rest != 0)
      unpackBlock(k.at(source, full * layout.blockBytes()), k.at(target, full * kTileBytes), rest);
  });
}

// Two k side by side, each rounded to bf16, halves away from zero: four integer operations, where the machine's own
// conversion of two vectors and the permutation that it needs take longer than the dequantisation.
static Value pairOf(KernelBuilder &k, Value even, Value odd) {
  VectorType words = k.lanes(k.b.getI32Type());
  auto rounded = [&](Value value) -> Value {
    Value bits = arith::BitcastOp::create(k.b, k.loc, words, value);
    return arith::AddIOp::create(k.b, k.loc, bits, k.integer(words, 0x8000));
  };
  Value low = arith::ShRUIOp::create(k.b, k.loc, rounded(even), k.integer(words, 16));
  Value high = arith::AndIOp::create(k.b, k.loc, rounded(odd), k.integer(words, 0xffff0000));
  return arith::OrIOp::create(k.b, k.loc, low, high);
}

void MatrixGenerator::unpackBlock(Value source, Value target, int64_t count) {
  PanelBlock reader(k, layout, isa, source);
  for (int64_t step = 0; step < kBlockDepth; step += 2) {
    Value even = step < count ? reader.weights(step) : k.lanesOf(0);
    Value odd = step + 1 < count ? reader.weights(step + 1) : k.lanesOf(0);
    k.store(pairOf(k, even, odd), k.at(target, step / 2 * kPairRow), kPairRow);
  }
}

// ---- Partial tiles ----
Value MatrixGenerator::rowsOfTile(const Rows &rows, int64_t rowTile) {
  if (rowTile + 1 < rows.tiles)
    return k.index(kTileRows);
  return k.sub(rows.count, k.index(rowTile * kTileRows));
}

// target [32 rows][32] = the last k of the pass, zeros behind them.
void MatrixGenerator::copyLastK(const TileOperands &tile, const Rows &rows, const Pass &pass, Value target) {
  int64_t full = pass.depth / kBlockDepth * kBlockDepth, rest = pass.depth - full;
  Value x = k.at(tile.x, k.add(k.mul(rows.first, tile.xStride), k.mul(k.add(pass.firstK, full), 2)));
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    for (int64_t half = 0; half < 2; ++half) {
      Value count = k.index(std::clamp<int64_t>(rest - half * kLanes, 0, kLanes));
      Value from = k.at(k.at(x, k.mul(row, tile.xStride)), half * kLanes * 2);
      Value values = k.loadMasked(k.lanes(k.b.getI16Type()), from, k.maskOf(count));
      k.store(values, k.at(k.at(target, k.mul(row, kRegisterBytes)), half * kLanes * 2));
    }
  });
}

// The first `columns` of each row.
void MatrixGenerator::copyColumns(Value from, Value fromStride, Value to, Value toStride, Value numRows,
                                  Value columns) {
  Value mask = k.maskOf(columns);
  k.loop(k.index(0), numRows, 1, [&](Value row) {
    Value values = k.loadMasked(k.lanesF32(), k.at(from, k.mul(row, fromStride)), mask);
    k.storeMasked(values, k.at(to, k.mul(row, toStride)), mask);
  });
}

// Runs `whole` where all 16 columns of a panel exist, `partial` elsewhere; one of them only where that is known.
static void byColumns(KernelBuilder &k, const TileOperands &tile, Value columns,
                      llvm::function_ref<void()> whole, llvm::function_ref<void()> partial) {
  auto fixed = getConstantIntValue(tile.numColumns);
  if (fixed && *fixed % kPanelColumns == 0)
    return whole();
  k.when(k.less(k.index(kPanelColumns - 1), columns), whole, partial);
}

void MatrixGenerator::startSum(const TileOperands &tile, const Rows &rows, int64_t sum, Value address,
                               Value columns) {
  Type word = k.b.getI64Type();
  byColumns(
      k, tile, columns, [&] { callTile("tileloadd64", {sum}, {address, k.toInteger(tile.outStride, word)}); },
      [&] {
        Value stride = k.index(kRegisterBytes), here = k.at(spare, 2 * kTileBytes);
        copyColumns(address, tile.outStride, here, stride, rows.count, columns);
        callTile("tileloadd64", {sum}, {here, k.toInteger(stride, word)});
      });
}

void MatrixGenerator::storeSum(const TileOperands &tile, const Rows &rows, int64_t sum, Value address,
                               Value columns) {
  Type word = k.b.getI64Type();
  byColumns(
      k, tile, columns,
      [&] { callTile("tilestored64", {sum}, {address, k.toInteger(tile.outStride, word)}); },
      [&] {
        Value stride = k.index(kRegisterBytes), here = k.at(spare, 2 * kTileBytes);
        callTile("tilestored64", {sum}, {here, k.toInteger(stride, word)});
        copyColumns(here, stride, address, tile.outStride, rows.count, columns);
      });
}

} // namespace girih::cpu
