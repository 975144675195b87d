// SPDX-License-Identifier: Apache-2.0
// TileGenerator: implementation. Every path does the same operations on each output element in the same order.
#include "backends/cpu/codegen/microkernels/tile_generator.h"

#include "backends/cpu/codegen/microkernels/unpack_formats.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kLineBytes = 64;
// k steps in one iteration of the panel strategy's inner loop.
constexpr int64_t kUnroll = 4;
// With no more registers than this, LLVM must not load and widen ahead of the multiply-adds.
constexpr int64_t kFewVectors = 8;

}  // namespace

// ---- Direct ----
void TileGenerator::emitDirect(const TileOperands &tile) {
  forColumns(tile, [&](const Columns &columns) {
    forRows(tile.numRows, [&](Value firstRow, int64_t rows) { directTile(tile, columns, firstRow, rows); });
  });
}

void TileGenerator::directTile(const TileOperands &tile, const Columns &columns, Value firstRow, int64_t rows) {
  Value x = k.at(tile.x, k.mul(firstRow, tile.xStride));
  Value weights = panelAddress(tile, columns);
  Accumulators sums(rows * columns.panels, k.lanesOf(0));
  int64_t fullBlocks = tile.depth / kBlockDepth;
  // `panelBytes` must be that of the whole depth, whatever is left for the last block.
  auto blockOf = [&](Value block) { return k.at(weights, k.mul(block, layout.blockBytes())); };
  auto run = [&](Value block, int64_t depth, Accumulators &sums) {
    prefetchAhead(weights, block, columns, tile.depth);
    int64_t panelBytes = layout.panelBytes(tile.depth);
    Value xAtBlock = k.at(x, k.mul(block, kBlockDepth * 4));
    Value first = blockOf(block);
    llvm::SmallVector<PanelBlock> panels;
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      panels.emplace_back(k, layout, isa, k.at(first, panel * panelBytes));
    for (int64_t step = 0; step < depth; ++step) {
      SmallVector<Value> weightVectors;
      for (PanelBlock &panel : panels)
        weightVectors.push_back(panel.weights(step));
      for (int64_t row = 0; row < rows; ++row) {
        Value address = k.at(k.at(xAtBlock, k.mul(tile.xStride, row)), step * 4);
        Value value = k.splat(k.load(k.b.getF32Type(), address));
        for (int64_t panel = 0; panel < columns.panels; ++panel) {
          Value &sum = sums[row * columns.panels + panel];
          sum = k.fma(value, weightVectors[panel], sum);
        }
      }
      if (isa.laneVectors() <= kFewVectors && step % kUnroll == kUnroll - 1) {
        for (Value &sum : sums)
          sum = pinned(k, sum, isa);
        k.phase();
      }
    }
  };
  if (fullBlocks > 0) {
    sums = k.loop(k.index(0), k.index(fullBlocks), 1, sums, [&](Value block, ValueRange carried) {
      Accumulators inner(carried);
      run(block, kBlockDepth, inner);
      return inner;
    });
  }
  if (tile.depth % kBlockDepth != 0)
    run(k.index(fullBlocks), tile.depth % kBlockDepth, sums);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      storeOut(tile, columns, k.add(firstRow, row), panel, sums[row * columns.panels + panel]);
}

// ---- Panel ----
void TileGenerator::emitPanel(const TileOperands &tile, Value scratch) {
  int64_t full = tile.depth / shape.depth;
  forColumns(tile, [&](const Columns &columns) {
    auto pass = [&](Value firstK, int64_t depth) {
      Value firstBlock = k.div(firstK, kBlockDepth);
      unpackPanels(panelAddress(tile, columns), columns.panels, tile.depth, firstBlock, depth, scratch);
      forRows(tile.numRows, [&](Value firstRow, int64_t rows) {
        panelTile(tile, columns, firstRow, rows, firstK, depth, scratch);
      });
    };
    // The sums wait in `out` between passes; a stored and reloaded f32 is the same f32. The first pass starts at 0.
    k.loop(k.index(0), tile.numRows, 1, [&](Value row) {
      for (int64_t panel = 0; panel < columns.panels; ++panel)
        storeOut(tile, columns, row, panel, k.lanesOf(0));
    });
    if (full > 0)
      k.loop(k.index(0), k.index(full), 1, [&](Value block) { pass(k.mul(block, shape.depth), shape.depth); });
    if (tile.depth % shape.depth != 0)
      pass(k.index(full * shape.depth), tile.depth % shape.depth);
  });
}

