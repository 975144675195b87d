// SPDX-License-Identifier: Apache-2.0
// DotAttentionGenerator: implementation.
#include "backends/cpu/codegen/microkernels/dot_attention_generator.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinAttributes.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kPairBytes = 2 * kPositions * 4; // of 32 columns
constexpr double kLog2E = 1.4426950408889634;
constexpr int64_t kSteps = 64, kWeightBits = 14; // of an octave; of the largest weight
constexpr int64_t kFarthest = 16 * kSteps - 1;   // a weight this far below the largest is 0
constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();
// 128 weights of 2^14 times this stay below 2^31.
constexpr int64_t kMostValue = 1023;

int64_t rowsRounded(const AttentionShape &shape, int64_t maxTokens, int64_t rows) {
  return llvm::alignTo(maxTokens * shape.headsPerGroup, rows);
}

// |q| and |k| at most this, so that no sum over D leaves 32 bits.
int64_t mostOf(int64_t keyDim) {
  return int64_t(std::sqrt(double(std::numeric_limits<int32_t>::max()) / double(keyDim)));
}

Value tableOf(KernelBuilder &k, llvm::function_ref<double(int64_t)> entry, int64_t first) {
  SmallVector<int16_t> entries;
  for (int64_t number = first; number < first + 2 * kLanes; ++number)
    entries.push_back(int16_t(std::min(std::lround(entry(number)), 32767L)));
  auto type = VectorType::get(2 * kLanes, k.b.getI16Type());
  return arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(type, ArrayRef(entries)));
}

} // namespace

DotAttentionGenerator::DotAttentionGenerator(KernelBuilder &k, const AttentionShape &shape,
                                             const AttentionOperands &operands, int64_t maxTokens, Value scratch)
    : AttentionRows(k, shape, operands, rowsRounded(shape, maxTokens, kRows)),
      paddedKeyDim(llvm::alignTo(shape.keyDim(), kLanes)), evenVectors(llvm::alignTo(numVectors, 2)) {
  queriesAt = section(maxRows * paddedKeyDim * 2);
  keysAt = section(kPass * paddedKeyDim * 2);
  keyScalesAt = section(kPass * 4);
  valuesAt = section(kPass * evenVectors * kLanes * 2);
  valueScalesAt = section(evenVectors * kVectorBytes);
  scoresAt = section(kRows * kScoreBytes);
  weightsAt = section(kRows * kWeightBytes);
  outAt = section(maxRows * numVectors * kVectorBytes);
  for (int64_t *ofRows : {&minusScalesAt, &ownAt, &sumsAt, &maximaAt})
    *ofRows = section((maxRows + kLanes) * 4);
  for (int64_t *ofTile : {&passSumsAt, &passMaximaAt, &oldFactorsAt, &newFactorsAt})
    *ofTile = section(kVectorBytes);
  frame = scratch;
}

int64_t DotAttentionGenerator::scratchBytes(const AttentionShape &shape, int64_t maxTokens) {
  int64_t rows = rowsRounded(shape, maxTokens, kRows), keyDim = llvm::alignTo(shape.keyDim(), kLanes);
  int64_t valueDim = llvm::alignTo(shape.valueDim(), kLanes), evenDim = llvm::alignTo(valueDim, 2 * kLanes);
  constexpr int64_t kSections = 16; // each begins at a line
  return rows * (keyDim * 2 + valueDim * 4 + 16) + kPass * (keyDim * 2 + evenDim * 2 + 4) + evenDim * 4 +
         kRows * (kScoreBytes + kWeightBytes) + 8 * kVectorBytes + kSections * kVectorBytes;
}

Value DotAttentionGenerator::call(StringRef intrinsic, Type type, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, type, k.b.getStringAttr(("llvm.x86.avx512." + intrinsic).str()),
                                       operands)
      .getResult(0);
}

