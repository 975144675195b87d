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

constexpr int64_t kStepsPerBlock = kBlockDepth / kActivationQuad;
constexpr int64_t kLineBytes = 64;
// Rows up to which a panel kernel does not pay for taking the weights apart, and the tile that it then takes.
constexpr int64_t kFewRows = 8;
constexpr int64_t kFewRowTile = 4;
// The rows over whose products it is spread that the panels after these are fetched.
constexpr int64_t kRowsOfFetch = 96;

} // namespace

int64_t dotBlockBytes(const PackedLayout &layout, int64_t panels) {
  int64_t vectors = layout.numGroups() * (layout.mins == ScaleType::None ? 2 : 3);
  return panels * kLineBytes * (kStepsPerBlock + vectors);
}

// ---- Scratch: panels, starts, sums ----
static int64_t panelBytesOf(const PackedLayout &layout, const TileShape &shape) {
  return shape.depth / kBlockDepth * dotBlockBytes(layout, shape.panels);
}

// Of a row's starts; a line more, so that those of several rows do not meet in one set of a cache.
static int64_t startStride(const PackedLayout &layout, const TileShape &shape) {
  return llvm::alignTo(shape.depth / kBlockDepth * layout.numGroups() * 4, kLineBytes) + kLineBytes;
}

int64_t dotScratchBytes(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  int64_t sums = shape.depth < depth ? kPartRows * kPartColumns * 4 : 0;
  return panelBytesOf(layout, shape) + kPartRows * startStride(layout, shape) + sums;
}

// ---- One block ----
const DotGenerator::Digit DotGenerator::kCodes = {kActivationCodes, kActivationScale, kActivationMinusSums,
                                                  true};
const DotGenerator::Digit DotGenerator::kOutliers = {kActivationOutlierCodes, kActivationOutlierScale,
                                                     kActivationMinusOutliers, false};

// - offset * sum of the row's codes: what makes a sum over unsigned codes one over signed ones.
Value DotGenerator::startOf(Value xBlock, int64_t group, const Digit &digit) {
  int64_t offset = dot.codeOffset();
  if (offset == 0)
    return Value();
  int64_t at = digit.minusSums + activationSum(layout.numGroups(), group);
  Value sum = k.load(k.b.getI32Type(), k.at(xBlock, at));
  sum = k.mul(sum, k.integer(sum.getType(), offset));
  return dot.sumBase() ? k.add(sum, k.integer(sum.getType(), dot.sumBase())) : sum;
}

Value DotGenerator::startsOf(const Rows &rows, int64_t row, int64_t group, const Digit &digit) {
  Value start;
  if (rows.starts && digit.codes == kCodes.codes) {
    int64_t at = std::min(row, rows.count - 1) * startStride(layout, shape) + group * 4;
    start = k.load(k.b.getI32Type(), k.at(rows.starts, at));
  } else {
    start = startOf(rowOf(rows, row), group, digit);
  }
  return start ? k.splat(start) : Value();
}

void DotGenerator::addScaled(const Source &source, const Rows &rows, Panels panels, int64_t panel,
                             int64_t group, const Digit &digit, ArrayRef<Value> products,
                             Accumulators &sums) {
  Value scale = source.scale(panel, group), base = dot.hasBase() ? source.base(panel, group) : Value();
  Value min = digit.hasMins && layout.mins != ScaleType::None ? source.min(panel, group) : Value();
  for (int64_t row = 0; row < rows.count; ++row) {
    auto ofRow = [&](int64_t at) { return k.splat(k.load(k.b.getF32Type(), k.at(rowOf(rows, row), at))); };
    Value &sum = sums[row * panels.all + panel];
    sum = k.fma(dot.scaled(products[row], scale, base), ofRow(digit.scale), sum);
    if (min)
      sum = k.fma(min, ofRow(kActivationScaledSums + activationSum(layout.numGroups(), group)), sum);
    sum = pinned(k, sum, isa); // or its products stay in registers beside those of the next group
  }
}

void DotGenerator::addStep(const Source &source, const Rows &rows, Panels panels, const Digit &digit,
                           Value step, MutableArrayRef<ByteDot::Registers> products) {
  SmallVector<ByteDot::Registers> codes;
  for (int64_t panel = 0; panel < panels.count; ++panel)
    codes.push_back(dot.operand(source.codes(panels.first + panel, step)));
  int64_t together = dot.rowsTogether();
  for (int64_t first = 0, product = 0; first < rows.count; first += together) {
    SmallVector<Value> pointers;
    for (int64_t row = first; row < first + together; ++row)
      pointers.push_back(k.at(k.at(rowOf(rows, row), digit.codes), k.mul(step, kActivationQuad)));
    ByteDot::Registers activations = dot.activations(pointers);
    for (int64_t panel = 0; panel < panels.count; ++panel)
      dot.accumulate(products[product++], codes[panel], activations);
  }
}

