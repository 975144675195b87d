// SPDX-License-Identifier: Apache-2.0
// MatrixAttentionGenerator: implementation. Sums of two row tiles are a set; while one set is made, the other is stored.
#include "backends/cpu/codegen/microkernels/matrix_attention_generator.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinAttributes.h"

#include <cmath>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kTileRows = 16, kRowBytes = 64, kTileBytes = kTileRows * kRowBytes;
constexpr int64_t kDepth = 32;              // bf16 values of a row of a left tile
constexpr int64_t kRowTiles = 2;            // row tiles that are multiplied together
constexpr int64_t kRows = kRowTiles * kTileRows;
constexpr int64_t kLeft = 4, kRight = 6, kOnes = 7;  // registers; 0-3 are two sets of sums
constexpr int64_t kPassGroups = 4, kPass = kPassGroups * kDepth;  // positions
constexpr int64_t kScoreBytes = kPass * 4;  // of a row

constexpr double kLog2E = 1.4426950408889634;
constexpr int64_t kSteps = 128;             // of an octave: those of bf16's mantissa
constexpr int64_t kBias = 127 * kSteps;     // 1.0
constexpr int64_t kHighest = kBias + 60 * kSteps, kLowest = kBias - 60 * kSteps;
// What stands for the score of a position that is not seen, and what no reference is below: their sum with the bias is
// negative, and a weight of 0.
constexpr int64_t kUnseen = -(int64_t(1) << 30), kFarthest = -(int64_t(1) << 29);

int64_t setOf(int64_t number) { return number % 2 * kRowTiles; }

int64_t rowsRounded(const AttentionShape &shape, int64_t maxTokens) {
  return llvm::alignTo(maxTokens * shape.headsPerGroup, kRows);
}

int64_t keyDimRounded(const AttentionShape &shape) { return llvm::alignTo(shape.keyDim(), kDepth); }

// 64 bytes for the fractions of an octave: by how many steps the line between two powers of 2 is above 2^x.
SmallVector<int8_t> bendTable() {
  SmallVector<int8_t> table;
  for (int64_t entry = 0; entry < 64; ++entry) {
    double fraction = (2 * double(entry) + 0.5) / kSteps;  // an entry is for two steps
    table.push_back(int8_t(std::lround(kSteps * (1 + fraction - std::exp2(fraction)))));
  }
  return table;
}

Value roundedToBf16(KernelBuilder &k, Value values) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(k.lanes(k.b.getBF16Type())),
                                       k.b.getStringAttr("llvm.x86.avx512bf16.cvtneps2bf16.512"), ValueRange{values})
      .getResult(0);
}

}  // namespace

MatrixAttentionGenerator::MatrixAttentionGenerator(KernelBuilder &k, const AttentionShape &shape,
                                                   const AttentionOperands &operands, int64_t maxTokens, Value scratch)
    : AttentionRows(k, shape, operands, rowsRounded(shape, maxTokens)), paddedKeyDim(keyDimRounded(shape)),
      keyBlockBytes(paddedKeyDim * kPositions * 2) {
  queriesAt = section(maxRows * paddedKeyDim * 2);
  keysAt = section(kPass * paddedKeyDim * 2);
  valuesAt = section(kPass * numVectors * kLanes * 2);
  scoresAt = section(kRows * kScoreBytes);
  outAt = section(maxRows * numVectors * kVectorBytes);
  sumsAt = section(maxRows * kVectorBytes);
  offsetsAt = section(maxRows * 4);
  onesAt = section(kTileBytes);
  configurationAt = section(kRowBytes);
  frame = scratch;
}

int64_t MatrixAttentionGenerator::scratchBytes(const AttentionShape &shape, int64_t maxTokens) {
  int64_t valueDim = llvm::alignTo(shape.valueDim(), kLanes), keyDim = keyDimRounded(shape);
  int64_t rowBytes = keyDim * 2 + valueDim * 4 + kVectorBytes + 4;
  return rowsRounded(shape, maxTokens) * rowBytes + kPass * (keyDim + valueDim) * 2 + kRows * kScoreBytes + kTileBytes +
         kRowBytes;
}

