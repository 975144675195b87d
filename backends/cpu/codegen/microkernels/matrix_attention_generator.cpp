// SPDX-License-Identifier: Apache-2.0
// MatrixAttentionGenerator: implementation. Tile registers 0-3 hold sums, 4-5 the left tiles, 6-7 the right ones.
#include "backends/cpu/codegen/microkernels/matrix_attention_generator.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>
#include <cstddef>
#include <limits>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kTileRows = 16, kRowBytes = 64, kTileBytes = kTileRows * kRowBytes;
constexpr int64_t kDepth = 32;              // bf16 values of a row of a left tile
constexpr int64_t kRowTiles = 2;            // row tiles that are multiplied together
constexpr int64_t kLeft = 4, kRight = 6;    // first registers
constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

int64_t rowsRounded(const AttentionShape &shape, int64_t maxTokens) {
  return llvm::alignTo(maxTokens * shape.headsPerGroup, kRowTiles * kTileRows);
}

// 2^x for x <= 0 or -inf, to 1e-4 of its value: weights are rounded to 8 bits anyway. Below 2^-126 it is 2^-126.
Value coarseExp2(KernelBuilder &k, Value x) {
  Type bits = k.lanes(k.b.getI32Type());
  Value shift = k.lanesOf(12582912.0);  // 1.5 * 2^23: the sum's low bits are the nearest integer
  Value bounded = k.maxf(x, k.lanesOf(-126));
  Value moved = k.addf(bounded, shift);
  Value fraction = k.subf(bounded, k.subf(moved, shift));
  Value power = k.lanesOf(0.05517166492);
  for (double coefficient : {0.24261112188, 0.69326098622, 0.99992807358})
    power = k.fma(power, fraction, k.lanesOf(coefficient));
  Value exponent = arith::ShLIOp::create(k.b, k.loc, arith::BitcastOp::create(k.b, k.loc, bits, moved),
                                         k.integer(bits, 23));
  Value scaled = arith::AddIOp::create(k.b, k.loc, arith::BitcastOp::create(k.b, k.loc, bits, power), exponent);
  return arith::BitcastOp::create(k.b, k.loc, k.lanesF32(), scaled);
}

Value roundedToBf16(KernelBuilder &k, Value values) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(k.lanes(k.b.getBF16Type())),
                                       k.b.getStringAttr("llvm.x86.avx512bf16.cvtneps2bf16.512"), ValueRange{values})
      .getResult(0);
}

}  // namespace

MatrixAttentionGenerator::MatrixAttentionGenerator(KernelBuilder &k, const AttentionShape &shape,
                                                   const AttentionOperands &operands, int64_t maxTokens, Value scratch)
    : AttentionWalk(k, shape, operands, rowsRounded(shape, maxTokens), llvm::alignTo(shape.keyDim(), kDepth) * 2),
      paddedKeyDim(llvm::alignTo(shape.keyDim(), kDepth)) {
  weightsAt = section(maxRows * shape.chunk * 2);
  keysAt = section(paddedKeyDim * shape.chunk * 2);
  valuesAt = section(numVectors * kLanes * shape.chunk * 2);
  sumsOfTileAt = section(4 * kTileBytes);
  configurationAt = section(kRowBytes);
  frame = scratch;
}

int64_t MatrixAttentionGenerator::scratchBytes(const AttentionShape &shape, int64_t maxTokens) {
  int64_t rows = rowsRounded(shape, maxTokens), keyDim = llvm::alignTo(shape.keyDim(), kDepth);
  int64_t valueDim = llvm::alignTo(shape.valueDim(), kLanes);
  return walkFrameBytes(shape, rows, keyDim * 2) + (rows + keyDim + valueDim) * shape.chunk * 2 + 4 * kTileBytes +
         kRowBytes;
}

void MatrixAttentionGenerator::callTile(llvm::StringRef intrinsic, ArrayRef<int64_t> registers, ValueRange memory) {
  SmallVector<Value> operands;
  for (int64_t number : registers)
    operands.push_back(LLVM::ConstantOp::create(k.b, k.loc, k.b.getI8Type(), k.b.getI8IntegerAttr(number)));
  llvm::append_range(operands, memory);
  LLVM::CallIntrinsicOp::create(k.b, k.loc, k.b.getStringAttr(("llvm.x86." + intrinsic).str()), operands);
}