void DotGenerator::addSteps(const Source &source, const Rows &rows, Panels panels, int64_t group,
                            const Digit &digit, Value bits, MutableArrayRef<ByteDot::Registers> products) {
  auto widen = [&] {
    for (ByteDot::Registers &sums : products)
      dot.widen(sums);
  };
  if (!bits) {
    int64_t count = kStepsPerBlock / layout.numGroups();
    for (int64_t step = 0; step < count; step += dot.stepsTogether()) {
      addStep(source, rows, panels, digit, k.index(group * count + step), products);
      if ((step + 1) % dot.shortSteps() == 0 || step + dot.stepsTogether() >= count)
        widen();
    }
    return;
  }
  auto take = [&](ValueRange values) {
    for (ByteDot::Registers &registers : products)
      for (Value &value : registers) {
        value = values.front();
        values = values.drop_front();
      }
  };
  auto flat = [&] {
    SmallVector<Value> values;
    for (const ByteDot::Registers &registers : products)
      llvm::append_range(values, registers);
    return values;
  };
  int64_t most = kStepsPerBlock / layout.numGroups() / dot.stepsTogether();
  take(k.forBits(bits, most, flat(), [&](Value step, ValueRange carried) {
    take(carried);
    addStep(source, rows, panels, digit, step, products);
    widen(); // how many steps there are is not known
    return flat();
  }));
}

void DotGenerator::addGroup(const Source &source, const Rows &rows, Panels panels, int64_t group,
                            const Digit &digit, Value bits, Accumulators &sums) {
  k.phase();
  SmallVector<Value> starts;
  SmallVector<ByteDot::Registers> products;
  int64_t together = dot.rowsTogether();
  bool isLone = rows.count == 1 && panels.count == 1;
  for (int64_t first = 0; first < rows.count; first += together) {
    for (int64_t row = first; row < first + together; ++row)
      starts.push_back(startsOf(rows, row, group, digit));
    products.append(panels.count, dot.start(ArrayRef(starts).take_back(together), isLone));
  }
  addSteps(source, rows, panels, group, digit, bits, products);
  k.phase();
  for (int64_t panel = 0; panel < panels.count; ++panel) {
    SmallVector<Value> totals;
    for (int64_t first = 0; first < rows.count; first += together) {
      const ByteDot::Registers &ofRows = products[first / together * panels.count + panel];
      totals.append(dot.total(ofRows, ArrayRef(starts).slice(first, together)));
    }
    addScaled(source, rows, panels, panels.first + panel, group, digit, totals, sums);
  }
}

// Bits 2n and 2n + 1 as the bit 2n.
static Value evenOf(KernelBuilder &k, Value bits) {
  Value odd = arith::ShRUIOp::create(k.b, k.loc, bits, k.integer(bits.getType(), 1));
  Value either = arith::OrIOp::create(k.b, k.loc, bits, odd);
  return arith::AndIOp::create(k.b, k.loc, either, k.integer(bits.getType(), 0x55555555));
}

void DotGenerator::addOutliers(const Source &source, const Rows &rows, int64_t panels, int64_t together,
                               Accumulators &sums) {
  Value quads;
  for (int64_t row = 0; row < rows.count; ++row) {
    Value ofRow = k.load(k.b.getI32Type(), k.at(rowOf(rows, row), kActivationOutliers));
    quads = quads ? arith::OrIOp::create(k.b, k.loc, quads, ofRow).getResult() : ofRow;
  }
  Type type = quads.getType();
  if (dot.stepsTogether() == 2) // the even ones stand for both
    quads = evenOf(k, quads);
  Value any = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, quads, k.integer(type, 0));
  sums = k.when(any, sums, [&] {
    Accumulators inner = sums;
    int64_t numGroups = layout.numGroups(), steps = kStepsPerBlock / numGroups;
    for (int64_t group = 0; group < numGroups; ++group) {
      Value ofGroup = k.integer(type, ((1 << steps) - 1) << group * steps);
      Value bits = numGroups == 1 ? quads : arith::AndIOp::create(k.b, k.loc, quads, ofGroup).getResult();
      for (int64_t first = 0; first < panels; first += together)
        addGroup(source, rows, {first, together, panels}, group, kOutliers, bits, inner);
    }
    return inner;
  });
  sums.front().getDefiningOp()->setAttr("girih.outliers", k.b.getUnitAttr());
}