Value MatrixAttentionGenerator::callVector(llvm::StringRef intrinsic, Type type, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, type, k.b.getStringAttr(("llvm.x86." + intrinsic).str()), operands)
      .getResult(0);
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
  for (int64_t row = 0; row < kTileRows; ++row)
    k.store(k.constant(VectorType::get(2 * kLanes, k.b.getBF16Type()), 1), k.at(frame, onesAt + row * kRowBytes));
  callTile("tileloadd64", {kOnes}, {k.at(frame, onesAt), k.integer(word, kRowBytes)});
}

void MatrixAttentionGenerator::release() { callTile("tilerelease", {}); }

// ---- The walk ----
void MatrixAttentionGenerator::emit(Value numTokens, Value token, Value group, Value cacheGroup) {
  SmallVector<int8_t> table = bendTable();
  bend = arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(VectorType::get(64, k.b.getI8Type()), ArrayRef(table)));
  Rows rows = rowsOf(numTokens, token, group, cacheGroup);
  prepareQueries(rows);
  clearState(rows);
  Value endPass = k.add(k.div(k.sub(rows.endPosition, k.index(1)), kPass), 1);
  k.loop(k.div(rows.firstBlock, kPass / kPositions), endPass, 1, [&](Value pass) {
    Value start = k.mul(pass, kPass);
    preparePass(rows, start);
    k.loop(k.index(0), rows.count, kRows, [&](Value row) {
      Value last = k.add(row, kRows - 1);
      attend(rows, {row, positionOf(rows, tokenOf(rows, row)), positionOf(rows, tokenOf(rows, last))}, start);
    });
  });
  finish(rows);
}

// Rows behind the last one stand for its token.
Value MatrixAttentionGenerator::tokenOf(const Rows &rows, Value row) {
  return k.minOf(k.div(row, shape.headsPerGroup), k.sub(rows.numTokens, k.index(1)));
}

// The scale is in the queries, and the steps of an octave, unless a cap stands between. Rows behind the last are zero.
void MatrixAttentionGenerator::prepareQueries(const Rows &rows) {
  double factor = shape.softCap ? shape.scale / *shape.softCap : shape.scale * kLog2E * kSteps;
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
  Value end = k.mul(k.div(k.add(rows.count, kRows - 1), kRows), kRows);
  k.loop(rows.count, end, 1, [&](Value row) {
    for (int64_t first = 0; first < paddedKeyDim; first += kDepth)
      k.store(k.lanesOf(0), k.at(slot(queriesAt, row, paddedKeyDim * 2), first * 2));
  });
}

void MatrixAttentionGenerator::clearState(const Rows &) {
  k.loop(k.index(0), k.index(maxRows), 1, [&](Value row) {
    for (int64_t vector = 0; vector < numVectors; ++vector)
      k.store(k.lanesOf(0), k.at(outSlot(row), vector * kVectorBytes));
    k.store(k.lanesOf(0), slot(sumsAt, row, kVectorBytes));
    k.store(k.integer(k.b.getI32Type(), kBias), slot(offsetsAt, row, 4));
  });
}

void MatrixAttentionGenerator::finish(const Rows &rows) {
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    Value sum = k.load(k.b.getF32Type(), slot(sumsAt, row, kVectorBytes)), out = outAddress(rows, row);
    Value factor = k.splat(arith::DivFOp::create(k.b, k.loc, k.constF32(1), sum));
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      Value value = k.mulf(k.load(k.lanesF32(), k.at(outSlot(row), vector * kVectorBytes)), factor);
      Value target = k.at(out, vector * kVectorBytes), mask = tailMask(k, vector, shape.valueDim());
      mask ? k.storeMasked(value, target, mask) : k.store(value, target);
    }
  });
}