Value DotAttentionGenerator::nearest(Value values) {
  Value allLanes = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI16Type(), k.b.getI16IntegerAttr(-1));
  Value currentRounding = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI32Type(), k.b.getI32IntegerAttr(4));
  return call("mask.cvtps2dq.512", integers(), {values, k.integer(integers(), 0), allLanes, currentRounding});
}

// ---- The walk ----
void DotAttentionGenerator::emit(Value numTokens, Value token, Value group, Value cacheGroup) {
  Rows rows = rowsOf(numTokens, token, group, cacheGroup);
  prepareQueries(rows);
  Value endPass = k.add(k.div(k.sub(rows.endPosition, k.index(1)), kPass), 1);
  k.loop(k.div(rows.firstBlock, kPass / kPositions), endPass, 1, [&](Value pass) {
    Value start = k.mul(pass, kPass);
    preparePass(rows, start);
    k.loop(k.index(0), rows.count, kRows, [&](Value row) {
      Tile tile = tileOf(rows, row, start);
      k.when(k.less(tile.firstGroup, tile.endGroup), [&] { meetTile(tile); });
    });
  });
  finish(rows);
}

// Rows behind the last one stand for its token.
Value DotAttentionGenerator::tokenOf(const Rows &rows, Value row) {
  return k.minOf(k.div(row, shape.headsPerGroup), k.sub(rows.numTokens, k.index(1)));
}

void DotAttentionGenerator::prepareQueries(const Rows &rows) {
  k.loop(k.index(0), rows.count, 1, [&](Value row) { prepareQuery(rows, row); });
  Value rounded = k.mul(k.div(k.add(rows.count, kRows - 1), kRows), kRows);
  k.loop(rows.count, rounded, 1, [&](Value row) {
    for (int64_t first = 0; first < paddedKeyDim; first += kLanes)
      k.store(k.integer(VectorType::get(kLanes, k.b.getI16Type()), 0),
              k.at(slot(queriesAt, row, paddedKeyDim * 2), first * 2));
    k.store(k.constF32(0), word(minusScalesAt, row));
  });
  k.loop(k.index(0), rounded, 1, [&](Value row) {
    for (int64_t vector = 0; vector < numVectors; ++vector)
      k.store(k.lanesOf(0), k.at(outSlot(row), vector * kVectorBytes));
    k.store(k.constF32(0), word(sumsAt, row));
    k.store(k.constF32(kNegativeInfinity), word(maximaAt, row));
    k.store(k.toInteger(positionOf(rows, tokenOf(rows, row)), k.b.getI32Type()), word(ownAt, row));
  });
}

// The scale takes a score to steps of an octave below 0, unless a cap stands between.
void DotAttentionGenerator::prepareQuery(const Rows &rows, Value row) {
  double most = double(mostOf(shape.keyDim())), factor = shape.softCap ? 1 / *shape.softCap : kLog2E * kSteps;
  Value source = queryAddress(rows, row), target = slot(queriesAt, row, paddedKeyDim * 2);
  SmallVector<Value> values;
  Value largest = k.lanesOf(0);
  for (int64_t vector = 0; vector * kLanes < shape.keyDim(); ++vector) {
    Value from = k.at(source, vector * kVectorBytes), mask = tailMask(k, vector, shape.keyDim());
    values.push_back(mask ? k.loadMasked(k.lanesF32(), from, mask) : k.load(k.lanesF32(), from));
    largest = k.maxf(math::AbsFOp::create(k.b, k.loc, values.back()), largest);
  }
  Value size = k.reduceTree(largest, [&](Value x, Value y) { return k.maxf(x, y); });
  Value isZero = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, size, k.constF32(0));
  Value inverse = arith::DivFOp::create(k.b, k.loc, k.constF32(most), size);
  inverse = k.splat(k.select(isZero, k.constF32(0), inverse));
  for (auto [vector, value] : llvm::enumerate(values)) {
    Value codes = arith::TruncIOp::create(k.b, k.loc, VectorType::get(kLanes, k.b.getI16Type()),
                                          nearest(k.mulf(value, inverse)));
    k.store(codes, k.at(target, int64_t(vector) * kLanes * 2));
  }
  k.store(k.mulf(size, k.constF32(-shape.scale * factor / most)), word(minusScalesAt, row));
}

