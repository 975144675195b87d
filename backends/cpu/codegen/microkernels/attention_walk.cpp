// SPDX-License-Identifier: Apache-2.0
// AttentionWalk: implementation. Every formula is per row, so a row's bits do not depend on its neighbours.
#include "backends/cpu/codegen/microkernels/attention_walk.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <cstddef>
#include <limits>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kBlocksTogether = 4;  // blocks are walked by fours; what lies beyond the last is masked
constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// Factors that bring sums relative to `old` and to `added` to their common maximum.
struct Join {
  Value maximum, oldFactor, newFactor;
};

// Before a row's first seen position both maxima are -inf; 0 stands in, and every factor is exp(-inf) = 0. A chunk that
// a row does not see changes nothing: its factor is 0 and that of the older sums exp(0) = 1.
Value finiteReference(KernelBuilder &k, Value maximum) {
  Type type = maximum.getType();
  Value isEmpty = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, maximum,
                                        k.constant(type, kNegativeInfinity));
  return k.select(isEmpty, k.constant(type, 0), maximum);
}

Join join(KernelBuilder &k, Value old, Value added) {
  Value maximum = k.maxf(old, added);
  Value reference = finiteReference(k, maximum);
  return {maximum, emitExp(k, k.subf(old, reference), /*atMostOne=*/true),
          emitExp(k, k.subf(added, reference), /*atMostOne=*/true)};
}

Value joined(KernelBuilder &k, Value old, Value added, Value oldFactor, Value newFactor) {
  return k.fma(added, newFactor, k.mulf(old, oldFactor));
}

}  // namespace

int64_t walkFrameBytes(const AttentionShape &shape, int64_t maxRows, int64_t queryBytes) {
  int64_t rowBytes = queryBytes + (shape.chunk + llvm::alignTo(shape.valueDim(), kLanes) + 2 * kLanes + 4) * 4;
  return maxRows * rowBytes;
}

AttentionWalk::AttentionWalk(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands,
                             int64_t maxRows, int64_t queryBytes)
    : AttentionRows(k, shape, operands, maxRows) {
  queriesAt = section(maxRows * queryBytes);
  scoresAt = section(maxRows * shape.chunk * 4);
  outAt = section(maxRows * numVectors * kVectorBytes);
  sumsAt = section(maxRows * kVectorBytes);
  chunkSumsAt = section(maxRows * kVectorBytes);
  for (int64_t *array : {&maxAt, &chunkMaxAt, &oldFactorAt, &newFactorAt})
    *array = section(maxRows * 4);
}

void AttentionWalk::forRowTiles(const Rows &rows, int64_t tile, llvm::function_ref<void(Value, int64_t)> body) {
  std::optional<int64_t> count = getConstantIntValue(rows.count);
  if (!count)
    return k.loop(k.index(0), rows.count, tile, [&](Value row) { body(row, tile); });
  int64_t full = *count / tile * tile;
  if (full == tile)
    body(k.index(0), tile);
  else if (full > 0)
    k.loop(k.index(0), k.index(full), tile, [&](Value row) { body(row, tile); });
  if (full != *count)
    body(k.index(full), *count - full);
}

bool AttentionWalk::isOneTile(const Rows &rows, int64_t tile) {
  std::optional<int64_t> count = getConstantIntValue(rows.count);
  return count && *count <= tile;
}

// ---- The walk ----
AttentionWalk::Blocks AttentionWalk::blocksOf(const Rows &rows, Value chunk) {
  int64_t blocks = shape.chunk / kPositions;
  Blocks result;
  result.chunkStart = k.mul(chunk, shape.chunk);
  result.firstOfChunk = k.mul(chunk, blocks);
  Value firstSeenBlock = k.mul(k.div(rows.firstBlock, kBlocksTogether), kBlocksTogether);
  result.first = k.maxOf(result.firstOfChunk, firstSeenBlock);
  result.end = k.minOf(k.add(result.firstOfChunk, blocks), rows.endBlock);
  return result;
}