// ---- Keys and values in pairs ----
void MatrixAttentionGenerator::preparePass(const Rows &rows, Value start) {
  Value firstOfPass = k.div(start, kPositions);
  Value first = k.maxOf(firstOfPass, k.mul(k.div(rows.firstBlock, 2), 2));
  Value end = k.minOf(k.add(firstOfPass, kPass / kPositions), rows.endBlock);
  k.loop(first, end, 2, [&](Value block) {
    Value inPass = k.sub(block, firstOfPass);
    Value keys = k.at(k.at(frame, keysAt), k.mul(inPass, keyBlockBytes));
    Value values = k.at(k.at(frame, valuesAt), k.mul(inPass, numVectors * kTileBytes / 2));
    for (int64_t half : {0, 1}) {
      pairKeys(rows, k.add(block, half), k.at(keys, half * keyBlockBytes));
      pairValues(rows, k.add(block, half), half, values);
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
  Value scales = shape.kv.hasScales() ? scalesOf(rows, block, /*ofValues=*/false) : Value();
  auto load = [&](Value source) {
    Value values = loadCache(source);
    return scales ? k.mulf(values, scales) : values;
  };
  int64_t whole = shape.keyDim() / 2;
  k.loop(k.index(0), k.index(whole), 1, [&](Value pair) {
    Value source = k.at(keys, k.mul(pair, 2 * rowBytes));
    storePair(load(source), load(k.at(source, rowBytes)), k.at(target, k.mul(pair, kRowBytes)));
  });
  for (int64_t pair = whole; pair < paddedKeyDim / 2; ++pair) {
    Value last = pair * 2 < shape.keyDim() ? load(k.at(keys, pair * 2 * rowBytes)) : k.lanesOf(0);
    storePair(last, k.lanesOf(0), k.at(target, pair * kRowBytes));
  }
}

// target [vector of Dv] tiles, half of whose rows are V [16 positions][Dv] of a block, in the order in which packing puts
// the weights of two blocks: four of the one, four of the other. Slots after the last position may hold anything, even
// NaN: a position that exists stands in, and its weight is 0.
void MatrixAttentionGenerator::pairValues(const Rows &rows, Value block, int64_t half, Value target) {
  int64_t rowBytes = shape.valueDim() * shape.elementBytes();
  Value values = k.at(k.at(blockAddress(rows, block), shape.kv.getHeads() * shape.keyBytes()),
                      k.mul(rows.cacheGroup, rowBytes * kPositions));
  Value scales = shape.kv.hasScales() ? scalesAddress(rows, block, /*ofValues=*/true) : Value();
  Value within = k.minOf(block, k.sub(rows.endBlock, k.index(1)));
  Value last = k.minOf(k.sub(k.sub(rows.endPosition, k.mul(within, kPositions)), k.index(1)), k.index(kPositions - 1));
  auto load = [&](Value position, int64_t vector) {
    Value number = k.minOf(position, last);
    Value address = k.at(k.at(values, k.mul(number, rowBytes)), vector * kLanes * shape.elementBytes());
    Value loaded = loadCache(address, tailMask(k, vector, shape.valueDim()));
    return scales ? k.mulf(loaded, k.splat(k.load(k.b.getF32Type(), k.at(scales, k.mul(number, 4))))) : loaded;
  };
  k.loop(k.index(0), k.index(kPositions / 4), 1, [&](Value four) {
    for (int64_t pair : {0, 1}) {
      Value even = k.add(k.mul(four, 4), 2 * pair), odd = k.add(even, 1);
      Value row = k.at(k.at(target, k.mul(four, 4 * kRowBytes)), (2 * half + pair) * kRowBytes);
      for (int64_t vector = 0; vector < numVectors; ++vector)
        storePair(load(even, vector), load(odd, vector), k.at(row, vector * kTileBytes));
    }
  });
}

// ---- Products ----
void MatrixAttentionGenerator::moveSums(llvm::StringRef intrinsic, int64_t set, Value memory, int64_t rowBytes) {
  for (int64_t row = 0; row < kRowTiles; ++row)
    callTile(intrinsic, {set + row}, {k.at(memory, row * kTileRows * rowBytes), k.integer(k.b.getI64Type(), rowBytes)});
}

void MatrixAttentionGenerator::multiply(int64_t set, Value left, int64_t leftStride, int64_t right) {
  for (int64_t row = 0; row < kRowTiles; ++row) {
    callTile("tileloadd64", {kLeft + row},
             {k.at(left, row * kTileRows * leftStride), k.integer(k.b.getI64Type(), leftStride)});
    callTile("tdpbf16ps", {set + row, kLeft + row, right});
  }
}

// Sums are stored while the next ones are made in the other set: a register that is stored cannot be begun again.
void MatrixAttentionGenerator::scores(const Tile &tile, Value inPass, int64_t groups) {
  Value queries = slot(queriesAt, tile.row, paddedKeyDim * 2);
  Value keys = k.at(k.at(frame, keysAt), k.mul(k.div(inPass, kPositions), keyBlockBytes));
  auto store = [&](int64_t block) {
    moveSums("tilestored64", setOf(block), k.at(frame, scoresAt + block * kVectorBytes), kScoreBytes);
  };
  int64_t numBlocks = 2 * groups;
  for (int64_t block = 0; block < numBlocks; ++block) {
    for (int64_t row = 0; row < kRowTiles; ++row)
      callTile("tilezero", {setOf(block) + row});
    for (int64_t depth = 0; depth < paddedKeyDim / kDepth; ++depth) {
      Value right = k.at(keys, block * keyBlockBytes + depth * kTileBytes);
      callTile("tileloadd64", {kRight}, {right, k.integer(k.b.getI64Type(), kRowBytes)});
      multiply(setOf(block), k.at(queries, depth * kDepth * 2), paddedKeyDim * 2, kRight);
    }
    if (block > 0)
      store(block - 1);
  }
  store(numBlocks - 1);
}

// Behind the columns of V stands one of ones: it sums the weights.
void MatrixAttentionGenerator::accumulate(const Tile &tile, Value inPass, int64_t groups) {
  int64_t groupBytes = numVectors * kTileBytes;
  Value values = k.at(k.at(frame, valuesAt), k.mul(k.div(inPass, kDepth), groupBytes));
  auto move = [&](llvm::StringRef intrinsic, int64_t column) {
    if (column == numVectors)
      return moveSums(intrinsic, setOf(column), slot(sumsAt, tile.row, kVectorBytes), kVectorBytes);
    moveSums(intrinsic, setOf(column), k.at(outSlot(tile.row), column * kVectorBytes), numVectors * kVectorBytes);
  };
  for (int64_t column = 0; column <= numVectors; ++column) {
    move("tileloadd64", column);
    for (int64_t group = 0; group < groups; ++group) {
      Value right = k.at(values, group * groupBytes + column * kTileBytes);
      if (column < numVectors)
        callTile("tileloadd64", {kRight}, {right, k.integer(k.b.getI64Type(), kRowBytes)});
      multiply(setOf(column), k.at(frame, scoresAt + group * kRowBytes), kScoreBytes,
               column < numVectors ? kRight : kOnes);
    }
    if (column > 0)
      move("tilestored64", column - 1);
  }
  move("tilestored64", numVectors);
}

// ---- A tile of rows meets a pass ----
// What no row sees, at the diagonal and behind a window's edge, is left out by groups of 32 positions.
void MatrixAttentionGenerator::attend(const Rows &rows, const Tile &tile, Value start) {
  Value first = start, end = k.minOf(k.add(start, kPass), k.add(tile.lastOwn, 1));
  if (shape.window)
    first = k.maxOf(start, k.mul(k.div(firstSeen(k, tile.firstOwn, shape.window), kDepth), kDepth));
  for (int64_t groups = kPassGroups; groups > 0; --groups) {
    Value length = k.sub(end, first);
    Value isThis = k.less(k.index((groups - 1) * kDepth), length);
    if (groups < kPassGroups)
      isThis = arith::AndIOp::create(k.b, k.loc, isThis, k.less(length, k.index(groups * kDepth + 1)));
    k.when(isThis, [&] { attendGroups(rows, tile, first, k.sub(first, start), groups); });
  }
}

void MatrixAttentionGenerator::attendGroups(const Rows &rows, const Tile &tile, Value first, Value inPass,
                                            int64_t groups) {
  scores(tile, inPass, groups);
  if (shape.softCap)
    capScores(groups);
  maskScores(rows, tile, first, groups);
  weigh(tile, groups, first);
  accumulate(tile, inPass, groups);
}

void MatrixAttentionGenerator::capScores(int64_t groups) {
  k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
    for (int64_t vector = 0; vector < 2 * groups; ++vector) {
      Value address = k.at(slot(scoresAt, row, kScoreBytes), vector * kVectorBytes);
      Value capped = emitTanh(k, k.load(k.lanesF32(), address));
      k.store(k.mulf(capped, k.lanesOf(*shape.softCap * kLog2E * kSteps)), address);
    }
  });
}

void MatrixAttentionGenerator::maskScores(const Rows &rows, const Tile &tile, Value first, int64_t groups) {
  Value end = k.add(first, groups * kDepth), firstMasked = first;
  if (!shape.window)
    firstMasked = k.maxOf(first, k.mul(k.div(k.add(tile.firstOwn, 1), kDepth), kDepth));
  k.loop(firstMasked, end, kDepth, [&](Value position) {
    Value scores = k.at(k.at(frame, scoresAt), k.mul(k.sub(position, first), 4));
    k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
      Value own = positionOf(rows, tokenOf(rows, k.add(tile.row, row)));
      for (int64_t vector : {0, 1}) {
        Value address = k.at(k.at(scores, k.mul(row, kScoreBytes)), vector * kVectorBytes);
        Value isSeen = seenLanes(own, k.add(k.div(position, kPositions), vector));
        k.store(k.select(isSeen, k.load(k.lanesF32(), address), k.lanesOf(kUnseen)), address);
      }
    });
  });
}