void DotAttentionGenerator::finish(const Rows &rows) {
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    Value sum = k.load(k.b.getF32Type(), word(sumsAt, row)), out = outAddress(rows, row);
    Value factor = k.splat(arith::DivFOp::create(k.b, k.loc, k.constF32(1), sum));
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      Value value = k.mulf(k.load(k.lanesF32(), k.at(outSlot(row), vector * kVectorBytes)), factor);
      storeResult(k, value, out, operands.outElement, vector, shape.valueDim());
    }
  });
}

// ---- Keys and values in pairs ----
void DotAttentionGenerator::preparePass(const Rows &rows, Value start) {
  Value firstOfPass = k.div(start, kPositions);
  Value first = k.maxOf(firstOfPass, k.mul(k.div(rows.firstBlock, 2), 2));
  Value end = k.minOf(k.add(firstOfPass, kPass / kPositions), rows.endBlock);
  k.loop(first, end, 2, [&](Value block) {
    Value inPass = k.sub(block, firstOfPass);
    Value target = k.at(k.at(frame, keysAt), k.mul(inPass, paddedKeyDim * kPositions * 2));
    for (int64_t half : {0, 1})
      pairKeys(rows, k.add(block, half), k.at(target, half * kVectorBytes), word(keyScalesAt, k.mul(k.add(inPass, half), kPositions)));
  });
  pairValues(rows, firstOfPass, first, end);
}

// 16 columns, of each the values of two rows, as words of 16 bits.
void DotAttentionGenerator::storePair(Value even, Value odd, Value target) {
  Value high = arith::ShLIOp::create(k.b, k.loc, nearest(odd), k.integer(integers(), 16));
  Value low = arith::AndIOp::create(k.b, k.loc, nearest(even), k.integer(integers(), 0xffff));
  k.store(arith::OrIOp::create(k.b, k.loc, high, low), target, kVectorBytes);
}

// target [D / 2][2 blocks][16 positions][2] = K [D][16 positions] of a block over the scale of each position.
void DotAttentionGenerator::pairKeys(const Rows &rows, Value block, Value target, Value scales) {
  int64_t rowBytes = kPositions * shape.elementBytes(), numPairs = shape.keyDim() / 2;
  Value keys = k.at(blockAddress(rows, block), k.mul(rows.cacheGroup, shape.keyBytes()));
  auto load = [&](Value row) { return loadCache(k.at(keys, k.mul(row, rowBytes))); };
  Value largest = k.loop(k.index(0), k.index(shape.keyDim()), 1, k.lanesOf(0), [&](Value row, ValueRange carried) {
    return SmallVector<Value>{k.maxf(math::AbsFOp::create(k.b, k.loc, load(row)), carried[0])};
  })[0];
  double most = double(mostOf(shape.keyDim()));
  Value scale = k.mulf(largest, k.lanesOf(1 / most));
  if (shape.kv.hasScales())
    scale = k.mulf(scale, scalesOf(rows, block, /*ofValues=*/false));
  k.store(scale, scales);
  Value inverse = arith::DivFOp::create(k.b, k.loc, k.lanesOf(most), largest);  // of zeros, every bit that is kept is 0
  auto scaled = [&](Value row) { return k.mulf(load(row), inverse); };
  k.loop(k.index(0), k.index(numPairs), 1, [&](Value pair) {
    Value row = k.mul(pair, 2);
    storePair(scaled(row), scaled(k.add(row, 1)), k.at(target, k.mul(pair, kPairBytes)));
  });
  for (int64_t pair = numPairs; pair < paddedKeyDim / 2; ++pair) {
    Value last = pair * 2 < shape.keyDim() ? scaled(k.index(pair * 2)) : k.lanesOf(0);
    storePair(last, k.lanesOf(0), k.at(target, pair * kPairBytes));
  }
}

