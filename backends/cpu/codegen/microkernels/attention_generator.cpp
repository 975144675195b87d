// SPDX-License-Identifier: Apache-2.0
// AttentionGenerator: implementation. Every formula is per row, so a row's bits do not depend on its neighbours.
#include "backends/cpu/codegen/microkernels/attention_generator.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include <cstddef>
#include <limits>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
static_assert(kPositions == kLanes, "one vector holds the scores of one KV block");
constexpr int64_t kVectorBytes = kLanes * 4;
// KV blocks whose scores are computed side by side where there are few rows: one row alone is a single chain of
// dependent multiply-adds, and would wait for each of them.
constexpr int64_t kMaxChunkBlocks = 4;
constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

int64_t vectorsOf(int64_t extent) { return (extent + kLanes - 1) / kLanes; }

}  // namespace

int64_t attentionFrameBytes(const AttentionShape &shape, int64_t numTokens) {
  int64_t rowBytes = (kMaxChunkBlocks + 1) * kVectorBytes + 2 * 4 + vectorsOf(shape.valueDim) * kVectorBytes;
  return numTokens * shape.headsPerGroup * rowBytes + 64;
}

AttentionGenerator::AttentionGenerator(KernelBuilder &k, const IsaTraits &isa, const AttentionShape &shape,
                                       const AttentionOperands &operands, int64_t maxTokens)
    : k(k), isa(isa), shape(shape), operands(operands), elementBytes(shape.element.getIntOrFloatBitWidth() / 8),
      numVectors(vectorsOf(shape.valueDim)) {
  int64_t rows = maxTokens * shape.headsPerGroup;
  scoresAt = 0;
  sumsAt = scoresAt + kMaxChunkBlocks * rows * kVectorBytes;
  outAt = sumsAt + rows * kVectorBytes;
  maxAt = outAt + rows * numVectors * kVectorBytes;
  factorAt = maxAt + rows * 4;
  frame = k.frameBytes(attentionFrameBytes(shape, maxTokens));
}

// ---- Addresses ----
Value AttentionGenerator::slot(int64_t section, Value row, int64_t rowBytes) {
  return k.at(k.at(frame, k.mul(row, rowBytes)), section);
}

Value AttentionGenerator::rowAddress(Value base, Value tokenStride, Value headStride, const Rows &rows, Value row) {
  Value token = k.add(rows.token, k.div(row, shape.headsPerGroup));
  Value head = k.add(k.mul(rows.group, shape.headsPerGroup), k.rem(row, k.index(shape.headsPerGroup)));
  return k.at(k.at(base, k.mul(token, tokenStride)), k.mul(head, headStride));
}

Value AttentionGenerator::stepInt(size_t field, Value number) {
  return k.toIndex(k.load(k.b.getI32Type(), k.at(k.stepPointer(field), k.mul(number, 4))));
}

// 16 elements of the cache as f32.
Value AttentionGenerator::loadCache(Value pointer, Value mask) {
  VectorType stored = k.lanes(shape.element);
  Value loaded = mask ? k.loadMasked(stored, pointer, mask) : k.load(stored, pointer);
  return shape.element.isF32() ? loaded : arith::ExtFOp::create(k.b, k.loc, k.lanesF32(), loaded).getResult();
}

// Null where all 16 values exist.
Value AttentionGenerator::valueMask(int64_t vector) {
  int64_t left = shape.valueDim - vector * kLanes;
  return left >= kLanes ? Value() : k.maskOf(k.index(left));
}

void AttentionGenerator::forRowTiles(int64_t numRows, int64_t tile, llvm::function_ref<void(Value, int64_t)> body) {
  int64_t full = numRows / tile * tile;
  if (full == tile)
    body(k.index(0), tile);
  else if (full > 0)
    k.loop(k.index(0), k.index(full), tile, [&](Value row) { body(row, tile); });
  if (full != numRows)
    body(k.index(full), numRows - full);
}