void DotGenerator::multiplyBlock(const Source &source, const Rows &rows, int64_t panels, int64_t together,
                                 Accumulators &sums) {
  for (int64_t first = 0; first < panels; first += together)
    for (int64_t group = 0; group < layout.numGroups(); ++group)
      addGroup(source, rows, {first, together, panels}, group, kCodes, Value(), sums);
  addOutliers(source, rows, panels, together, sums);
}

// ---- Direct ----
void DotGenerator::emitDirect(const TileOperands &tile) {
  forColumns(tile, [&](const Columns &columns) {
    forRows(tile.numRows, [&](Value firstRow, int64_t rows) { directTile(tile, columns, firstRow, rows); });
  });
}

void DotGenerator::directTile(const TileOperands &tile, const Columns &columns, Value firstRow,
                              int64_t rows) {
  Value x = k.at(tile.x, k.mul(firstRow, tile.xStride));
  Value weights = panelAddress(tile, columns);
  int64_t panelBytes = layout.panelBytes(tile.depth);
  int64_t numBlocks = llvm::divideCeil(tile.depth, kBlockDepth);
  Accumulators sums(rows * columns.panels, k.lanesOf(0));
  sums = k.loop(k.index(0), k.index(numBlocks), 1, sums, [&](Value block, ValueRange carried) {
    Accumulators inner(carried);
    prefetchAhead(weights, block, columns, tile.depth);
    fetchBeside(tile, k.add(k.mul(k.div(columns.first, columns.panels * kPanelColumns), numBlocks), block), 0, 1);
    Value packed = k.at(weights, k.mul(block, layout.blockBytes()));
    auto codes = [&](int64_t panel, Value step) { return dot.codes(k.at(packed, panel * panelBytes), step); };
    auto scale = [&](int64_t panel, int64_t group) {
      return loadScales(k, layout, k.at(packed, panel * panelBytes), group * layout.groupSize);
    };
    auto min = [&](int64_t panel, int64_t group) {
      return loadMins(k, layout, k.at(packed, panel * panelBytes), group * layout.groupSize);
    };
    auto base = [&](int64_t panel, int64_t group) { return dot.baseOf(scale(panel, group)); };
    Rows group{k.at(x, k.mul(block, kActivationBytes)), tile.xStride, rows, Value()};
    multiplyBlock({codes, scale, min, base}, group, columns.panels, 1, inner);
    return inner;
  });
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      storeOut(tile, columns, k.add(firstRow, row), panel, sums[row * columns.panels + panel]);
}

// ---- Panel ----
void DotGenerator::emitPanel(const TileOperands &tile, Value scratch) {
  Value starts = k.at(scratch, panelBytesOf(layout, shape));
  Scratch places{scratch, starts, k.at(starts, kPartRows * startStride(layout, shape))};
  auto many = [&] {
    dot.pairRows(true);
    forParts(tile, [&](const TileOperands &part) { emitPart(part, places); });
    dot.pairRows(false);
  };
  k.when(
      k.less(tile.numRows, k.index(kFewRows + 1)),
      [&] {
        TileShape whole = shape;
        shape.rows = std::min(shape.rows, kFewRowTile);
        emitDirect(tile);
        shape = whole;
      },
      many);
}

void DotGenerator::forParts(const TileOperands &tile, llvm::function_ref<void(const TileOperands &)> body) {
  auto ofRows = [&](TileOperands part) {
    k.loop(k.index(0), tile.numRows, kPartRows, [&](Value first) {
      TileOperands rows = part;
      rows.x = k.at(part.x, k.mul(first, part.xStride));
      rows.out = k.at(part.out, k.mul(first, part.outStride));
      rows.numRows = k.minOf(k.sub(part.numRows, first), k.index(kPartRows));
      body(rows);
    });
  };
  auto fixed = getConstantIntValue(tile.numColumns);
  if (fixed && *fixed <= kPartColumns)
    return ofRows(tile);
  k.loop(k.index(0), tile.numColumns, kPartColumns, [&](Value first) {
    TileOperands part = tile;
    part.weights = k.at(tile.weights, k.mul(k.div(first, kPanelColumns), layout.panelBytes(tile.depth)));
    part.out = k.at(tile.out, k.mul(first, 4));
    part.numColumns = k.minOf(k.sub(tile.numColumns, first), k.index(kPartColumns));
    ofRows(part);
  });
}

