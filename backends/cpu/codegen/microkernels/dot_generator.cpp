// SPDX-License-Identifier: Apache-2.0
// DotGenerator: implementation.
#include "backends/cpu/codegen/microkernels/dot_generator.h"

#include "backends/cpu/codegen/microkernels/unpack_formats.h"
#include "dialects/girih/activation_block.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace girih::weights;
using namespace girih::dialect;

namespace girih::cpu {

namespace {

constexpr int64_t kStepsPerBlock = kBlockDepth / 4;
constexpr int64_t kHalves = kBlockDepth / kActivationHalf;
constexpr int64_t kStepsPerHalf = kStepsPerBlock / kHalves;
constexpr int64_t kLineBytes = 64;
// Rows up to which a panel kernel does not pay for taking the weights apart, and the tile that it then takes.
constexpr int64_t kFewRows = 8;
constexpr int64_t kFewRowTile = 4;

}  // namespace

int64_t dotBlockBytes(const PackedLayout &layout, int64_t panels) {
  int64_t vectors = layout.numGroups() * (layout.mins == ScaleType::None ? 1 : 2);
  return panels * kLineBytes * (kStepsPerBlock + vectors);
}

Value DotGenerator::loadScale(ScaleType type, Value pointer) { return loadScales(k, type, pointer); }

// ---- One block ----
// - offset * sum of the row's codes: what makes a sum over unsigned codes one over signed ones.
Value DotGenerator::startOf(Value xBlock, int64_t half) {
  int64_t offset = dot.codeOffset();
  if (offset == 0)
    return Value();
  Value sum = k.splat(k.load(k.b.getI32Type(), k.at(xBlock, kActivationMinusHalves + half * 4)));
  if (llvm::isPowerOf2_64(offset))
    return arith::ShLIOp::create(k.b, k.loc, sum, k.integer(sum.getType(), llvm::Log2_64(offset)));
  return k.mul(sum, k.integer(sum.getType(), offset));
}

void DotGenerator::addHalf(const Source &source, const Rows &rows, int64_t panel, int64_t half,
                           ArrayRef<Value> products, int64_t panels, Accumulators &sums) {
  int64_t halvesPerGroup = kHalves / layout.numGroups(), group = half / halvesPerGroup;
  bool endsGroup = half % halvesPerGroup == halvesPerGroup - 1;
  Value scale = source.scale(panel, group);
  Value min = layout.mins == ScaleType::None || !endsGroup ? Value() : source.min(panel, group);
  int64_t sumAt = layout.numGroups() == 1 ? kActivationScaledSum : kActivationScaledHalves + group * 4;
  for (int64_t row = 0; row < rows.count; ++row) {
    Value x = k.at(rows.x, k.mul(rows.stride, row));
    auto ofRow = [&](int64_t at) { return k.splat(k.load(k.b.getF32Type(), k.at(x, at))); };
    Value &sum = sums[row * panels + panel];
    Value value = arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), products[row]);
    sum = k.fma(value, k.mulf(scale, ofRow(kActivationScales + half * 4)), sum);
    if (min)
      sum = k.fma(min, ofRow(sumAt), sum);
    sum = dot.pin(sum);  // or its products stay in registers beside those of the next half
  }
}