// ---- The kernel ----
void AttentionGenerator::emit(int64_t numTokens, Value token, Value group, Value cacheGroup) {
  Rows rows = {numTokens * shape.headsPerGroup, token, group};
  Value first = k.add(operands.firstToken, token);
  Value sequence = stepInt(offsetof(girih_step_args, token_sequences), first);
  Value firstPosition = stepInt(offsetof(girih_step_args, positions), first);
  Value lastPosition = stepInt(offsetof(girih_step_args, positions), k.add(first, numTokens - 1));
  Value stride = k.stepInteger(offsetof(girih_step_args, block_table_stride));
  Value table = k.at(k.stepPointer(offsetof(girih_step_args, block_tables)), k.mul(k.mul(sequence, stride), 4));
  Value firstBlock = k.index(0);
  if (shape.window)
    firstBlock = k.div(k.maxOf(k.sub(firstPosition, k.index(*shape.window - 1)), k.index(0)), kPositions);
  Value endPosition = k.add(lastPosition, 1);
  Value endBlock = k.add(k.div(lastPosition, kPositions), 1);

  clearState(rows);
  auto blockAddress = [&](Value number) {
    Value block = k.toIndex(k.load(k.b.getI32Type(), k.at(table, k.mul(number, 4))));
    return k.at(operands.cache, k.mul(block, shape.blockBytes));
  };
  int64_t keyBytes = shape.keyDim * kPositions * elementBytes;
  int64_t valueBytes = shape.valueDim * kPositions * elementBytes;
  int64_t chunk = std::clamp<int64_t>((isa.laneVectors - 2) / rows.count, 1, kMaxChunkBlocks);
  k.loop(firstBlock, endBlock, chunk, [&](Value first) {
    SmallVector<Value> keys;
    for (int64_t block = 0; block < chunk; ++block) {
      // Past the end the last block's scores are computed again, and not used.
      Value number = k.minOf(k.add(first, block), k.sub(endBlock, k.index(1)));
      keys.push_back(k.at(blockAddress(number), k.mul(cacheGroup, keyBytes)));
    }
    scores(rows, keys);
    auto fold = [&](Value number, Value firstScore) {
      Value values = k.at(k.at(blockAddress(number), shape.numGroups * keyBytes), k.mul(cacheGroup, valueBytes));
      Value blockStart = k.mul(number, kPositions);
      softmax(rows, numTokens, blockStart, firstScore);
      // Slots after the last position may hold anything, even NaN: they are not read.
      accumulate(rows, values, k.minOf(k.sub(endPosition, blockStart), k.index(kPositions)), firstScore);
    };
    if (chunk == 1)
      return fold(first, k.index(0));
    k.loop(first, k.minOf(k.add(first, chunk), endBlock), 1,
           [&](Value number) { fold(number, k.mul(k.sub(number, first), rows.count)); });
  });
  finish(rows);
}

void AttentionGenerator::clearState(const Rows &rows) {
  k.loop(k.index(0), k.index(rows.count), 1, [&](Value row) {
    k.store(k.lanesOf(0), slot(sumsAt, row, kVectorBytes));
    k.store(k.constF32(kNegativeInfinity), slot(maxAt, row, 4));
    for (int64_t vector = 0; vector < numVectors; ++vector)
      k.store(k.lanesOf(0), k.at(slot(outAt, row, numVectors * kVectorBytes), vector * kVectorBytes));
  });
}

