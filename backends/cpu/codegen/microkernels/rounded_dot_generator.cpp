// SPDX-License-Identifier: Apache-2.0
// RoundedDotGenerator: implementation.
#include "backends/cpu/codegen/microkernels/rounded_dot_generator.h"

#include "backends/cpu/codegen/microkernels/unpack_formats.h"
#include "dialects/girih/activation_block.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace girih::weights;
using namespace girih::dialect;

namespace girih::cpu {

namespace {

constexpr int64_t kSteps = kBlockDepth / kActivationQuad;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kCentre = 8;    // of u4 codes
constexpr int64_t kSumScale = 8;  // of sums of x beside sums of products
constexpr int64_t kMostOfPairs = 32767;
// Added below a half, and taken from its top bit again, it keeps a negative half from borrowing.
constexpr int64_t kHalfBias = 0x8000;

} // namespace

bool RoundedDotGenerator::takes(const PackedLayout &layout, const IsaTraits &isa) {
  return isa.dots == ByteDots::Unsigned4 && layout.codes == CodeType::U4 && layout.mins != ScaleType::None;
}

// ---- Scratch ----
static int64_t tileBytes(const TileShape &shape) { return kPartRows / 8 * shape.panels * kLineBytes; }
static int64_t endsBytes() { return llvm::alignTo((kPartRows + 1) * 4, kLineBytes); }

int64_t RoundedDotGenerator::scratchBytes(const PackedLayout &layout, const TileShape &shape, int64_t depth) {
  int64_t entries = kPartRows * (shape.depth / kBlockDepth) * kSteps * kEntryBytes;
  return llvm::alignTo(dotScratchBytes(layout, shape, depth), kLineBytes) + kPartColumns * 4 + tileBytes(shape) +
         endsBytes() + entries;
}

RoundedDotGenerator::Places RoundedDotGenerator::placesOf(const TileOperands &part, const Scratch &scratch) {
  int64_t own = llvm::alignTo(dotScratchBytes(layout, shape, part.depth), kLineBytes);
  Value units = k.at(scratch.panels, own), tile = k.at(units, kPartColumns * 4);
  Value ends = k.at(tile, tileBytes(shape));
  return {units, tile, ends, k.at(ends, endsBytes())};
}

// Codes [step][panel], then pairs of scales [group][panel], 64 bytes each.
int64_t RoundedDotGenerator::blockBytes(int64_t panels) const {
  return panels * kLineBytes * (kSteps + layout.numGroups());
}

// ---- Rows ----
// (8 * sum << 16) - 8 * sum; of lanes by shifts, which other ports do than dots: LLVM would make a product of it.
Value RoundedDotGenerator::startFrom(Value minusSum) {
  auto times = [&](int64_t factor) {
    Value bits = k.integer(minusSum.getType(), llvm::Log2_64(uint64_t(factor)));
    return arith::ShLIOp::create(k.b, k.loc, minusSum, bits).getResult();
  };
  Value small = times(kCentre);
  if (llvm::isa<VectorType>(minusSum.getType()))
    small = k.pin(small, isa.architecture->vectorConstraint);
  return k.sub(small, times(kSumScale << 16));
}

// By tile, block, row, quad: neighbours in the list are of different rows where models have outliers in fixed places.
void RoundedDotGenerator::listOutliers(const TileOperands &part, const Pass &pass, const Places &places) {
  Type i32 = k.b.getI32Type();
  forRows(part.numRows, [&](Value firstRow, int64_t rows) {
    Value end = k.at(places.ends, k.mul(firstRow, 4));
    Value first = k.select(k.less(k.index(0), firstRow), k.load(i32, end, 4), k.integer(i32, 0));
    Value x = k.at(part.x, k.add(k.mul(firstRow, part.xStride), k.mul(pass.firstBlock, kActivationBytes)));
    auto count = k.loop(k.index(0), k.index(pass.numBlocks), 1, first, [&](Value block, ValueRange counts) {
      Value number = counts[0], inBlock = k.mul(block, kActivationBytes);
      for (int64_t row = 0; row < rows; ++row) {
        Value xBlock = k.at(x, k.add(inBlock, k.mul(part.xStride, row)));
        Value step = k.toInteger(k.mul(block, kSteps), i32);
        number = addEntries(number, xBlock, k.add(step, k.integer(i32, row << kRowShift)), places);
      }
      return SmallVector<Value>{number};
    });
    k.store(first, end, 4);
    k.store(count[0], k.at(end, rows * 4), 4);
  });
}

Value RoundedDotGenerator::addEntries(Value count, Value xBlock, Value place, const Places &places) {
  Type i32 = k.b.getI32Type();
  Value quads = k.load(i32, k.at(xBlock, kActivationOutliers));
  auto after = k.forBits(quads, kSteps, count, [&](Value quad, ValueRange counts) {
    Value entry = k.at(places.entries, k.mul(k.toIndex(counts[0]), kEntryBytes));
    Value codes = k.at(k.at(xBlock, kActivationOutlierCodes), k.mul(quad, kActivationQuad));
    Value minusSum = k.integer(i32, 0);
    for (int64_t element = 0; element < kActivationQuad; ++element) {
      Value code = k.load(k.b.getI8Type(), k.at(codes, element));
      minusSum = k.sub(minusSum, arith::ExtSIOp::create(k.b, k.loc, i32, code));
    }
    k.store(k.load(i32, codes), entry, 4);
    k.store(k.add(startFrom(minusSum), k.integer(i32, kHalfBias)), k.at(entry, kEntryStart), 4);
    k.store(k.load(i32, k.at(xBlock, kActivationOutlierScale)), k.at(entry, kEntryScale), 4);
    k.store(k.add(place, k.toInteger(quad, i32)), k.at(entry, kEntryPlace), 4);
    return SmallVector<Value>{k.add(counts[0], k.integer(i32, 1))};
  });
  return after[0];
}

// ---- Weights ----
RoundedDotGenerator::Scales RoundedDotGenerator::scalesOf(Value packed, int64_t group) {
  int64_t at = group * layout.groupSize;
  Value scale = loadScales(k, layout, packed, at), offset = k.lanesOf(double(kCentre - layout.codeOffset));
  return {scale, k.fma(scale, offset, loadMins(k, layout, packed, at))};
}

// Of absolute values bits and numbers have one order, in which NaN is the largest.
void RoundedDotGenerator::makeUnits(const TileOperands &part, const Columns &columns, Value units) {
  Type bits = k.lanes(k.b.getI32Type());
  auto sizeOf = [&](Value x) -> Value {
    Value size = LLVM::BitcastOp::create(k.b, k.loc, bits, x);
    return arith::AndIOp::create(k.b, k.loc, size, k.integer(bits, 0x7fffffff));
  };
  int64_t numBlocks = llvm::divideCeil(part.depth, kBlockDepth);
  for (int64_t panel = 0; panel < columns.panels; ++panel) {
    Value packed = k.at(panelAddress(part, columns), panel * layout.panelBytes(part.depth));
    auto largest = k.loop(k.index(0), k.index(numBlocks), 1, k.integer(bits, 0), [&](Value block, ValueRange carried) {
      Value size = carried[0];
      for (int64_t group = 0; group < layout.numGroups(); ++group) {
        Scales of = scalesOf(k.at(packed, k.mul(block, layout.blockBytes())), group);
        size = k.maxOf(size, sizeOf(of.scale));
        size = k.maxOf(size, sizeOf(k.mulf(of.least, k.lanesOf(1.0 / kSumScale))));
      }
      return SmallVector<Value>{size};
    });
    Value size = LLVM::BitcastOp::create(k.b, k.loc, k.lanesF32(), largest[0]);
    Value unit = k.mulf(size, k.lanesOf(1.0 / double(kMostOfPairs)));
    k.store(unit, k.at(units, panel * kLineBytes), kLineBytes);
  }
}

void RoundedDotGenerator::unpack(const TileOperands &part, const Columns &columns, const Pass &pass, Value units,
                                 Value panels) {
  Type bits = k.lanes(k.b.getI32Type());
  SmallVector<Value> inverses;
  for (int64_t panel = 0; panel < columns.panels; ++panel) {
    Value unit = k.load(k.lanesF32(), k.at(units, panel * kLineBytes), kLineBytes);
    Value isZero = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, unit, k.lanesOf(0));
    Value inverse = arith::DivFOp::create(k.b, k.loc, k.lanesOf(1), unit);
    inverses.push_back(k.select(isZero, k.lanesOf(0), inverse));
  }
  auto rounded = [&](Value x) -> Value {
    Value whole = math::RoundEvenOp::create(k.b, k.loc, x);
    return arith::FPToSIOp::create(k.b, k.loc, bits, whole);
  };
  k.loop(k.index(0), k.index(pass.numBlocks), 1, [&](Value block) {
    Value source = k.at(panelAddress(part, columns), k.mul(k.add(pass.firstBlock, block), layout.blockBytes()));
    Value target = k.at(panels, k.mul(block, blockBytes(columns.panels)));
    for (int64_t panel = 0; panel < columns.panels; ++panel) {
      Value packed = k.at(source, panel * layout.panelBytes(part.depth));
      auto line = [&](int64_t number) { return k.at(target, (number * columns.panels + panel) * kLineBytes); };
      for (int64_t step = 0; step < kSteps; ++step)
        k.store(dot.codes(packed, k.index(step)).front(), line(step), kLineBytes);
      for (int64_t group = 0; group < layout.numGroups(); ++group) {
        Scales of = scalesOf(packed, group);
        Value scale = rounded(k.mulf(of.scale, inverses[panel]));
        Value least = rounded(k.mulf(k.mulf(of.least, k.lanesOf(1.0 / kSumScale)), inverses[panel]));
        Value low = arith::AndIOp::create(k.b, k.loc, scale, k.integer(bits, 0xffff));
        Value high = arith::ShLIOp::create(k.b, k.loc, least, k.integer(bits, 16));
        k.store(arith::OrIOp::create(k.b, k.loc, low, high), line(kSteps + group), kLineBytes);
      }
    }
  });
}