void DotGenerator::multiplyBlock(const Source &source, const Rows &rows, int64_t firstPanel, int64_t numPanels,
                                 int64_t panels, Accumulators &sums) {
  // Rows by groups that are multiplied together; one that is left over is multiplied twice.
  int64_t together = dot.rowsTogether(), numGroups = llvm::divideCeil(rows.count, together);
  auto rowAt = [&](int64_t row) { return k.at(rows.x, k.mul(rows.stride, std::min(row, rows.count - 1))); };
  for (int64_t half = 0; half < kHalves; ++half) {
    k.phase();
    SmallVector<Value> starts;
    SmallVector<ByteDot::Registers> products;
    for (int64_t group = 0; group < numGroups; ++group) {
      for (int64_t row = group * together; row < (group + 1) * together; ++row)
        starts.push_back(startOf(rowAt(row), half));
      products.append(numPanels, dot.start(ArrayRef(starts).take_back(together)));
    }
    for (int64_t step = half * kStepsPerHalf; step < (half + 1) * kStepsPerHalf; step += dot.stepsTogether()) {
      SmallVector<ByteDot::Registers> codes;
      for (int64_t panel = 0; panel < numPanels; ++panel)
        codes.push_back(dot.operand(source.codes(firstPanel + panel, step)));
      for (int64_t group = 0; group < numGroups; ++group) {
        SmallVector<Value> pointers;
        for (int64_t row = group * together; row < (group + 1) * together; ++row)
          pointers.push_back(k.at(rowAt(row), kActivationCodes + step * 4));
        ByteDot::Registers activations = dot.activations(pointers);
        for (int64_t panel = 0; panel < numPanels; ++panel)
          dot.accumulate(products[group * numPanels + panel], codes[panel], activations);
      }
    }
    k.phase();
    for (int64_t panel = 0; panel < numPanels; ++panel) {
      SmallVector<Value> totals;
      for (int64_t group = 0; group < numGroups; ++group)
        totals.append(dot.total(products[group * numPanels + panel], ArrayRef(starts).slice(group * together, together)));
      addHalf(source, rows, firstPanel + panel, half, totals, panels, sums);
    }
  }
}

// ---- Direct ----
void DotGenerator::emitDirect(const TileOperands &tile) {
  forColumns(tile, [&](const Columns &columns) {
    forRows(tile.numRows, [&](Value firstRow, int64_t rows) { directTile(tile, columns, firstRow, rows); });
  });
}

void DotGenerator::directTile(const TileOperands &tile, const Columns &columns, Value firstRow, int64_t rows) {
  Value x = k.at(tile.x, k.mul(firstRow, tile.xStride));
  Value weights = panelAddress(tile, columns);
  int64_t panelBytes = layout.panelBytes(tile.depth);
  int64_t numBlocks = llvm::divideCeil(tile.depth, kBlockDepth);
  Accumulators sums(rows * columns.panels, k.lanesOf(0));
  sums = k.loop(k.index(0), k.index(numBlocks), 1, sums, [&](Value block, ValueRange carried) {
    Accumulators inner(carried);
    prefetchAhead(weights, block, columns, tile.depth);
    Value packed = k.at(weights, k.mul(block, layout.blockBytes()));
    auto codes = [&](int64_t panel, int64_t step) { return dot.codes(k.at(packed, panel * panelBytes), step); };
    auto scale = [&](int64_t panel, int64_t group) {
      int64_t at = panel * panelBytes + layout.scaleOffsetBytes(0, group * layout.groupSize);
      return loadScale(layout.scales, k.at(packed, at));
    };
    auto min = [&](int64_t panel, int64_t group) {
      int64_t at = panel * panelBytes + layout.minOffsetBytes(0, group * layout.groupSize);
      return loadScale(layout.mins, k.at(packed, at));
    };
    Rows group{k.at(x, k.mul(block, kActivationBytes)), tile.xStride, rows};
    // Panel by panel: only one panel's integer sums live at a time.
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      multiplyBlock({codes, scale, min}, group, panel, 1, columns.panels, inner);
    return inner;
  });
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      storeOut(tile, columns, k.add(firstRow, row), panel, sums[row * columns.panels + panel]);
}

// ---- Panel ----
void DotGenerator::emitPanel(const TileOperands &tile, Value scratch) {
  int64_t numBlocks = llvm::divideCeil(tile.depth, kBlockDepth), blocksPerPass = shape.depth / kBlockDepth;
  auto many = [&] {
    dot.pairRows(true);
    forColumns(tile, [&](const Columns &columns) {
      auto pass = [&](Value firstBlock, int64_t count) {
        unpackPanels(panelAddress(tile, columns), columns.panels, tile.depth, firstBlock, count, scratch);
        forRows(tile.numRows, [&](Value firstRow, int64_t rows) {
          panelTile(tile, columns, firstRow, rows, firstBlock, count, scratch);
        });
      };
      // The sums wait in `out` between passes; a stored and reloaded f32 is the same f32. The first pass starts at 0.
      k.loop(k.index(0), tile.numRows, 1, [&](Value row) {
        for (int64_t panel = 0; panel < columns.panels; ++panel)
          storeOut(tile, columns, row, panel, k.lanesOf(0));
      });
      int64_t full = numBlocks / blocksPerPass;
      if (full > 0)
        k.loop(k.index(0), k.index(full), 1, [&](Value n) { pass(k.mul(n, blocksPerPass), blocksPerPass); });
      if (numBlocks % blocksPerPass != 0)
        pass(k.index(full * blocksPerPass), numBlocks % blocksPerPass);
    });
    dot.pairRows(false);
  };
  k.when(k.less(tile.numRows, k.index(kFewRows + 1)), [&] {
    TileShape whole = shape;
    shape.rows = std::min(shape.rows, kFewRowTile);
    emitDirect(tile);
    shape = whole;
  }, many);
}