// ---- A row's weights ----
void MatrixAttentionGenerator::weigh(const Tile &tile, int64_t groups, Value first) {
  // Scores far below the reference matter where nothing was seen before.
  Value lowest = k.integer(k.b.getI16Type(), kLowest);
  if (!shape.window)
    lowest = k.select(k.less(first, k.index(1)), lowest, k.integer(k.b.getI16Type(), 0));
  k.loop(k.index(0), k.index(kRows), 1, [&](Value inner) {
    Value row = k.add(tile.row, inner), scores = slot(scoresAt, inner, kScoreBytes);
    Value offset = k.load(k.b.getI32Type(), slot(offsetsAt, row, 4));
    SmallVector<Value> found = exponents(scores, offset, groups);
    Value most = found[0];
    for (Value other : ArrayRef(found).drop_front())
      most = arith::MaxUIOp::create(k.b, k.loc, most, other);
    auto choice = scf::IfOp::create(k.b, k.loc, SmallVector<Type>(groups, words()), isFar(most, lowest), /*withElseRegion=*/true);
    {
      OpBuilder::InsertionGuard guard(k.b);
      k.b.setInsertionPointToStart(choice.thenBlock());
      Value moved = moveReference(row, scores, offset, groups);
      scf::YieldOp::create(k.b, k.loc, exponents(scores, moved, groups));
      k.b.setInsertionPointToStart(choice.elseBlock());
      scf::YieldOp::create(k.b, k.loc, found);
    }
    for (int64_t group = 0; group < groups; ++group)
      k.store(weightsOf(choice.getResult(group)), k.at(scores, group * kRowBytes));
  });
}