// ---- Tiles ----
void RoundedDotGenerator::emitPass(const TileOperands &part, const Pass &pass, const Scratch &scratch) {
  Places places = placesOf(part, scratch);
  listOutliers(part, pass, places);
  forColumns(part, [&](const Columns &columns) {
    Value units = k.at(places.units, k.mul(columns.first, 4));
    k.when(k.less(pass.firstBlock, k.index(1)), [&] { makeUnits(part, columns, units); });
    unpack(part, columns, pass, units, scratch.panels);
    forRows(part.numRows, [&](Value firstRow, int64_t rows) {
      fetchNext(part, columns, firstRow, rows, pass);
      tileOf(part, columns, firstRow, rows, pass, scratch, places);
    });
  });
}

void RoundedDotGenerator::tileOf(const TileOperands &part, const Columns &columns, Value firstRow, int64_t rows,
                                 const Pass &pass, const Scratch &scratch, const Places &places) {
  int64_t panels = columns.panels, numSums = rows * panels;
  bool isWhole = pass.numBlocks * kBlockDepth >= part.depth;
  Value sums = places.tile;
  if (!isWhole)
    sums = k.at(scratch.sums, k.mul(k.add(k.mul(columns.first, kPartRows), k.mul(firstRow, panels * kLanes)), 4));
  Rows of{k.at(part.x, k.add(k.mul(firstRow, part.xStride), k.mul(pass.firstBlock, kActivationBytes))), part.xStride, rows,
          Value()};
  multiplyBlocks(of, panels, pass, scratch.panels, sums);
  addOutliers(rows, panels, firstRow, scratch.panels, places, sums);
  k.when(pass.isLast, [&] {
    for (int64_t number = 0; number < numSums; ++number) {
      int64_t panel = number % panels;
      Value unit = k.load(k.lanesF32(), k.at(k.at(places.units, k.mul(columns.first, 4)), panel * kLineBytes), kLineBytes);
      Value sum = k.load(k.lanesF32(), k.at(sums, number * kLineBytes), kLineBytes);
      storeOut(part, columns, k.add(firstRow, number / panels), panel, k.mulf(sum, unit));
    }
  });
}