// scores[block][row][u] = sum over ascending d of q[row, d] * K[block][d][u]; each K is read once for as many rows as
// registers hold.
void AttentionGenerator::scores(const Rows &rows, ArrayRef<Value> keys) {
  int64_t numBlocks = static_cast<int64_t>(keys.size());
  int64_t tile = std::min(rows.count, isa.laneVectors - 2);
  constexpr int64_t kUnroll = 4;
  forRowTiles(rows.count, tile, [&](Value firstRow, int64_t numRows) {
    SmallVector<Value> queries, sums(numRows * numBlocks, k.lanesOf(0));
    for (int64_t row = 0; row < numRows; ++row)
      queries.push_back(rowAddress(operands.q, operands.qTokenStride, operands.qHeadStride, rows,
                                   k.add(firstRow, row)));
    auto step = [&](Value depth, int64_t count, SmallVector<Value> &sums) {
      for (int64_t inner = 0; inner < count; ++inner) {
        SmallVector<Value> loaded;
        for (Value key : keys)
          loaded.push_back(loadCache(k.at(k.at(key, k.mul(depth, kPositions * elementBytes)),
                                          inner * kPositions * elementBytes)));
        for (int64_t row = 0; row < numRows; ++row) {
          Value value = k.splat(k.load(k.b.getF32Type(), k.at(k.at(queries[row], k.mul(depth, 4)), inner * 4)));
          for (int64_t block = 0; block < numBlocks; ++block)
            sums[block * numRows + row] = k.fma(value, loaded[block], sums[block * numRows + row]);
        }
      }
    };
    int64_t rolled = shape.keyDim / kUnroll * kUnroll;
    if (rolled > 0) {
      sums = k.loop(k.index(0), k.index(rolled), kUnroll, sums, [&](Value depth, ValueRange carried) {
        SmallVector<Value> inner(carried);
        step(depth, kUnroll, inner);
        return inner;
      });
    }
    if (rolled != shape.keyDim)
      step(k.index(rolled), shape.keyDim - rolled, sums);
    for (int64_t block = 0; block < numBlocks; ++block)
      for (int64_t row = 0; row < numRows; ++row)
        k.store(sums[block * numRows + row],
                slot(scoresAt, k.add(firstRow, block * rows.count + row), kVectorBytes));
  });
}

// Turns scores into weights, relative to the new running maximum; keeps the factor that brings older sums to it.
void AttentionGenerator::softmax(const Rows &rows, int64_t numTokens, Value blockStart, Value firstScore) {
  Type i32 = k.b.getI32Type();
  Value positions = arith::AddIOp::create(k.b, k.loc, k.splat(k.toInteger(blockStart, i32)), k.laneNumbers());
  k.loop(k.index(0), k.index(numTokens), 1, [&](Value token) {
    Value own = stepInt(offsetof(girih_step_args, positions), k.add(k.add(operands.firstToken, rows.token), token));
    Value last = k.splat(k.toInteger(own, i32));
    Value isSeen = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::sle, positions, last);
    if (shape.window) {
      Value before = k.splat(k.toInteger(k.sub(own, k.index(*shape.window)), i32));
      Value isNear = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::sgt, positions, before);
      isSeen = arith::AndIOp::create(k.b, k.loc, isSeen, isNear);
    }
    for (int64_t head = 0; head < shape.headsPerGroup; ++head)
      softmaxRow(k.add(k.mul(token, shape.headsPerGroup), head), firstScore, isSeen);
  });
}

void AttentionGenerator::softmaxRow(Value row, Value firstScore, Value isSeen) {
  Value scoreSlot = slot(scoresAt, k.add(firstScore, row), kVectorBytes);
  Value s = k.mulf(k.load(k.lanesF32(), scoreSlot), k.lanesOf(shape.scale));
  if (shape.softCap) {
    Value cap = k.lanesOf(*shape.softCap);
    s = k.mulf(cap, emitTanh(k, arith::DivFOp::create(k.b, k.loc, s, cap)));
  }
  s = k.select(isSeen, s, k.lanesOf(kNegativeInfinity));
  Value oldMax = k.load(k.b.getF32Type(), slot(maxAt, row, 4));
  Value newMax = k.maxf(oldMax, k.reduceTree(s, [&](Value x, Value y) { return k.maxf(x, y); }));
  // Before a row's first seen position both are -inf; 0 stands in, and every weight and factor is exp(-inf) = 0.
  // A block that a row does not see changes nothing: its weights are 0 and its factor is exp(0) = 1.
  Value isEmpty = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, newMax, k.constF32(kNegativeInfinity));
  Value reference = k.select(isEmpty, k.constF32(0), newMax);
  Value weights = emitExp(k, k.subf(s, k.splat(reference)), /*atMostOne=*/true);
  Value factor = emitExp(k, k.subf(oldMax, reference), /*atMostOne=*/true);
  Value sums = k.load(k.lanesF32(), slot(sumsAt, row, kVectorBytes));
  k.store(k.fma(sums, k.splat(factor), weights), slot(sumsAt, row, kVectorBytes));
  k.store(weights, scoreSlot);
  k.store(newMax, slot(maxAt, row, 4));
  k.store(factor, slot(factorAt, row, 4));
}