void AttentionWalk::emit(Value numTokens, Value token, Value group, Value cacheGroup) {
  int64_t blocks = shape.chunk / kPositions;
  Rows rows = rowsOf(numTokens, token, group, cacheGroup);
  prepareQueries(rows);
  clearState(rows);
  Value endChunk = k.add(k.div(k.sub(rows.endBlock, k.index(1)), blocks), 1);
  k.loop(k.div(rows.firstBlock, blocks), endChunk, 1, [&](Value chunk) {
    Blocks seen = blocksOf(rows, chunk);
    scores(rows, seen);
    softmax(rows, seen);
    joinMaxima(rows);
    accumulate(rows, seen, {});
  });
  finish(rows);
}

void AttentionWalk::emitPart(Value token, Value group, Value cacheGroup, Value chunk, Value part, Value partStride,
                             bool readsAhead) {
  Rows rows = rowsOf(k.index(1), token, group, cacheGroup);
  Blocks seen = blocksOf(rows, chunk);
  k.when(k.less(seen.first, seen.end), [&] {
    if (readsAhead)
      lookAhead(rows, chunk, seen);
    prepareQueries(rows);
    scores(rows, seen);
    softmax(rows, seen);
    for (int64_t head = 0; head < shape.headsPerGroup; ++head) {
      Value target = k.at(part, k.mul(k.index(head), partStride));
      k.store(k.load(k.b.getF32Type(), chunkMaxSlot(k.index(head))), target);
      k.store(k.load(k.lanesF32(), chunkSumsSlot(k.index(head))), k.at(target, kPartSums * 4));
    }
    accumulate(rows, seen, {part, partStride});
  });
}

// What is fetched keeps step with what is read; where more blocks follow than are left here, the rest goes at once.
void AttentionWalk::lookAhead(const Rows &rows, Value chunk, Blocks &blocks) {
  int64_t chunkBlocks = shape.chunk / kPositions;
  Value nextHead = k.add(rows.cacheGroup, 1), hasHead = k.less(nextHead, k.index(shape.kv.getHeads()));
  Value hasChunk = k.less(k.add(blocks.firstOfChunk, chunkBlocks), rows.endBlock);
  Value numTokens = k.stepInteger(offsetof(girih_step_args, num_tokens));
  Value lastToken = k.sub(k.sub(numTokens, operands.firstToken), k.index(1));
  Rows other = rowsOf(k.index(1), k.minOf(k.add(rows.token, 1), lastToken), rows.group, k.index(0));
  Value isSame = arith::OrIOp::create(k.b, k.loc, hasHead, hasChunk);
  Value first = k.select(hasHead, blocks.first, k.select(hasChunk, k.add(blocks.firstOfChunk, chunkBlocks), other.firstBlock));
  blocks.next = rows;
  blocks.next.table = k.select(isSame, rows.table, other.table);
  blocks.next.endBlock = k.select(isSame, rows.endBlock, other.endBlock);
  blocks.next.cacheGroup = k.select(hasHead, nextHead, k.index(0));
  blocks.toNext = k.sub(first, blocks.first);
  Value endOfChunk = k.mul(k.add(k.div(first, chunkBlocks), 1), chunkBlocks);
  Value end = k.minOf(endOfChunk, blocks.next.endBlock);
  k.loop(k.add(blocks.end, blocks.toNext), end, 1, [&](Value block) { fetch(blocks.next, block); });
}

// Queries lie one behind the other, so that a tile of rows needs one base address.
void AttentionWalk::prepareQueries(const Rows &rows) {
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    Value source = queryAddress(rows, row);
    Value target = slot(queriesAt, row, shape.keyDim() * 4);
    for (int64_t vector = 0; vector * kLanes < shape.keyDim(); ++vector) {
      Value mask = tailMask(k, vector, shape.keyDim());
      Value from = k.at(source, vector * kVectorBytes), to = k.at(target, vector * kVectorBytes);
      if (mask)
        k.storeMasked(k.loadMasked(k.lanesF32(), from, mask), to, mask);
      else
        k.store(k.load(k.lanesF32(), from), to);
    }
  });
}