Value DotAttentionGenerator::valuesAt16(const Rows &rows, Value block, Value position, int64_t vector) {
  int64_t rowBytes = shape.valueDim() * shape.elementBytes();
  Value values = k.at(k.at(blockAddress(rows, block), shape.kv.getHeads() * shape.keyBytes()),
                      k.mul(rows.cacheGroup, rowBytes * kPositions));
  Value within = k.minOf(block, k.sub(rows.endBlock, k.index(1)));
  Value last = k.sub(k.sub(rows.endPosition, k.mul(within, kPositions)), k.index(1));
  Value number = k.minOf(position, last);
  Value address = k.at(k.at(values, k.mul(number, rowBytes)), vector * kLanes * shape.elementBytes());
  Value loaded = loadCache(address, tailMask(k, vector, shape.valueDim()));
  if (!shape.kv.hasScales())
    return loaded;
  Value scales = scalesAddress(rows, block, /*ofValues=*/true);
  return k.mulf(loaded, k.splat(k.load(k.b.getF32Type(), k.at(scales, k.mul(number, 4)))));
}

// target [vectors / 2][position / 2][2 vectors][16][2] in the order in which packing puts the weights of two blocks: four of
// the one, four of the other.
void DotAttentionGenerator::pairValues(const Rows &rows, Value firstOfPass, Value first, Value end) {
  Value evenEnd = k.add(first, k.mul(k.div(k.add(k.sub(end, first), 1), 2), 2));
  SmallVector<Value> largest(numVectors, k.lanesOf(0)), inverse;
  largest = k.loop(first, end, 1, largest, [&](Value block, ValueRange outer) {
    return k.loop(k.index(0), k.index(kPositions), 1, outer, [&](Value position, ValueRange carried) {
      SmallVector<Value> next;
      for (int64_t vector = 0; vector < numVectors; ++vector)
        next.push_back(k.maxf(math::AbsFOp::create(k.b, k.loc, valuesAt16(rows, block, position, vector)), carried[vector]));
      return next;
    });
  });
  for (int64_t vector = 0; vector < evenVectors; ++vector) {
    Value size = vector < numVectors ? largest[vector] : k.lanesOf(0);
    k.store(k.mulf(size, k.lanesOf(1.0 / kMostValue)), k.at(frame, valueScalesAt + vector * kVectorBytes));
    inverse.push_back(arith::DivFOp::create(k.b, k.loc, k.lanesOf(kMostValue), size));
  }
  k.loop(first, evenEnd, 2, [&](Value block) {
    Value target = k.at(k.at(frame, valuesAt), k.mul(k.sub(block, firstOfPass), kPositions / 2 * kPairBytes));
    for (int64_t half : {0, 1})
      k.loop(k.index(0), k.index(kPositions / 4), 1, [&](Value four) {
        for (int64_t pair : {0, 1}) {
          Value row = k.at(k.at(target, k.mul(four, 4 * kPairBytes)), (2 * half + pair) * kPairBytes);
          for (int64_t vector = 0; vector < evenVectors; ++vector) {
            auto scaled = [&](int64_t odd) {
              if (vector >= numVectors)
                return k.lanesOf(0);
              Value position = k.add(k.mul(four, 4), 2 * pair + odd);
              return k.mulf(valuesAt16(rows, k.add(block, half), position, vector), inverse[vector]);
            };
            int64_t at = vector / 2 * (kPass / 2) * kPairBytes + vector % 2 * kVectorBytes;
            storePair(scaled(0), scaled(1), k.at(row, at));
          }
        }
      });
  });
}