// Every tile is 16 rows of 64 bytes: rows and columns that do not exist are computed, and not read.
void MatrixAttentionGenerator::configure() {
  Type word = k.b.getI64Type();
  Value configuration = k.at(frame, configurationAt);
  const int64_t words[] = {1, 0, 0x0040'0040'0040'0040, 0x0040'0040'0040'0040, 0, 0, 0x1010'1010'1010'1010, 0};
  for (auto [index, value] : llvm::enumerate(words))
    k.store(k.integer(word, value), k.at(configuration, static_cast<int64_t>(index) * 8), 8);
  callTile("ldtilecfg", {}, configuration);
}

void MatrixAttentionGenerator::release() { callTile("tilerelease", {}); }

// ---- Operands in bf16 ----
// The scale is in the queries; and log2 e, so that weights are powers of 2, unless a cap stands between.
void MatrixAttentionGenerator::prepareQueries(const Rows &rows) {
  double factor = shape.softCap ? shape.scale / *shape.softCap : shape.scale * kLog2E;
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    Value source = queryAddress(rows, row), target = slot(queriesAt, row, paddedKeyDim * 2);
    for (int64_t first = 0; first < paddedKeyDim; first += kLanes) {
      int64_t left = shape.keyDim() - first;
      Value values = k.lanesOf(0);
      if (left >= kLanes)
        values = k.load(k.lanesF32(), k.at(source, first * 4));
      else if (left > 0)
        values = k.loadMasked(k.lanesF32(), k.at(source, first * 4), k.maskOf(k.index(left)));
      k.store(roundedToBf16(k, k.mulf(values, k.lanesOf(factor))), k.at(target, first * 2));
    }
  });
}

// A row of a right tile: 16 columns, of each the values of two rows.
void MatrixAttentionGenerator::storePair(Value even, Value odd, Value target) {
  Value halves = LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(VectorType::get(2 * kLanes, k.b.getBF16Type())),
                                               k.b.getStringAttr("llvm.x86.avx512bf16.cvtne2ps2bf16.512"),
                                               ValueRange{odd, even})  // the first becomes the upper half
                     .getResult(0);
  SmallVector<int64_t> interleaved;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    interleaved.append({lane, kLanes + lane});
  k.store(vector::ShuffleOp::create(k.b, k.loc, halves, halves, interleaved), target, kRowBytes);
}

// target [D / 2][16 positions][2] = K [D][16 positions] of a block, zeros behind D.
void MatrixAttentionGenerator::pairKeys(const Rows &rows, Value block, Value target) {
  int64_t rowBytes = kPositions * shape.elementBytes();
  Value keys = k.at(blockAddress(rows, block), k.mul(rows.cacheGroup, shape.keyBytes()));
  int64_t whole = shape.keyDim() / 2;
  k.loop(k.index(0), k.index(whole), 1, [&](Value pair) {
    Value source = k.at(keys, k.mul(pair, 2 * rowBytes));
    storePair(loadCache(source), loadCache(k.at(source, rowBytes)), k.at(target, k.mul(pair, kRowBytes)));
  });
  for (int64_t pair = whole; pair < paddedKeyDim / 2; ++pair) {
    Value last = pair * 2 < shape.keyDim() ? loadCache(k.at(keys, pair * 2 * rowBytes)) : k.lanesOf(0);
    storePair(last, k.lanesOf(0), k.at(target, pair * kRowBytes));
  }
}

// target [vector of Dv] tiles, 8 of whose rows are V [16 positions][Dv] of a block. Slots after the last position may hold
// anything, even NaN: a position that exists stands in, and its weight is 0.
void MatrixAttentionGenerator::pairValues(const Rows &rows, Value block, Value target) {
  int64_t rowBytes = shape.valueDim() * shape.elementBytes();
  Value values = k.at(k.at(blockAddress(rows, block), shape.kv.getHeads() * shape.keyBytes()),
                      k.mul(rows.cacheGroup, rowBytes * kPositions));
  Value within = k.minOf(block, k.sub(rows.endBlock, k.index(1)));
  Value last = k.minOf(k.sub(k.sub(rows.endPosition, k.mul(within, kPositions)), k.index(1)), k.index(kPositions - 1));
  int64_t tileDistance = kTileBytes;
  k.loop(k.index(0), k.index(kPositions / 2), 1, [&](Value pair) {
    Value even = k.at(values, k.mul(k.minOf(k.mul(pair, 2), last), rowBytes));
    Value odd = k.at(values, k.mul(k.minOf(k.add(k.mul(pair, 2), 1), last), rowBytes));
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      int64_t left = shape.valueDim() - vector * kLanes, offset = vector * kLanes * shape.elementBytes();
      Value mask = left >= kLanes ? Value() : k.maskOf(k.index(left));
      storePair(loadCache(k.at(even, offset), mask), loadCache(k.at(odd, offset), mask),
                k.at(k.at(target, k.mul(pair, kRowBytes)), vector * tileDistance));
    }
  });
}