void AttentionWalk::clearState(const Rows &rows) {
  k.loop(k.index(0), k.index(maxRows), kLanes, [&](Value row) {
    k.store(k.lanesOf(kNegativeInfinity), slot(maxAt, row, 4));
    k.store(k.lanesOf(kNegativeInfinity), chunkMaxSlot(row));
  });
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    k.store(k.lanesOf(0), slot(sumsAt, row, kVectorBytes));
    for (int64_t vector = 0; vector < numVectors; ++vector)
      k.store(k.lanesOf(0), k.at(outSlot(row), vector * kVectorBytes));
  });
}

// ---- Weights ----
void AttentionWalk::softmax(const Rows &rows, const Blocks &blocks) {
  if (isConstantIntValue(rows.numTokens, 1))
    return softmaxToken(rows, blocks, k.index(0));
  k.loop(k.index(0), rows.numTokens, 1, [&](Value token) { softmaxToken(rows, blocks, token); });
}

Value AttentionWalk::scaled(Value scores) {
  Value s = k.mulf(scores, k.lanesOf(shape.scale));
  if (!shape.softCap)
    return s;
  Value cap = k.lanesOf(*shape.softCap);
  return k.mulf(cap, emitTanh(k, arith::DivFOp::create(k.b, k.loc, s, cap)));
}

// Lane l of a sum takes positions l, l+16, ... of the chunk; positions that are not seen add 0.
void AttentionWalk::softmaxToken(const Rows &rows, const Blocks &blocks, Value token) {
  int64_t heads = shape.headsPerGroup;
  Value own = positionOf(rows, token);
  Value firstRow = k.mul(token, heads);
  auto scoresOf = [&](int64_t head, Value block) {
    return k.at(scoreSlot(k.add(firstRow, head)), k.mul(k.sub(block, blocks.firstOfChunk), kVectorBytes));
  };
  SmallVector<Value> maxima(heads, k.lanesOf(kNegativeInfinity));
  maxima = k.loop(blocks.first, blocks.end, 1, maxima, [&](Value block, ValueRange carried) {
    Value isSeen = seenLanes(own, block);
    Value keyScales = shape.kv.hasScales() ? scalesOf(rows, block, /*ofValues=*/false) : Value();
    SmallVector<Value> next;
    for (int64_t head = 0; head < heads; ++head) {
      Value address = scoresOf(head, block);
      Value s = k.load(k.lanesF32(), address);
      if (keyScales)
        s = k.mulf(s, keyScales);
      s = k.select(isSeen, scaled(s), k.lanesOf(kNegativeInfinity));
      k.store(s, address);
      next.push_back(k.maxf(carried[head], s));
    }
    return next;
  });
  SmallVector<Value> references;
  for (int64_t head = 0; head < heads; ++head) {
    Value maximum = k.reduceTree(maxima[head], [&](Value x, Value y) { return k.maxf(x, y); });
    k.store(maximum, chunkMaxSlot(k.add(firstRow, head)));
    references.push_back(k.splat(finiteReference(k, maximum)));
  }
  SmallVector<Value> sums(heads, k.lanesOf(0));
  sums = k.loop(blocks.first, blocks.end, 1, sums, [&](Value block, ValueRange carried) {
    SmallVector<Value> next;
    Value valueScales = shape.kv.hasScales() ? scalesOf(rows, block, /*ofValues=*/true) : Value();
    Value isSeen = shape.kv.hasScales() ? seenLanes(own, block) : Value();
    for (int64_t head = 0; head < heads; ++head) {
      Value address = scoresOf(head, block);
      Value weights = emitExp(k, k.subf(k.load(k.lanesF32(), address), references[head]), /*atMostOne=*/true);
      // Values' scales are in the weights that multiply them, not in the sums. A slot that nobody wrote has none.
      Value stored = valueScales ? k.select(isSeen, k.mulf(weights, valueScales), k.lanesOf(0)) : weights;
      k.store(stored, address);
      next.push_back(k.addf(carried[head], weights));
    }
    return next;
  });
  for (int64_t head = 0; head < heads; ++head)
    k.store(sums[head], chunkSumsSlot(k.add(firstRow, head)));
}