void DotGenerator::emitPart(const TileOperands &part, const Scratch &scratch) {
  int64_t numBlocks = llvm::divideCeil(part.depth, kBlockDepth), blocksPerPass = shape.depth / kBlockDepth;
  int64_t full = numBlocks / blocksPerPass, left = numBlocks % blocksPerPass;
  auto is = [&](bool value) { return k.integer(k.b.getI1Type(), value); };
  if (full == 0 || numBlocks == blocksPerPass)
    return emitPass(part, {k.index(0), numBlocks, is(true)}, scratch);
  k.loop(k.index(0), k.index(full), 1, [&](Value number) {
    Value isLast = left == 0 ? k.less(k.index(full - 1), k.add(number, 1)) : is(false);
    emitPass(part, {k.mul(number, blocksPerPass), blocksPerPass, isLast}, scratch);
  });
  if (left > 0)
    emitPass(part, {k.index(full * blocksPerPass), left, is(true)}, scratch);
}

void DotGenerator::emitPass(const TileOperands &part, const Pass &pass, const Scratch &scratch) {
  if (hasStarts(part))
    makeStarts(part, pass, scratch.starts);
  forColumns(part, [&](const Columns &columns) {
    unpackPanels(panelAddress(part, columns), columns.panels, part.depth, pass, scratch.panels);
    forRows(part.numRows, [&](Value firstRow, int64_t rows) {
      fetchNext(part, columns, firstRow, rows, pass);
      panelTile(part, columns, firstRow, rows, pass, scratch);
    });
  });
}

// What each sum begins with is of a row and a block: made once for several tiles of columns, it is a load that fills all
// lanes.
bool DotGenerator::hasStarts(const TileOperands &part) {
  auto columns = getConstantIntValue(part.numColumns);
  return dot.codeOffset() && (!columns || *columns > shape.panels * kPanelColumns);
}

void DotGenerator::makeStarts(const TileOperands &part, const Pass &pass, Value starts) {
  int64_t numGroups = layout.numGroups();
  k.loop(k.index(0), part.numRows, 1, [&](Value row) {
    Value x = k.at(part.x, k.add(k.mul(row, part.xStride), k.mul(pass.firstBlock, kActivationBytes)));
    Value target = k.at(starts, k.mul(row, startStride(layout, shape)));
    k.loop(k.index(0), k.index(pass.numBlocks), 1, [&](Value block) {
      for (int64_t group = 0; group < numGroups; ++group) {
        Value start = startOf(k.at(x, k.mul(block, kActivationBytes)), group, kCodes);
        k.store(start, k.at(target, k.add(k.mul(block, numGroups * 4), group * 4)), 4);
      }
    });
  });
}

// The panels that come next, while the first rows are multiplied: taken apart, they would wait for memory line by line.
// After a part's last ones those of the next pass, or else what lies behind.
void DotGenerator::fetchNext(const TileOperands &part, const Columns &columns, Value firstRow, int64_t rows,
                             const Pass &pass) {
  int64_t panelBytes = layout.panelBytes(part.depth), bytes = pass.numBlocks * layout.blockBytes();
  int64_t bytesOfRow = llvm::alignTo(llvm::divideCeil(bytes, kRowsOfFetch), kLineBytes);
  k.when(k.less(firstRow, k.index(kRowsOfFetch)), [&] {
    Value after = k.add(columns.first, columns.panels * kPanelColumns);
    Value goesOn = k.less(after, part.numColumns);
    goesOn = arith::OrIOp::create(k.b, k.loc, goesOn, pass.isLast);
    auto either = [&](Value then, Value otherwise) -> Value {
      return arith::SelectOp::create(k.b, k.loc, goesOn, then, otherwise);
    };
    Value panel = either(k.div(after, kPanelColumns), k.index(0));
    Value block = either(pass.firstBlock, k.add(pass.firstBlock, pass.numBlocks));
    Value offset = k.add(k.mul(panel, panelBytes), k.mul(block, layout.blockBytes()));
    Value place = k.at(part.weights, k.add(offset, k.mul(firstRow, bytesOfRow)));
    for (int64_t panel = 0; panel < columns.panels; ++panel)
      for (int64_t line = 0; line < rows * bytesOfRow; line += kLineBytes)
        k.prefetch(k.at(place, panel * panelBytes + line), /*level=*/2);
  });
}