// scratch [block]: codes [step][panel], scales [group][panel], mins [group][panel], 64 bytes each.
void DotGenerator::unpackPanels(Value weights, int64_t panels, int64_t panelDepth, Value firstBlock,
                                int64_t numBlocks, Value scratch) {
  k.loop(k.index(0), k.index(numBlocks), 1, [&](Value block) {
    Value source = k.at(weights, k.mul(k.add(firstBlock, block), layout.blockBytes()));
    Value target = k.at(scratch, k.mul(block, dotBlockBytes(layout, panels)));
    auto line = [&](int64_t number, int64_t panel) { return k.at(target, (number * panels + panel) * kLineBytes); };
    for (int64_t panel = 0; panel < panels; ++panel) {
      Value packed = k.at(source, panel * layout.panelBytes(panelDepth));
      for (int64_t step = 0; step < kStepsPerBlock; step += dot.stepsTogether())
        for (auto [number, codes] : llvm::enumerate(dot.codes(packed, step)))
          k.store(codes, line(step + int64_t(number), panel), kLineBytes);
      for (int64_t group = 0; group < layout.numGroups(); ++group) {
        int64_t at = group * layout.groupSize;
        Value scale = loadScale(layout.scales, k.at(packed, layout.scaleOffsetBytes(0, at)));
        k.store(scale, line(kStepsPerBlock + group, panel), kLineBytes);
        if (layout.mins == ScaleType::None)
          continue;
        Value min = loadScale(layout.mins, k.at(packed, layout.minOffsetBytes(0, at)));
        k.store(min, line(kStepsPerBlock + layout.numGroups() + group, panel), kLineBytes);
      }
    }
  });
}

void DotGenerator::panelTile(const TileOperands &tile, const Columns &columns, Value firstRow, int64_t rows,
                             Value firstBlock, int64_t numBlocks, Value scratch) {
  int64_t panels = columns.panels;
  Accumulators sums;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < panels; ++panel)
      sums.push_back(loadOut(tile, columns, k.add(firstRow, row), panel));
  Value x = k.at(tile.x, k.add(k.mul(firstRow, tile.xStride), k.mul(firstBlock, kActivationBytes)));
  sums = k.loop(k.index(0), k.index(numBlocks), 1, sums, [&](Value block, ValueRange carried) {
    Accumulators inner(carried);
    Value unpacked = k.at(scratch, k.mul(block, dotBlockBytes(layout, panels)));
    auto line = [&](Type type, int64_t number, int64_t panel) {
      return k.load(type, k.at(unpacked, (number * panels + panel) * kLineBytes), kLineBytes);
    };
    auto codes = [&](int64_t panel, int64_t step) {
      ByteDot::Lanes lanes;
      for (int64_t number = 0; number < dot.stepsTogether(); ++number)
        lanes.push_back(line(k.lanes(k.b.getI32Type()), step + number, panel));
      return lanes;
    };
    auto scale = [&](int64_t panel, int64_t group) { return line(k.lanesF32(), kStepsPerBlock + group, panel); };
    auto min = [&](int64_t panel, int64_t group) {
      return line(k.lanesF32(), kStepsPerBlock + layout.numGroups() + group, panel);
    };
    multiplyBlock({codes, scale, min}, {k.at(x, k.mul(block, kActivationBytes)), tile.xStride, rows}, 0, panels,
                  panels, inner);
    return inner;
  });
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < panels; ++panel)
      storeOut(tile, columns, k.add(firstRow, row), panel, sums[row * panels + panel]);
}

}  // namespace girih::cpu