// ---- Rows meet a pass ----
DotAttentionGenerator::Tile DotAttentionGenerator::tileOf(const Rows &rows, Value row, Value start) {
  Value firstOwn = positionOf(rows, tokenOf(rows, row)), lastOwn = positionOf(rows, tokenOf(rows, k.add(row, kRows - 1)));
  Tile tile = {row, start, k.index(0), {}, {}};
  // What no row sees, at the diagonal and behind a window's edge, is left out.
  if (shape.window)
    tile.firstGroup = k.div(k.sub(k.maxOf(start, firstSeen(k, firstOwn, shape.window)), start), kGroup);
  Value end = k.maxOf(k.minOf(k.add(start, kPass), k.add(lastOwn, 1)), start);
  tile.endGroup = k.div(k.sub(k.add(end, kGroup - 1), start), kGroup);
  Value seen = k.sub(k.maxOf(k.add(firstOwn, 1), start), start);
  tile.cutGroup = shape.window ? tile.firstGroup : k.minOf(k.div(seen, kGroup), tile.endGroup);
  return tile;
}

void DotAttentionGenerator::meetTile(const Tile &tile) {
  k.loop(tile.firstGroup, tile.endGroup, 1, [&](Value group) { multiplyKeys(tile, group); });
  if (shape.softCap)
    capScores(tile);
  findMaxima(tile);
  weigh(tile);
  join(tile);
  multiplyValues(tile);
}

Value DotAttentionGenerator::dot(Value sum, Value x, Value y) {
  return k.pin(call("vpdpwssd.512", integers(), {sum, x, y}), "v");
}

DotAttentionGenerator::Sums DotAttentionGenerator::products(Value left, int64_t stride, Value right, Value numPairs) {
  constexpr int64_t kUnroll = 2;
  Sums initial(kRows * 2, k.integer(integers(), 0));
  return k.loop(k.index(0), numPairs, kUnroll, initial, [&](Value pair, ValueRange carried) {
    Sums sums(carried);
    Value rowsAt = k.at(left, k.mul(pair, 4)), columnsAt = k.at(right, k.mul(pair, kPairBytes));
    for (int64_t inner = 0; inner < kUnroll; ++inner) {
      SmallVector<Value> columns;
      for (int64_t vector : {0, 1})
        columns.push_back(k.load(words(), k.at(columnsAt, inner * kPairBytes + vector * kVectorBytes), kVectorBytes));
      for (int64_t row = 0; row < kRows; ++row) {
        Value both = k.splat(k.load(k.b.getI32Type(), k.at(rowsAt, row * stride + inner * 4)));
        both = LLVM::BitcastOp::create(k.b, k.loc, words(), both);
        for (int64_t vector : {0, 1}) {
          Value &sum = sums[row * 2 + vector];
          sum = dot(sum, both, columns[vector]);
        }
      }
    }
    return sums;
  });
}

Value DotAttentionGenerator::scoreAt(Value row, Value group, int64_t vector) {
  return k.at(k.at(slot(scoresAt, row, kScoreBytes), k.mul(group, kGroup * 4)), vector * kVectorBytes);
}

void DotAttentionGenerator::multiplyKeys(const Tile &tile, Value group) {
  Value keys = k.at(k.at(frame, keysAt), k.mul(group, kGroup * paddedKeyDim * 2));
  Sums sums = products(slot(queriesAt, tile.row, paddedKeyDim * 2), paddedKeyDim * 2, keys, k.index(paddedKeyDim / 2));
  for (int64_t vector : {0, 1}) {
    Value scales = k.load(k.lanesF32(), k.at(word(keyScalesAt, k.mul(group, kGroup)), vector * kVectorBytes));
    for (int64_t row = 0; row < kRows; ++row) {
      Value score = arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), sums[row * 2 + vector]);
      k.store(k.mulf(score, scales), scoreAt(k.index(row), group, vector));
    }
  }
}