// scratch [block]: codes [step][panel], scales [group][panel], bases [group][panel], mins [group][panel], 64 bytes each.
void DotGenerator::unpackPanels(Value weights, int64_t panels, int64_t panelDepth, const Pass &pass, Value scratch) {
  k.loop(k.index(0), k.index(pass.numBlocks), 1, [&](Value block) {
    Value source = k.at(weights, k.mul(k.add(pass.firstBlock, block), layout.blockBytes()));
    Value target = k.at(scratch, k.mul(block, dotBlockBytes(layout, panels)));
    auto line = [&](Value number, int64_t panel) {
      return k.at(target, k.mul(k.add(k.mul(number, panels), panel), kLineBytes));
    };
    for (int64_t panel = 0; panel < panels; ++panel) {
      Value packed = k.at(source, panel * layout.panelBytes(panelDepth));
      for (int64_t step = 0; step < kStepsPerBlock; step += dot.stepsTogether())
        for (auto [number, codes] : llvm::enumerate(dot.codes(packed, k.index(step))))
          k.store(codes, line(k.index(step + int64_t(number)), panel), kLineBytes);
      for (int64_t group = 0; group < layout.numGroups(); ++group) {
        int64_t at = group * layout.groupSize;
        Value scale = loadScales(k, layout, packed, at);
        k.store(scale, line(k.index(kStepsPerBlock + group), panel), kLineBytes);
        if (Value base = dot.baseOf(scale))
          k.store(base, line(k.index(kStepsPerBlock + layout.numGroups() + group), panel), kLineBytes);
        if (layout.mins == ScaleType::None)
          continue;
        Value min = loadMins(k, layout, packed, at);
        k.store(min, line(k.index(kStepsPerBlock + 2 * layout.numGroups() + group), panel), kLineBytes);
      }
    }
  });
}

void DotGenerator::panelTile(const TileOperands &part, const Columns &columns, Value firstRow, int64_t rows,
                             const Pass &pass, const Scratch &scratch) {
  int64_t panels = columns.panels;
  Value place = k.at(scratch.sums, k.mul(k.add(k.mul(columns.first, kPartRows), k.mul(firstRow, panels * kLanes)), 4));
  auto waiting = [&](int64_t number) { return k.at(place, number * kLineBytes); };
  Accumulators sums(rows * panels, k.lanesOf(0));
  auto taken = [&] {
    Accumulators sums;
    for (int64_t number = 0; number < rows * panels; ++number)
      sums.push_back(k.load(k.lanesF32(), waiting(number), kLineBytes));
    return sums;
  };
  bool isWhole = pass.numBlocks * kBlockDepth >= part.depth;
  if (!isWhole)
    sums = k.when(k.less(k.index(0), pass.firstBlock), sums, taken);
  Value x = k.at(part.x, k.add(k.mul(firstRow, part.xStride), k.mul(pass.firstBlock, kActivationBytes)));
  Value starts = hasStarts(part) ? k.at(scratch.starts, k.mul(firstRow, startStride(layout, shape))) : Value();
  sums = k.loop(k.index(0), k.index(pass.numBlocks), 1, sums, [&](Value block, ValueRange carried) {
    Accumulators inner(carried);
    Value unpacked = k.at(scratch.panels, k.mul(block, dotBlockBytes(layout, panels)));
    auto line = [&](Type type, Value number, int64_t panel) {
      return k.load(type, k.at(unpacked, k.mul(k.add(k.mul(number, panels), panel), kLineBytes)), kLineBytes);
    };
    auto codes = [&](int64_t panel, Value step) {
      ByteDot::Lanes lanes;
      for (int64_t number = 0; number < dot.stepsTogether(); ++number)
        lanes.push_back(line(k.lanes(k.b.getI32Type()), k.add(step, number), panel));
      return lanes;
    };
    auto scale = [&](int64_t panel, int64_t group) {
      return line(k.lanesF32(), k.index(kStepsPerBlock + group), panel);
    };
    auto base = [&](int64_t panel, int64_t group) {
      return line(k.lanesF32(), k.index(kStepsPerBlock + layout.numGroups() + group), panel);
    };
    auto min = [&](int64_t panel, int64_t group) {
      return line(k.lanesF32(), k.index(kStepsPerBlock + 2 * layout.numGroups() + group), panel);
    };
    Rows group{k.at(x, k.mul(block, kActivationBytes)), part.xStride, rows,
               starts ? k.at(starts, k.mul(block, layout.numGroups() * 4)) : Value()};
    multiplyBlock({codes, scale, min, base}, group, panels, panels, inner);
    return inner;
  });
  auto storeAll = [&] {
    for (int64_t number = 0; number < rows * panels; ++number)
      storeOut(part, columns, k.add(firstRow, number / panels), number % panels, sums[number]);
  };
  if (isWhole)
    return storeAll();
  k.when(pass.isLast, storeAll, [&] {
    for (int64_t number = 0; number < rows * panels; ++number)
      k.store(sums[number], waiting(number), kLineBytes);
  });
}

} // namespace girih::cpu