Value RoundedDotGenerator::pairs(Value products, Value scales) {
  Type type = k.lanes(k.b.getI32Type()), halves = VectorType::get(2 * kLanes, k.b.getI16Type());
  auto as = [&](Value vector) { return LLVM::BitcastOp::create(k.b, k.loc, halves, vector).getResult(); };
  SmallVector<Value> operands{as(products), as(scales)};
  Value sum = LLVM::CallIntrinsicOp::create(k.b, k.loc, type, k.b.getStringAttr("llvm.x86.avx512.pmaddw.d.512"), operands)
                  .getResult(0);
  return arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), sum);
}

void RoundedDotGenerator::multiplyBlocks(const Rows &rows, int64_t panels, const Pass &pass, Value unpacked, Value sums) {
  int64_t numSums = rows.count * panels;
  Accumulators totals(numSums, k.lanesOf(0));
  if (getConstantIntValue(pass.firstBlock) != 0)
    totals = k.when(k.less(k.index(0), pass.firstBlock), totals, [&] {
      Accumulators taken;
      for (int64_t number = 0; number < numSums; ++number)
        taken.push_back(k.load(k.lanesF32(), k.at(sums, number * kLineBytes), kLineBytes));
      return taken;
    });
  totals = k.loop(k.index(0), k.index(pass.numBlocks), 1, totals, [&](Value block, ValueRange carried) {
    Accumulators inner(carried);
    Rows of{k.at(rows.x, k.mul(block, kActivationBytes)), rows.stride, rows.count, Value()};
    for (int64_t group = 0; group < layout.numGroups(); ++group)
      multiplyGroup(of, panels, k.at(unpacked, k.mul(block, blockBytes(panels))), group, inner);
    return inner;
  });
  for (int64_t number = 0; number < numSums; ++number)
    k.store(totals[number], k.at(sums, number * kLineBytes), kLineBytes);
}