SmallVector<Value> MatrixAttentionGenerator::exponents(Value scores, Value offset, int64_t groups) {
  Type integers = k.lanes(k.b.getI32Type());
  Value offsets = k.splat(offset);
  Value allLanes = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI16Type(), k.b.getI16IntegerAttr(-1));
  Value currentRounding = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI32Type(), k.b.getI32IntegerAttr(4));
  auto steps = [&](int64_t vector) -> Value {
    Value score = k.load(k.lanesF32(), k.at(scores, vector * kVectorBytes));
    Value nearest = callVector("avx512.mask.cvtps2dq.512", integers,
                               {score, k.integer(integers, 0), allLanes, currentRounding});
    return arith::AddIOp::create(k.b, k.loc, nearest, offsets);
  };
  SmallVector<Value> result;
  for (int64_t group = 0; group < groups; ++group)
    result.push_back(callVector("avx512.packusdw.512", words(), {steps(2 * group), steps(2 * group + 1)}));
  return result;
}

Value MatrixAttentionGenerator::moveReference(Value row, Value scores, Value offset, int64_t groups) {
  Type integer = k.b.getI32Type();
  Value highest = k.load(k.lanesF32(), scores), sums = k.load(k.lanesF32(), slot(sumsAt, row, kVectorBytes));
  for (int64_t vector = 1; vector < 2 * groups; ++vector)
    highest = k.maxf(k.load(k.lanesF32(), k.at(scores, vector * kVectorBytes)), highest);
  Value most = k.reduceTree(highest, [&](Value x, Value y) { return k.maxf(x, y); });
  Value octave = arith::FPToSIOp::create(k.b, k.loc, integer, k.mulf(most, k.constF32(1.0 / kSteps)));
  octave = arith::MaxSIOp::create(k.b, k.loc, octave, k.integer(integer, kFarthest / kSteps));
  Value oldSteps = arith::SubIOp::create(k.b, k.loc, k.integer(integer, kBias), offset);
  Value old = arith::DivSIOp::create(k.b, k.loc, oldSteps, k.integer(integer, kSteps));
  Value sum = vector::ExtractOp::create(k.b, k.loc, sums, ArrayRef<int64_t>{0});  // all lanes are the same
  Value isEmpty = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, sum, k.constF32(0));
  Value next = k.select(isEmpty, octave, arith::MaxSIOp::create(k.b, k.loc, old, octave));

  Value power = arith::SubIOp::create(k.b, k.loc, old, next);
  power = arith::MaxSIOp::create(k.b, k.loc, power, k.integer(integer, -127));
  power = arith::MinSIOp::create(k.b, k.loc, power, k.integer(integer, 127));
  Value bits = arith::ShLIOp::create(k.b, k.loc, arith::AddIOp::create(k.b, k.loc, power, k.integer(integer, 127)),
                                     k.integer(integer, 23));
  Value factor = k.splat(arith::BitcastOp::create(k.b, k.loc, k.b.getF32Type(), bits));
  k.store(k.mulf(sums, factor), slot(sumsAt, row, kVectorBytes));
  for (int64_t vector = 0; vector < numVectors; ++vector) {
    Value address = k.at(outSlot(row), vector * kVectorBytes);
    k.store(k.mulf(k.load(k.lanesF32(), address), factor), address);
  }
  Value moved = arith::SubIOp::create(k.b, k.loc, k.integer(integer, kBias),
                                      arith::MulIOp::create(k.b, k.loc, next, k.integer(integer, kSteps)));
  k.store(moved, slot(offsetsAt, row, 4));
  return moved;
}