// ---- Products ----
void MatrixAttentionGenerator::clearSums(int64_t columnTiles) {
  for (int64_t row = 0; row < kRowTiles; ++row)
    for (int64_t column = 0; column < columnTiles; ++column)
      callTile("tilezero", {row * 2 + column});
}

void MatrixAttentionGenerator::multiply(Value left, int64_t leftStride, Value right, int64_t rightDistance,
                                        int64_t columnTiles) {
  Type word = k.b.getI64Type();
  for (int64_t column = 0; column < columnTiles; ++column)
    for (int64_t row = 0; row < kRowTiles; ++row) {
      if (column == 0)
        callTile("tileloadd64", {kLeft + row}, {k.at(left, row * kTileRows * leftStride), k.integer(word, leftStride)});
      if (row == 0)
        callTile("tileloadd64", {kRight + column}, {k.at(right, column * rightDistance), k.integer(word, kRowBytes)});
      callTile("tdpbf16ps", {row * 2 + column, kLeft + row, kRight + column});
    }
}

void MatrixAttentionGenerator::storeSums(Value target, int64_t rowBytes, int64_t columnTiles) {
  for (int64_t row = 0; row < kRowTiles; ++row)
    for (int64_t column = 0; column < columnTiles; ++column)
      callTile("tilestored64", {row * 2 + column},
               {k.at(target, row * kTileRows * rowBytes + column * kRowBytes), k.integer(k.b.getI64Type(), rowBytes)});
}

void MatrixAttentionGenerator::scores(const Rows &rows, const Blocks &blocks) {
  int64_t blockBytes = paddedKeyDim * kPositions * 2;
  k.loop(blocks.first, blocks.end, 2, [&](Value block) {
    Value inChunk = k.sub(block, blocks.firstOfChunk);
    Value keys = k.at(k.at(frame, keysAt), k.mul(inChunk, blockBytes));
    pairKeys(rows, block, keys);
    pairKeys(rows, k.add(block, 1), k.at(keys, blockBytes));
    k.loop(k.index(0), rows.count, kRowTiles * kTileRows, [&](Value row) {
      Value queries = slot(queriesAt, row, paddedKeyDim * 2);
      clearSums(2);
      for (int64_t depth = 0; depth < paddedKeyDim / kDepth; ++depth)
        multiply(k.at(queries, depth * kDepth * 2), paddedKeyDim * 2, k.at(keys, depth * kTileBytes), blockBytes, 2);
      storeSums(k.at(scoreSlot(row), k.mul(inChunk, kVectorBytes)), shape.chunk * 4, 2);
    });
  });
}

void MatrixAttentionGenerator::accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &) {
  int64_t pairBytes = numVectors * kTileBytes;  // the values of two blocks
  k.loop(blocks.first, blocks.end, 2, [&](Value block) {
    Value target = k.at(k.at(frame, valuesAt), k.mul(k.div(k.sub(block, blocks.firstOfChunk), 2), pairBytes));
    pairValues(rows, block, target);
    pairValues(rows, k.add(block, 1), k.at(target, kTileBytes / 2));
  });
  k.loop(k.index(0), rows.count, kRowTiles * kTileRows, [&](Value row) {
    for (int64_t vector = 0; vector < numVectors; vector += 2) {
      int64_t columns = std::min<int64_t>(2, numVectors - vector);
      clearSums(columns);
      k.loop(blocks.first, blocks.end, 2, [&](Value block) {
        Value pair = k.div(k.sub(block, blocks.firstOfChunk), 2);
        multiply(k.at(slot(weightsAt, row, shape.chunk * 2), k.mul(pair, kDepth * 2)), shape.chunk * 2,
                 k.at(k.at(frame, valuesAt + vector * kTileBytes), k.mul(pair, pairBytes)), kTileBytes, columns);
      });
      storeSums(k.at(frame, sumsOfTileAt), 2 * kVectorBytes, columns);
      k.loop(k.index(0), k.index(kRowTiles * kTileRows), 1, [&](Value inner) {
        for (int64_t column = 0; column < columns; ++column) {
          Value sum = k.load(k.lanesF32(), k.at(slot(sumsOfTileAt, inner, 2 * kVectorBytes), column * kVectorBytes));
          deliver(sum, k.add(row, inner), vector + column, {});
        }
      });
    }
  });
}