// scratch [depth][panels][16] = the f32 weights of `depth` k from block `firstBlock` on.
void TileGenerator::unpackPanels(Value weights, int64_t panels, int64_t panelDepth, Value firstBlock, int64_t depth,
                                 Value scratch) {
  int64_t rowBytes = panels * kLanes * 4;
  auto unpack = [&](Value block, int64_t count) {
    Value source = k.at(weights, k.mul(k.add(firstBlock, block), layout.blockBytes()));
    Value target = k.at(scratch, k.mul(block, kBlockDepth * rowBytes));
    for (int64_t panel = 0; panel < panels; ++panel) {
      PanelBlock reader(k, layout, isa, k.at(source, panel * layout.panelBytes(panelDepth)));
      for (int64_t step = 0; step < count; ++step)
        k.store(reader.weights(step), k.at(target, step * rowBytes + panel * kLanes * 4), kLineBytes);
    }
  };
  int64_t full = depth / kBlockDepth;
  if (full > 0)
    k.loop(k.index(0), k.index(full), 1, [&](Value block) { unpack(block, kBlockDepth); });
  if (depth % kBlockDepth != 0)
    unpack(k.index(full), depth % kBlockDepth);
}

// One k: a weight vector per panel, a broadcast per row, rows x panels multiply-adds.
void TileGenerator::multiplyStep(Value x, Value xStride, Value weights, int64_t step, int64_t panels,
                                 Accumulators &sums) {
  SmallVector<Value> weightVectors;
  for (int64_t panel = 0; panel < panels; ++panel)
    weightVectors.push_back(k.load(k.lanesF32(), k.at(weights, (step * panels + panel) * kLanes * 4), kLineBytes));
  for (int64_t row = 0, rows = sums.size() / panels; row < rows; ++row) {
    Value value = k.splat(k.load(k.b.getF32Type(), k.at(k.at(x, k.mul(xStride, row)), step * 4)));
    for (int64_t panel = 0; panel < panels; ++panel)
      sums[row * panels + panel] = k.fma(value, weightVectors[panel], sums[row * panels + panel]);
  }
}

void TileGenerator::panelTile(const TileOperands &tile, const Columns &columns, Value firstRow, int64_t rows,
                              Value firstK, int64_t depth, Value scratch) {
  int64_t panels = columns.panels;
  Accumulators sums;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < panels; ++panel)
      sums.push_back(loadOut(tile, columns, k.add(firstRow, row), panel));
  Value x = k.at(tile.x, k.add(k.mul(firstRow, tile.xStride), k.mul(firstK, 4)));
  auto run = [&](Value first, int64_t count, Accumulators &sums) {
    Value xHere = k.at(x, k.mul(first, 4));
    Value weights = k.at(scratch, k.mul(first, panels * kLanes * 4));
    for (int64_t step = 0; step < count; ++step)
      multiplyStep(xHere, tile.xStride, weights, step, panels, sums);
  };
  int64_t rolled = depth / kUnroll * kUnroll;
  if (rolled > 0) {
    sums = k.loop(k.index(0), k.index(rolled), kUnroll, sums, [&](Value first, ValueRange carried) {
      Accumulators inner(carried);
      run(first, kUnroll, inner);
      return inner;
    });
  }
  if (depth != rolled)
    run(k.index(rolled), depth - rolled, sums);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < panels; ++panel)
      storeOut(tile, columns, k.add(firstRow, row), panel, sums[row * panels + panel]);
}

}  // namespace girih::cpu