// To steps of an octave.
void DotAttentionGenerator::capScores(const Tile &tile) {
  k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
    Value scale = k.splat(k.load(k.b.getF32Type(), word(minusScalesAt, k.add(tile.row, row))));
    k.loop(tile.firstGroup, tile.endGroup, 1, [&](Value group) {
      for (int64_t vector : {0, 1}) {
        Value address = scoreAt(row, group, vector);
        Value capped = emitTanh(k, k.mulf(k.load(k.lanesF32(), address), scale));
        k.store(k.mulf(capped, k.lanesOf(-*shape.softCap * kLog2E * kSteps)), address);
      }
    });
  });
}

// Of all rows, in steps of an octave. Scores of positions that a row does not see become -inf.
void DotAttentionGenerator::findMaxima(const Tile &tile) {
  auto scoreOf = [&](int64_t row, Value group, int64_t vector) {
    return k.load(k.lanesF32(), scoreAt(k.index(row), group, vector));
  };
  SmallVector<Value> largest(kRows, k.lanesOf(kNegativeInfinity));
  largest = k.loop(tile.firstGroup, tile.cutGroup, 1, largest, [&](Value group, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t row = 0; row < kRows; ++row)
      next.push_back(k.maxf(carried[row], k.maxf(scoreOf(row, group, 0), scoreOf(row, group, 1))));
    return next;
  });
  largest = k.loop(tile.cutGroup, tile.endGroup, 1, largest, [&](Value group, ValueRange carried) {
    Value block = k.add(k.div(tile.start, kPositions), k.mul(group, 2));
    SmallVector<Value> next(carried);
    for (int64_t row = 0; row < kRows; ++row) {
      Value own = k.toIndex(k.load(k.b.getI32Type(), word(ownAt, k.add(tile.row, row))));
      for (int64_t vector : {0, 1}) {
        Value seen = seenLanes(own, k.add(block, vector));
        seen = k.select(seen, scoreOf(row, group, vector), k.lanesOf(kNegativeInfinity));
        k.store(seen, scoreAt(k.index(row), group, vector));
        next[row] = k.maxf(next[row], seen);
      }
    }
    return next;
  });
  for (int64_t row = 0; row < kRows; ++row) {
    Value maximum = k.reduceTree(largest[row], [&](Value x, Value y) { return k.maxf(x, y); });
    k.store(maximum, word(passMaximaAt, k.index(row)));
  }
  if (shape.softCap)
    return;
  Value down = k.load(k.lanesF32(), word(minusScalesAt, tile.row)), maxima = k.at(frame, passMaximaAt);
  k.store(k.mulf(k.load(k.lanesF32(), maxima), k.subf(k.lanesOf(0), down)), maxima);
}

// Where nothing is seen every distance is NaN, or more than 2^31: the conversion gives -2^31, packing -2^15, which is far
// as an unsigned number.
void DotAttentionGenerator::weigh(const Tile &tile) {
  SmallVector<Value> sums(kRows, k.integer(integers(), 0));
  sums = k.loop(tile.firstGroup, tile.endGroup, 1, sums, [&](Value group, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t row = 0; row < kRows; ++row) {
      auto number = [&](Value address) { return k.splat(k.load(k.b.getF32Type(), address)); };
      Value top = number(word(passMaximaAt, k.index(row)));
      Value down = shape.softCap ? k.lanesOf(-1) : number(word(minusScalesAt, k.add(tile.row, row)));
      auto distance = [&](int64_t vector) {
        return k.fma(k.load(k.lanesF32(), scoreAt(k.index(row), group, vector)), down, top);
      };
      Value weights = weightsOf(distance(0), distance(1));
      k.store(weights, k.at(slot(weightsAt, k.index(row), kWeightBytes), k.mul(group, kGroup * 2)));
      next.push_back(dot(carried[row], weights, k.integer(words(), 1)));
    }
    return next;
  });
  for (int64_t row = 0; row < kRows; ++row) {
    Value sum = k.reduceTree(sums[row], [&](Value x, Value y) { return k.add(x, y); });
    k.store(arith::SIToFPOp::create(k.b, k.loc, k.b.getF32Type(), sum), word(passSumsAt, k.index(row)));
  }
}