Value MatrixAttentionGenerator::weightsOf(Value exponents) {
  Type bytes = VectorType::get(4 * kLanes, k.b.getI8Type()), mask = VectorType::get(4 * kLanes, k.b.getI1Type());
  SmallVector<bool> lowHalves;
  for (int64_t byte = 0; byte < 4 * kLanes; ++byte)
    lowHalves.push_back(byte % 2 == 0);
  Value entries = arith::ShRUIOp::create(k.b, k.loc, exponents, k.integer(words(), 1));
  Value found = callVector("avx512.permvar.qi.512", bytes, {bend, LLVM::BitcastOp::create(k.b, k.loc, bytes, entries)});
  Value isLow = arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(cast<ShapedType>(mask), lowHalves));
  Value bent = LLVM::BitcastOp::create(k.b, k.loc, words(), k.select(isLow, found, k.integer(bytes, 0)));
  return arith::SubIOp::create(k.b, k.loc, exponents, bent);
}

// A lane above what bf16 has room for, or none above what may be neglected.
Value MatrixAttentionGenerator::isFar(Value exponents, Value lowest) {
  Type integer = k.b.getI32Type();
  auto lanesAbove = [&](Value bound) -> Value {
    Value above = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::uge, exponents,
                                        vector::BroadcastOp::create(k.b, k.loc, words(), bound));
    return LLVM::BitcastOp::create(k.b, k.loc, integer, above);
  };
  auto compare = [&](arith::CmpIPredicate predicate, Value lanes) -> Value {
    return arith::CmpIOp::create(k.b, k.loc, predicate, lanes, k.integer(integer, 0));
  };
  Value isHigh = compare(arith::CmpIPredicate::ne, lanesAbove(k.integer(k.b.getI16Type(), kHighest)));
  Value isLow = compare(arith::CmpIPredicate::eq, lanesAbove(lowest));
  return arith::OrIOp::create(k.b, k.loc, isHigh, isLow);
}

}  // namespace girih::cpu