void RoundedDotGenerator::multiplyGroup(const Rows &rows, int64_t panels, Value weights, int64_t group, Accumulators &totals) {
  int64_t numGroups = layout.numGroups(), steps = kSteps / numGroups;
  auto line = [&](int64_t number, int64_t panel) {
    return k.load(k.lanes(k.b.getI32Type()), k.at(weights, (number * panels + panel) * kLineBytes), kLineBytes);
  };
  k.phase();
  SmallVector<ByteDot::Registers> products;
  for (int64_t row = 0; row < rows.count; ++row) {
    int64_t at = kActivationMinusSums + activationSum(numGroups, group);
    Value minusSum = k.splat(k.load(k.b.getI32Type(), k.at(rowOf(rows, row), at)));
    products.append(panels, {startFrom(minusSum)});
  }
  for (int64_t step = group * steps; step < (group + 1) * steps; ++step) {
    SmallVector<ByteDot::Registers> codes;
    for (int64_t panel = 0; panel < panels; ++panel)
      codes.push_back(dot.operand({line(step, panel)}));
    for (int64_t row = 0; row < rows.count; ++row) {
      ByteDot::Registers activations = dot.activations({k.at(rowOf(rows, row), kActivationCodes + step * kActivationQuad)});
      for (int64_t panel = 0; panel < panels; ++panel)
        dot.accumulate(products[row * panels + panel], codes[panel], activations);
    }
  }
  k.phase();
  for (int64_t panel = 0; panel < panels; ++panel) {
    Value scales = line(kSteps + group, panel);
    for (int64_t row = 0; row < rows.count; ++row) {
      Value scale = k.splat(k.load(k.b.getF32Type(), k.at(rowOf(rows, row), kActivationScale)));
      Value &total = totals[row * panels + panel];
      total = pinned(k, k.fma(pairs(products[row * panels + panel][0], scales), scale, total), isa);
    }
  }
}

void RoundedDotGenerator::addOutliers(int64_t rows, int64_t panels, Value firstRow, Value unpacked, const Places &places,
                                      Value sums) {
  Type i32 = k.b.getI32Type(), bits = k.lanes(i32);
  Value ends = k.at(places.ends, k.mul(firstRow, 4));
  Value first = k.toIndex(k.load(i32, ends, 4)), end = k.toIndex(k.load(i32, k.at(ends, rows * 4), 4));
  int64_t stepsOfGroup = kSteps / layout.numGroups();
  k.loop(first, end, 1, [&](Value number) {
    Value entry = k.at(places.entries, k.mul(number, kEntryBytes));
    Value place = k.load(i32, k.at(entry, kEntryPlace), 4);
    auto part = [&](int64_t shift, int64_t mask) -> Value {
      Value shifted = arith::ShRUIOp::create(k.b, k.loc, place, k.integer(i32, shift));
      return k.toIndex(arith::AndIOp::create(k.b, k.loc, shifted, k.integer(i32, mask)));
    };
    Value step = part(0, kSteps - 1), block = part(3, (1 << (kRowShift - 3)) - 1), row = part(kRowShift, 255);
    Value weights = k.at(unpacked, k.mul(block, blockBytes(panels)));
    Value codes = k.at(weights, k.mul(step, panels * kLineBytes));
    Value scales = k.at(weights, k.mul(k.add(k.div(step, stepsOfGroup), kSteps), panels * kLineBytes));
    Value start = k.splat(k.load(i32, k.at(entry, kEntryStart), 4));
    Value scale = k.splat(k.load(k.b.getF32Type(), k.at(entry, kEntryScale), 4));
    ByteDot::Registers activations = dot.activations({entry});
    for (int64_t panel = 0; panel < panels; ++panel) {
      ByteDot::Registers sum{start};
      dot.accumulate(sum, dot.operand({k.load(bits, k.at(codes, panel * kLineBytes), kLineBytes)}), activations);
      Value apart = arith::XOrIOp::create(k.b, k.loc, sum[0], k.integer(bits, kHalfBias));
      Value total = pairs(apart, k.load(bits, k.at(scales, panel * kLineBytes), kLineBytes));
      Value target = k.at(k.at(sums, k.mul(row, panels * kLineBytes)), panel * kLineBytes);
      k.store(k.fma(total, scale, k.load(k.lanesF32(), target, kLineBytes)), target, kLineBytes);
    }
  });
}

} // namespace girih::cpu