// ---- Joining chunks ----
void AttentionWalk::joinMaxima(const Rows &rows) {
  // Sixteen rows at a time; those beyond the last hold -inf.
  k.loop(k.index(0), rows.count, kLanes, [&](Value row) {
    Join factors = join(k, k.load(k.lanesF32(), slot(maxAt, row, 4)), k.load(k.lanesF32(), chunkMaxSlot(row)));
    k.store(factors.maximum, slot(maxAt, row, 4));
    k.store(factors.oldFactor, slot(oldFactorAt, row, 4));
    k.store(factors.newFactor, slot(newFactorAt, row, 4));
  });
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    Value sums = slot(sumsAt, row, kVectorBytes);
    Value added = k.load(k.lanesF32(), chunkSumsSlot(row));
    k.store(joined(k, k.load(k.lanesF32(), sums), added,
                   k.splat(k.load(k.b.getF32Type(), slot(oldFactorAt, row, 4))),
                   k.splat(k.load(k.b.getF32Type(), slot(newFactorAt, row, 4)))),
            sums);
  });
}

void AttentionWalk::deliver(Value sum, Value row, int64_t vector, const PartTarget &target) {
  if (target.part) {
    Value address = k.at(target.part, k.mul(row, target.stride));
    return k.store(sum, k.at(address, kPartValues * 4 + vector * kVectorBytes));
  }
  Value address = k.at(outSlot(row), vector * kVectorBytes);
  Value oldFactor = k.splat(k.load(k.b.getF32Type(), slot(oldFactorAt, row, 4)));
  Value newFactor = k.splat(k.load(k.b.getF32Type(), slot(newFactorAt, row, 4)));
  k.store(joined(k, k.load(k.lanesF32(), address), sum, oldFactor, newFactor), address);
}

void AttentionWalk::finish(const Rows &rows) {
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    storeQuotient(k, outAddress(rows, row), operands.outElement, shape.valueDim(), k.load(k.lanesF32(), slot(sumsAt, row, kVectorBytes)),
                [&](int64_t vector) { return k.load(k.lanesF32(), k.at(outSlot(row), vector * kVectorBytes)); });
  });
}

void emitJoinedParts(KernelBuilder &k, ArrayRef<Value> parts, Value chunkStride, Value firstChunk, Value endChunk,
                     ArrayRef<Value> out, int64_t valueDim) {
  int64_t numVectors = llvm::divideCeil(valueDim, kLanes), width = numVectors + 2;  // sums, values, maximum
  SmallVector<Value> state;
  for (size_t row = 0; row < parts.size(); ++row) {
    state.append(width - 1, k.lanesOf(0));
    state.push_back(k.constF32(kNegativeInfinity));
  }
  state = k.loop(firstChunk, endChunk, 1, state, [&](Value chunk, ValueRange carried) {
    SmallVector<Value> next;
    for (auto [row, base] : llvm::enumerate(parts)) {
      ValueRange old = carried.slice(row * width, width);
      Value part = k.at(base, k.mul(chunk, chunkStride));
      Join factors = join(k, old.back(), k.load(k.b.getF32Type(), part));
      Value oldFactor = k.splat(factors.oldFactor), newFactor = k.splat(factors.newFactor);
      for (int64_t vector = 0; vector <= numVectors; ++vector) {
        Value added = k.load(k.lanesF32(), k.at(part, (kPartSums + vector * kLanes) * 4));
        next.push_back(joined(k, old[vector], added, oldFactor, newFactor));
      }
      next.push_back(factors.maximum);
    }
    return next;
  });
  for (auto [row, target] : llvm::enumerate(out))
    storeQuotient(k, target, k.b.getF32Type(), valueDim, state[row * width],
                  [&, first = row * width + 1](int64_t vector) { return state[first + vector]; });
}

}  // namespace girih::cpu