// out[row] = out[row] * factor + sum over ascending u of weights[row][u] * V[u].
void AttentionGenerator::accumulate(const Rows &rows, Value values, Value numPositions, Value firstScore) {
  int64_t columns = std::min<int64_t>(numVectors, isa.laneVectors >= 32 ? 4 : 2);
  int64_t tile = std::min(rows.count, std::max<int64_t>(1, (isa.laneVectors - columns - 1) / columns));
  for (int64_t first = 0; first < numVectors; first += columns) {
    int64_t count = std::min(columns, numVectors - first);
    forRowTiles(rows.count, tile, [&](Value firstRow, int64_t numRows) {
      accumulateTile(firstRow, numRows, first, count, values, numPositions, firstScore);
    });
  }
}

void AttentionGenerator::accumulateTile(Value firstRow, int64_t numRows, int64_t firstVector, int64_t count,
                                        Value values, Value numPositions, Value firstScore) {
  auto outSlot = [&](int64_t row, int64_t vector) {
    Value address = slot(outAt, k.add(firstRow, row), numVectors * kVectorBytes);
    return k.at(address, (firstVector + vector) * kVectorBytes);
  };
  SmallVector<Value> sums, weightRows, masks;
  for (int64_t vector = 0; vector < count; ++vector)
    masks.push_back(valueMask(firstVector + vector));
  for (int64_t row = 0; row < numRows; ++row) {
    weightRows.push_back(slot(scoresAt, k.add(firstScore, k.add(firstRow, row)), kVectorBytes));
    Value factor = k.splat(k.load(k.b.getF32Type(), slot(factorAt, k.add(firstRow, row), 4)));
    for (int64_t vector = 0; vector < count; ++vector)
      sums.push_back(k.mulf(k.load(k.lanesF32(), outSlot(row, vector)), factor));
  }
  sums = k.loop(k.index(0), numPositions, 1, sums, [&](Value position, ValueRange carried) {
    SmallVector<Value> inner(carried), loaded;
    Value source = k.at(values, k.mul(position, shape.valueDim * elementBytes));
    for (int64_t vector = 0; vector < count; ++vector)
      loaded.push_back(loadCache(k.at(source, (firstVector + vector) * kLanes * elementBytes), masks[vector]));
    for (int64_t row = 0; row < numRows; ++row) {
      Value weight = k.splat(k.load(k.b.getF32Type(), k.at(weightRows[row], k.mul(position, 4))));
      for (int64_t vector = 0; vector < count; ++vector)
        inner[row * count + vector] = k.fma(weight, loaded[vector], inner[row * count + vector]);
    }
    return inner;
  });
  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t vector = 0; vector < count; ++vector)
      k.store(sums[row * count + vector], outSlot(row, vector));
}

void AttentionGenerator::finish(const Rows &rows) {
  k.loop(k.index(0), k.index(rows.count), 1, [&](Value row) {
    Value sums = k.load(k.lanesF32(), slot(sumsAt, row, kVectorBytes));
    Value total = k.splat(k.reduceTree(sums, [&](Value x, Value y) { return k.addf(x, y); }));
    Value out = rowAddress(operands.out, operands.outTokenStride, operands.outHeadStride, rows, row);
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      Value sum = k.load(k.lanesF32(), k.at(slot(outAt, row, numVectors * kVectorBytes), vector * kVectorBytes));
      Value value = arith::DivFOp::create(k.b, k.loc, sum, total);
      Value target = k.at(out, vector * kVectorBytes);
      if (Value mask = valueMask(vector))
        k.storeMasked(value, target, mask);
      else
        k.store(value, target);
    }
  });
}

}  // namespace girih::cpu