// ---- Weights ----
Value MatrixAttentionGenerator::maskedScore(const Rows &rows, Value score, Value own, Value block) {
  if (shape.kv.hasScales())
    score = k.mulf(score, scalesOf(rows, block, /*ofValues=*/false));
  if (shape.softCap)
    score = k.mulf(emitTanh(k, score), k.lanesOf(*shape.softCap * kLog2E));
  return k.select(seenLanes(own, block), score, k.lanesOf(kNegativeInfinity));
}

// Blocks before the token's own need no mask, those after it no exponentials.
void MatrixAttentionGenerator::softmaxToken(const Rows &rows, const Blocks &blocks, Value token) {
  int64_t heads = shape.headsPerGroup;
  Value own = positionOf(rows, token), firstRow = k.mul(token, heads);
  auto inChunk = [&](Value block) { return k.sub(block, blocks.firstOfChunk); };
  auto scoreAt = [&](int64_t head, Value block) {
    return k.at(scoreSlot(k.add(firstRow, head)), k.mul(inChunk(block), kVectorBytes));
  };
  auto weightAt = [&](int64_t head, Value block) {
    return k.at(slot(weightsAt, k.add(firstRow, head), shape.chunk * 2), k.mul(inChunk(block), kLanes * 2));
  };
  Value ownBlock = k.div(own, kPositions);
  Value endOwn = k.maxOf(blocks.first, k.minOf(blocks.end, k.add(ownBlock, 1)));
  bool allMasked = shape.window || shape.softCap || shape.kv.hasScales();
  Value firstMasked = allMasked ? blocks.first : k.minOf(endOwn, k.maxOf(blocks.first, ownBlock));
  SmallVector<Value> maxima(heads, k.lanesOf(kNegativeInfinity));
  maxima = k.loop(blocks.first, firstMasked, 1, maxima, [&](Value block, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t head = 0; head < heads; ++head)
      next.push_back(k.maxf(k.load(k.lanesF32(), scoreAt(head, block)), carried[head]));
    return next;
  });
  maxima = k.loop(firstMasked, endOwn, 1, maxima, [&](Value block, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t head = 0; head < heads; ++head) {
      Value score = maskedScore(rows, k.load(k.lanesF32(), scoreAt(head, block)), own, block);
      k.store(score, scoreAt(head, block));
      next.push_back(k.maxf(score, carried[head]));
    }
    return next;
  });
  SmallVector<Value> references;
  for (int64_t head = 0; head < heads; ++head) {
    Value maximum = k.reduceTree(maxima[head], [&](Value x, Value y) { return k.maxf(x, y); });
    k.store(k.mulf(maximum, k.constF32(kLn2)), chunkMaxSlot(k.add(firstRow, head)));
    // Where nothing is seen, weights come out as 2^-126 at most, and the factor of the chunk is 0.
    references.push_back(k.splat(k.maxf(maximum, k.constF32(-1e30))));
  }
  SmallVector<Value> sums(heads, k.lanesOf(0));
  sums = k.loop(blocks.first, endOwn, 1, sums, [&](Value block, ValueRange carried) {
    SmallVector<Value> next;
    Value valueScales = shape.kv.hasScales() ? scalesOf(rows, block, /*ofValues=*/true) : Value();
    Value isSeen = shape.kv.hasScales() ? seenLanes(own, block) : Value();
    for (int64_t head = 0; head < heads; ++head) {
      Value weights = coarseExp2(k, k.subf(k.load(k.lanesF32(), scoreAt(head, block)), references[head]));
      // Values' scales are in the weights that multiply them, not in the sums. A slot that nobody wrote has none.
      Value stored = valueScales ? k.select(isSeen, k.mulf(weights, valueScales), k.lanesOf(0)) : weights;
      k.store(roundedToBf16(k, stored), weightAt(head, block));
      next.push_back(k.addf(carried[head], weights));
    }
    return next;
  });
  for (int64_t head = 0; head < heads; ++head)
    k.store(sums[head], chunkSumsSlot(k.add(firstRow, head)));
  Value none = roundedToBf16(k, k.lanesOf(0));
  k.loop(endOwn, k.mul(k.div(k.add(blocks.end, 1), 2), 2), 1, [&](Value block) {
    for (int64_t head = 0; head < heads; ++head)
      k.store(none, weightAt(head, block));
  });
}

}  // namespace girih::cpu