// round(2^(14 - distance / 64)): a fraction of an octave from a table, times a power of 2 from another.
Value DotAttentionGenerator::weightsOf(Value first, Value second) {
  auto fraction = [](int64_t step) { return std::exp2(15 - double(step) / kSteps); };
  auto power = [](int64_t octaves) { return octaves > kWeightBits ? 0 : std::exp2(double(kWeightBits - octaves)); };
  Value steps = call("packssdw.512", words(), {nearest(first), nearest(second)});
  steps = arith::MinUIOp::create(k.b, k.loc, steps, k.integer(words(), kFarthest));
  Value octaves = arith::ShRUIOp::create(k.b, k.loc, steps, k.integer(words(), llvm::Log2_64(kSteps)));
  Value fractions = call("vpermi2var.hi.512", words(), {tableOf(k, fraction, 0), steps, tableOf(k, fraction, 2 * kLanes)});
  Value powers = call("permvar.hi.512", words(), {tableOf(k, power, 0), octaves});
  return call("pmul.hr.sw.512", words(), {fractions, powers});
}

// Sixteen rows at once, of which the tile has the first twelve.
void DotAttentionGenerator::join(const Tile &tile) {
  Value mask = k.maskOf(k.index(kRows));
  auto ofRows = [&](int64_t section) { return k.load(k.lanesF32(), word(section, tile.row)); };
  auto ofTile = [&](int64_t section) { return k.load(k.lanesF32(), k.at(frame, section)); };
  Value old = ofRows(maximaAt), added = ofTile(passMaximaAt), maximum = k.maxf(old, added);
  Value isEmpty = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, maximum, k.lanesOf(kNegativeInfinity));
  Value reference = k.select(isEmpty, k.lanesOf(0), maximum);
  auto factor = [&](Value value) { // 0 where nothing is seen
    return emitExp(k, k.mulf(k.subf(value, reference), k.lanesOf(1 / (kLog2E * kSteps))), /*atMostOne=*/true);
  };
  Value oldFactor = factor(old), newFactor = factor(added);
  k.store(oldFactor, k.at(frame, oldFactorsAt));
  k.store(newFactor, k.at(frame, newFactorsAt));
  Value sums = k.fma(ofTile(passSumsAt), newFactor, k.mulf(ofRows(sumsAt), oldFactor));
  k.storeMasked(sums, word(sumsAt, tile.row), mask);
  k.storeMasked(maximum, word(maximaAt, tile.row), mask);
}

void DotAttentionGenerator::multiplyValues(const Tile &tile) {
  Value weights = k.at(k.at(frame, weightsAt), k.mul(tile.firstGroup, kGroup * 2));
  Value numPairs = k.mul(k.sub(tile.endGroup, tile.firstGroup), kGroup / 2);
  for (int64_t first = 0; first < numVectors; first += 2) {
    Value values = k.at(k.at(frame, valuesAt + first / 2 * (kPass / 2) * kPairBytes),
                        k.mul(tile.firstGroup, kGroup / 2 * kPairBytes));
    Sums sums = products(weights, kWeightBytes, values, numPairs);
    for (int64_t row = 0; row < kRows; ++row) {
      auto factorOf = [&](int64_t section) { return k.splat(k.load(k.b.getF32Type(), k.at(frame, section + row * 4))); };
      Value older = factorOf(oldFactorsAt), newer = factorOf(newFactorsAt);
      for (int64_t vector = first; vector < std::min(first + 2, numVectors); ++vector) {
        Value scales = k.load(k.lanesF32(), k.at(frame, valueScalesAt + vector * kVectorBytes));
        Value sum = arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), sums[row * 2 + vector - first]);
        Value out = k.at(outSlot(k.add(tile.row, row)), vector * kVectorBytes);
        k.store(k.fma(k.mulf(sum, scales), newer, k.mulf(k.load(k.lanesF32(), out), older)), out);
      }
    }
  }
}

} // namespace girih::cpu
