// SPDX-License-Identifier: Apache-2.0
// MatrixAttentionGenerator: implementation. Sums of two row tiles are a set; while one set is made, the other is stored.
#include "backends/cpu/codegen/microkernels/matrix_attention_generator.h"

#include "backends/cpu/codegen/math_functions.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinAttributes.h"

#include <array>
#include <cmath>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kTileRows = 16, kRowBytes = 64, kTileBytes = kTileRows * kRowBytes;
constexpr int64_t kDepth = 32;              // bf16 values of a row of a left tile
constexpr int64_t kRowTiles = 2;            // row tiles that are multiplied together
constexpr int64_t kRows = kRowTiles * kTileRows;
constexpr int64_t kSums = 4;                // registers, from 0 on; the others are for operands
constexpr int64_t kScoreBytes = kDepth * 4;  // of a row
constexpr int64_t kScoresBytes = kRows * kScoreBytes;
constexpr int64_t kParts = 8, kTogether = kRows / kParts;  // of the rows of a tile, between which products are multiplied

constexpr double kLog2E = 1.4426950408889634;
constexpr int64_t kSteps = 128;             // of an octave: those of bf16's mantissa
constexpr int64_t kBias = 127 * kSteps;     // 1.0
constexpr int64_t kHighest = kBias + 60 * kSteps, kLowest = kBias - 60 * kSteps;
// What stands for the score of a position that is not seen, and what no reference is below: their sum with the bias is
// negative, and a weight of 0.
constexpr int64_t kUnseen = -(int64_t(1) << 30), kFarthest = -(int64_t(1) << 29);


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

}  // namespace

MatrixAttentionGenerator::MatrixAttentionGenerator(KernelBuilder &k, const AttentionShape &shape,
                                                   const AttentionOperands &operands, int64_t maxTokens, Value scratch)
    : AttentionRows(k, shape, operands, rowsRounded(shape, maxTokens)), paddedKeyDim(keyDimRounded(shape)),
      keyBlockBytes(paddedKeyDim * kPositions * 2) {
  queriesAt = section(maxRows * paddedKeyDim * 2);
  keysAt = section(kPass * paddedKeyDim * 2);
  valuesAt = section(kPass * numVectors * kLanes * 2);
  scoresAt = section(2 * kScoresBytes);
  weightsAt = section(kRows * kWeightBytes);
  outAt = section(maxRows * numVectors * kVectorBytes);
  sumsAt = section(maxRows * kVectorBytes);
  offsetsAt = section(maxRows * 4);
  ownAt = section(maxRows * 4);
  configurationAt = section(kRowBytes);
  frame = scratch;
}

int64_t MatrixAttentionGenerator::scratchBytes(const AttentionShape &shape, int64_t maxTokens) {
  int64_t valueDim = llvm::alignTo(shape.valueDim(), kLanes), keyDim = keyDimRounded(shape);
  int64_t rowBytes = keyDim * 2 + valueDim * 4 + kVectorBytes + 8;
  return rowsRounded(shape, maxTokens) * rowBytes + kPass * (keyDim + valueDim) * 2 +
         2 * kScoresBytes + kRows * kWeightBytes + kRowBytes;
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
}

void MatrixAttentionGenerator::release() { callTile("tilerelease", {}); }

Value MatrixAttentionGenerator::scoresOf(const Group &group, Value row, int64_t vector) {
  Value buffer = k.at(k.at(frame, k.mul(group.parity, kScoresBytes)), scoresAt);
  return k.at(k.at(buffer, k.mul(row, kScoreBytes)), vector * kVectorBytes);
}

Value MatrixAttentionGenerator::weightsOf(Value group, Value row) {
  return k.at(k.at(k.at(frame, weightsAt), k.mul(group, kGroupBytes)), k.mul(row, kWeightBytes));
}

Value MatrixAttentionGenerator::ofRow(int64_t section, const Tile &tile, Value row, int64_t rowBytes) {
  return k.at(slot(section, tile.row, rowBytes), k.mul(row, rowBytes));
}

// ---- The walk ----
void MatrixAttentionGenerator::emit(Value numTokens, Value token, Value group, Value cacheGroup) {
  SmallVector<int8_t> table = bendTable();
  Type bytes = VectorType::get(64, k.b.getI8Type()), word = k.b.getI64Type();
  // Pinned: LLVM would make two instructions of a permutation under a mask that it knows.
  bend = k.pin(arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(cast<ShapedType>(bytes), ArrayRef(table))), "v");
  lowBytes = LLVM::BitcastOp::create(k.b, k.loc, VectorType::get(64, k.b.getI1Type()),
                                     k.pin(k.integer(word, 0x5555'5555'5555'5555), "r"));
  Rows rows = rowsOf(numTokens, token, group, cacheGroup);
  prepareQueries(rows);
  Value endPass = k.add(k.div(k.sub(rows.endPosition, k.index(1)), kPass), 1);
  k.loop(k.div(rows.firstBlock, kPass / kPositions), endPass, 1, [&](Value pass) {
    Value start = k.mul(pass, kPass);
    preparePass(rows, start);
    meetPass(rows, start);
  });
  finish(rows);
}

// Rows behind the last one stand for its token.
Value MatrixAttentionGenerator::tokenOf(const Rows &rows, Value row) {
  return k.minOf(k.div(row, shape.headsPerGroup), k.sub(rows.numTokens, k.index(1)));
}

void MatrixAttentionGenerator::forRows(const Rows &rows, llvm::function_ref<void(const Row &)> body) {
  k.loop(k.index(0), rows.numTokens, 1, [&](Value token) {
    Value first = k.mul(token, shape.headsPerGroup), q = queryAddress(rows, first), out = outAddress(rows, first);
    for (int64_t head = 0; head < shape.headsPerGroup; ++head)
      body({token, k.add(first, head), k.at(q, k.mul(operands.qHeadStride, head)),
            k.at(out, k.mul(operands.outHeadStride, head))});
  });
}

// The scale is in the queries, and the steps of an octave, unless a cap stands between. Rows behind the last are zero.
void MatrixAttentionGenerator::prepareQueries(const Rows &rows) {
  double factor = shape.softCap ? shape.scale / *shape.softCap : shape.scale * kLog2E * kSteps;
  Value number = k.integer(k.b.getI32Type(), kBias);
  forRows(rows, [&](const Row &row) {
    Value target = slot(queriesAt, row.number, paddedKeyDim * 2);
    auto load = [&](int64_t first) -> Value {
      int64_t left = shape.keyDim() - first;
      if (left <= 0)
        return k.lanesOf(0);
      Value source = k.at(row.q, first * 4);
      Value values = left >= kLanes ? k.load(k.lanesF32(), source) : k.loadMasked(k.lanesF32(), source, k.maskOf(k.index(left)));
      return k.mulf(values, k.lanesOf(factor));
    };
    for (int64_t first = 0; first < paddedKeyDim; first += kDepth)
      k.store(roundedPair(load(first), load(first + kLanes)), k.at(target, first * 2));
    k.store(number, slot(offsetsAt, row.number, 4));
    k.store(k.toInteger(positionOf(rows, row.token), k.b.getI32Type()), slot(ownAt, row.number, 4));
  });
  Value last = k.load(k.b.getI32Type(), slot(ownAt, k.sub(rows.count, k.index(1)), 4));
  k.loop(rows.count, roundedUp(rows.count), 1, [&](Value row) {
    for (int64_t first = 0; first < paddedKeyDim; first += kDepth)
      k.store(k.lanesOf(0), k.at(slot(queriesAt, row, paddedKeyDim * 2), first * 2));
    k.store(number, slot(offsetsAt, row, 4));
    k.store(last, slot(ownAt, row, 4));
  });
}

Value MatrixAttentionGenerator::roundedUp(Value count) { return k.mul(k.div(k.add(count, kRows - 1), kRows), kRows); }

// Where the tile first meets a pass.
void MatrixAttentionGenerator::clearSums(const Tile &tile) {
  k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
    for (int64_t vector = 0; vector < numVectors; ++vector)
      k.store(k.lanesOf(0), k.at(outSlot(k.add(tile.row, row)), vector * kVectorBytes));
    k.store(k.lanesOf(0), ofRow(sumsAt, tile, row, kVectorBytes));
  });
}

void MatrixAttentionGenerator::finish(const Rows &rows) {
  forRows(rows, [&](const Row &row) {
    Value sums = k.load(k.lanesF32(), slot(sumsAt, row.number, kVectorBytes));
    Value sum = k.reduceTree(sums, [&](Value x, Value y) { return k.addf(x, y); });
    Value factor = k.splat(arith::DivFOp::create(k.b, k.loc, k.constF32(1), sum));
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      Value value = k.mulf(k.load(k.lanesF32(), k.at(outSlot(row.number), vector * kVectorBytes)), factor);
      storeResult(k, value, row.out, operands.outElement, vector, shape.valueDim());
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

Value MatrixAttentionGenerator::roundedPair(Value low, Value high) {
  return callVector("avx512bf16.cvtne2ps2bf16.512", halves(), {high, low});  // the first becomes the upper half
}

// A row of a right tile: 16 columns, of each the values of two rows.
void MatrixAttentionGenerator::storePair(Value even, Value odd, Value target) {
  Value pair = roundedPair(even, odd);
  SmallVector<int64_t> interleaved;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    interleaved.append({lane, kLanes + lane});
  k.store(vector::ShuffleOp::create(k.b, k.loc, pair, pair, interleaved), target, kRowBytes);
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

// ---- Rows meet a pass ----
MatrixAttentionGenerator::Tile MatrixAttentionGenerator::tileOf(const Rows &rows, Value row, Value start) {
  Tile tile = {row, start, positionOf(rows, tokenOf(rows, row)), positionOf(rows, tokenOf(rows, k.add(row, kRows - 1))),
               k.index(0), {}};
  // What no row sees, at the diagonal and behind a window's edge, is left out.
  if (shape.window)
    tile.firstGroup = k.div(k.sub(k.maxOf(start, firstSeen(k, tile.firstOwn, shape.window)), start), kGroup);
  Value end = k.maxOf(k.minOf(k.add(start, kPass), k.add(tile.lastOwn, 1)), start);
  tile.endGroup = k.div(k.sub(k.add(end, kGroup - 1), start), kGroup);
  return tile;
}

// Groups are taken one after the other, tile by tile. While weights are made of a group's scores, those of the next lie
// ready or are being stored, and those of the one after it are multiplied.
void MatrixAttentionGenerator::meetPass(const Rows &rows, Value start) {
  SmallVector<Value> initial(3, k.index(0));
  k.loop(k.index(0), rows.count, kRows, initial, [&](Value row, ValueRange carried) {
    Tile tile = tileOf(rows, row, start);
    return k.when(k.less(tile.firstGroup, tile.endGroup), carried, [&] { return meetTile(rows, tile, carried); });
  });
}

// Carried: how many groups were met, and the row and group whose scores are multiplied next.
SmallVector<Value> MatrixAttentionGenerator::meetTile(const Rows &rows, const Tile &tile, ValueRange carried) {
  k.when(k.less(tile.start, k.add(firstSeen(k, tile.firstOwn, shape.window), 1)), [&] { clearSums(tile); });
  Value number = carried[0];
  Value isFirst = k.less(number, k.index(1));
  SmallVector<Value> state = k.when(isFirst, carried, [&] {
    Place place = {tile.row, tile.firstGroup};
    for (int64_t parity : {0, 1}) {
      multiplyKeys(place, [](int64_t) {});
      storeScores(k.index(parity));
      place = after(rows, place, tile.start);
    }
    return SmallVector<Value>{number, place.row, place.group};
  });
  state = k.loop(tile.firstGroup, tile.endGroup, 1, state, [&](Value position, ValueRange values) {
    Group group = {tile, position, k.add(tile.start, k.mul(position, kGroup)), k.rem(values[0], k.index(2))};
    Place next = {values[1], values[2]};
    meetGroup(group, next);
    Place then = after(rows, next, tile.start);
    return SmallVector<Value>{k.add(values[0], 1), then.row, then.group};
  });
  Value parity = k.rem(k.add(state[0], 1), k.index(2));  // the last group's
  Value numGroups = k.sub(tile.endGroup, tile.firstGroup);
  for (int64_t groups = 1; groups <= kPassGroups; ++groups)
    k.when(arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, numGroups, k.index(groups)), [&] { multiplyValues(tile, groups, parity); });
  return state;
}

// The last stands for those behind it.
MatrixAttentionGenerator::Place MatrixAttentionGenerator::after(const Rows &rows, const Place &place, Value start) {
  Value further = k.add(place.group, 1), nextRow = k.add(place.row, kRows);
  Tile here = tileOf(rows, place.row, start), next = tileOf(rows, nextRow, start);
  Value isHere = k.less(further, here.endGroup), isNone = k.less(rows.count, k.add(nextRow, 1));
  isNone = arith::OrIOp::create(k.b, k.loc, isNone, k.less(next.endGroup, k.add(next.firstGroup, 1)));
  Value row = k.select(isHere, place.row, k.select(isNone, place.row, nextRow));
  Value group = k.select(isHere, further, k.select(isNone, place.group, next.firstGroup));
  return {row, group};
}

// A tile's first group finds the next one's scores stored: multiplyValues, which comes before it, needs the registers.
void MatrixAttentionGenerator::meetGroup(const Group &group, const Place &next) {
  const Tile &tile = group.tile;
  Type bit = k.b.getI1Type();
  auto inverse = [&](Value condition) -> Value { return arith::XOrIOp::create(k.b, k.loc, condition, k.integer(bit, 1)); };
  auto both = [&](Value x, Value y) -> Value { return arith::AndIOp::create(k.b, k.loc, x, y); };
  Value isCut = k.less(tile.firstOwn, k.add(group.position, kGroup - 1));
  // Where some row sees nothing before this group, scores far below the reference may be all that it has.
  Value isEarly = k.less(group.position, k.add(firstSeen(k, tile.lastOwn, shape.window), 1));
  Value isQuick = inverse(arith::OrIOp::create(k.b, k.loc, isCut, isEarly));
  Value isPending = k.less(tile.firstGroup, group.number), otherParity = k.sub(k.index(1), group.parity);
  if (shape.softCap)
    capScores(group);
  k.when(inverse(isQuick), [&] {
    k.when(isPending, [&] { storeScores(otherParity); });
    multiplyKeys(next);
    k.when(isEarly, [&] { weighCarefully(group); });
  });
  Value isFar = k.integer(bit, 0);
  auto tryTo = [&](Value condition, llvm::function_ref<Value()> weigh) {
    isFar = k.when(condition, isFar, [&] { return SmallVector<Value>{isAbove(weigh(), kHighest)}; })[0];
  };
  tryTo(both(isCut, inverse(isEarly)), [&] { return weighCut(group); });
  for (bool stores : {false, true})
    tryTo(both(isQuick, stores ? isPending : inverse(isPending)), [&] {
      Value most = k.integer(words(), 0);
      multiplyKeys(
          next, [&](int64_t sum) { stores ? storeScores(otherParity, sum) : void(); },
          [&](int64_t part) { most = weighRows(group, k.index(part * kTogether), /*isCut=*/false, most); });
      return most;
    });
  auto careful = scf::IfOp::create(k.b, k.loc, isFar, /*withElseRegion=*/false);
  careful->setAttr("girih.seldom", k.b.getUnitAttr());
  OpBuilder::InsertionGuard guard(k.b);
  k.b.setInsertionPoint(careful.thenBlock()->getTerminator());
  weighCarefully(group);
}

void MatrixAttentionGenerator::capScores(const Group &group) {
  k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
    for (int64_t vector : {0, 1}) {
      Value address = scoresOf(group, row, vector), capped = emitTanh(k, k.load(k.lanesF32(), address));
      k.store(k.mulf(capped, k.lanesOf(*shape.softCap * kLog2E * kSteps)), address);
    }
  });
}

// ---- Products ----
namespace {

// Which operand each of the registers for operands holds.
class OperandRegisters {
public:
  // The register of operand `name`, and whether it has to be loaded first; then it takes the place of the one that
  // was not asked for longest.
  std::pair<int64_t, bool> find(int64_t name) {
    auto *found = llvm::find_if(held, [&](const auto &entry) { return entry.name == name; });
    bool isNew = found == held.end();
    if (isNew)
      found = llvm::min_element(held, [](const auto &x, const auto &y) { return x.lastUse < y.lastUse; });
    *found = {name, ++uses};
    return {kSums + (found - held.begin()), isNew};
  }

private:
  struct Entry {
    int64_t name = -1, lastUse = 0;
  };
  std::array<Entry, 4> held;
  int64_t uses = 0;
};

}  // namespace

void MatrixAttentionGenerator::loadTile(int64_t number, Value memory, int64_t rowBytes) {
  callTile("tileloadd64", {number}, {memory, k.integer(k.b.getI64Type(), rowBytes)});
}

// Of 32 positions. The sums, 2 of the positions' blocks by 2 of the rows, stay in registers. A sum is made to its end
// before the next is begun, so that it can be stored while others are made. `before` each sum, `between` the parts.
void MatrixAttentionGenerator::multiplyKeys(const Place &place, llvm::function_ref<void(int64_t)> before,
                                            llvm::function_ref<void(int64_t)> between) {
  Value queries = slot(queriesAt, place.row, paddedKeyDim * 2);
  Value keys = k.at(k.at(frame, k.mul(place.group, 2 * keyBlockBytes)), keysAt);
  OperandRegisters operands;
  int64_t numDepths = paddedKeyDim / kDepth, products = 0, parts = 0;
  for (auto [block, row] : {std::pair(0, 0), std::pair(0, 1), std::pair(1, 1), std::pair(1, 0)}) {
    int64_t sum = block * kRowTiles + row;
    if (before)
      before(sum);
    callTile("tilezero", {sum});
    for (int64_t depth = 0; depth < numDepths; ++depth) {
      auto [left, isNewLeft] = operands.find(depth * 4 + row);
      if (isNewLeft)
        loadTile(left, k.at(queries, depth * kRowBytes + row * kTileRows * paddedKeyDim * 2), paddedKeyDim * 2);
      auto [right, isNewRight] = operands.find(depth * 4 + 2 + block);
      if (isNewRight)
        loadTile(right, k.at(keys, block * keyBlockBytes + depth * kTileBytes), kRowBytes);
      callTile("tdpbf16ps", {sum, left, right});
      for (++products; between && parts * 4 * numDepths < products * kParts; ++parts)
        between(parts);
    }
  }
}

void MatrixAttentionGenerator::storeScores(Value parity, int64_t sum) {
  int64_t offset = sum % kRowTiles * kTileRows * kScoreBytes + sum / kRowTiles * kVectorBytes;
  Value target = k.at(k.at(frame, k.mul(parity, kScoresBytes)), scoresAt + offset);
  callTile("tilestored64", {sum}, {target, k.integer(k.b.getI64Type(), kScoreBytes)});
}

void MatrixAttentionGenerator::storeScores(Value parity) {
  for (int64_t sum = 0; sum < kSums; ++sum)
    storeScores(parity, sum);
}

void MatrixAttentionGenerator::moveOut(llvm::StringRef intrinsic, const Tile &tile, int64_t firstColumn, int64_t sum) {
  int64_t rowBytes = numVectors * kVectorBytes, column = firstColumn + sum / kRowTiles;
  Value memory = k.at(outSlot(tile.row), column * kVectorBytes + sum % kRowTiles * kTileRows * rowBytes);
  callTile(intrinsic, {sum}, {memory, k.integer(k.b.getI64Type(), rowBytes)});
}

// Two of V's columns of tiles at a time. What the registers hold is stored just before they are needed: scores of the
// group after the next, then sums of the columns before. Weights are summed between the products.
void MatrixAttentionGenerator::multiplyValues(const Tile &tile, int64_t numGroups, Value parity) {
  int64_t groupBytes = numVectors * kTileBytes, products = 0, rows = 0;
  Value values = k.at(k.at(frame, k.mul(tile.firstGroup, groupBytes)), valuesAt);
  for (int64_t column = 0; column < numVectors; column += 2) {
    int64_t numSums = std::min<int64_t>(numVectors - column, 2) * kRowTiles;
    auto begin = [&](int64_t sum) {
      column == 0 ? storeScores(parity, sum) : moveOut("tilestored64", tile, column - 2, sum);
      if (sum < numSums)
        moveOut("tileloadd64", tile, column, sum);
    };
    for (int64_t group = 0; group < numGroups; ++group)
      for (int64_t sum = 0; sum < kSums; ++sum) {
        int64_t row = sum % kRowTiles, left = kSums + row, right = kSums + 2 + sum / kRowTiles;
        if (group == 0)
          begin(sum);
        if (sum >= numSums)
          continue;
        if (row == 0)
          loadTile(right, k.at(values, group * groupBytes + (column + sum / kRowTiles) * kTileBytes), kRowBytes);
        if (sum < kRowTiles)
          loadTile(left, weightsOf(k.add(tile.firstGroup, group), k.index(row * kTileRows)), kWeightBytes);
        callTile("tdpbf16ps", {sum, left, right});
        for (++products; rows * numVectors * kRowTiles * numGroups < products * kRows; ++rows)
          sumWeights(tile, k.index(rows), numGroups);
      }
  }
  int64_t last = (numVectors - 1) / 2 * 2;
  for (int64_t sum = 0; sum < (numVectors - last) * kRowTiles; ++sum)
    moveOut("tilestored64", tile, last, sum);
}

// ---- Weights ----
Value MatrixAttentionGenerator::weighRows(const Group &group, Value first, bool isCut, Value most) {
  for (int64_t number = 0; number < kTogether; ++number) {
    Value row = k.add(first, number), offset = k.load(k.b.getI32Type(), ofRow(offsetsAt, group.tile, row));
    Value found = exponents(group, row, offset, isCut);
    most = arith::MaxUIOp::create(k.b, k.loc, most, found);
    k.store(bent(found), weightsOf(group.number, row));
  }
  return most;
}

Value MatrixAttentionGenerator::weighCut(const Group &group) {
  return k.loop(k.index(0), k.index(kRows), kTogether, k.integer(words(), 0), [&](Value first, ValueRange most) {
    return SmallVector<Value>{weighRows(group, first, /*isCut=*/true, most[0])};
  })[0];
}

void MatrixAttentionGenerator::weighCarefully(const Group &group) {
  k.loop(k.index(0), k.index(kRows), 1, [&](Value row) {
    Value offset = k.load(k.b.getI32Type(), ofRow(offsetsAt, group.tile, row));
    Value found = exponents(group, row, offset, /*isCut=*/true);
    auto predicate = arith::CmpIPredicate::ule;  // high or not even low
    Value isFar = arith::CmpIOp::create(k.b, k.loc, predicate, isAbove(found, kLowest), isAbove(found, kHighest));
    auto choice = scf::IfOp::create(k.b, k.loc, TypeRange(words()), isFar, /*withElseRegion=*/true);
    choice->setAttr("girih.seldom", k.b.getUnitAttr());
    {
      OpBuilder::InsertionGuard guard(k.b);
      k.b.setInsertionPointToStart(choice.thenBlock());
      scf::YieldOp::create(k.b, k.loc, exponents(group, row, moveReference(group, row, offset), /*isCut=*/true));
      k.b.setInsertionPointToStart(choice.elseBlock());
      scf::YieldOp::create(k.b, k.loc, found);
    }
    k.store(bent(choice.getResult(0)), weightsOf(group.number, row));
  });
}

// Of 32 positions the bits of bf16 weights, but for the bend.
Value MatrixAttentionGenerator::exponents(const Group &group, Value row, Value offset, bool isCut) {
  Type integers = k.lanes(k.b.getI32Type());
  Value offsets = k.splat(offset);
  Value allLanes = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI16Type(), k.b.getI16IntegerAttr(-1));
  Value currentRounding = LLVM::ConstantOp::create(k.b, k.loc, k.b.getI32Type(), k.b.getI32IntegerAttr(4));
  SmallVector<Value> steps;
  for (int64_t vector : {0, 1}) {
    Value score = k.load(k.lanesF32(), scoresOf(group, row, vector));
    Value nearest = callVector("avx512.mask.cvtps2dq.512", integers,
                               {score, k.integer(integers, 0), allLanes, currentRounding});
    Value sum = arith::AddIOp::create(k.b, k.loc, nearest, offsets);
    steps.push_back(isCut ? k.select(isSeen(group, row, vector), sum, k.integer(integers, 0)) : sum);
  }
  return callVector("avx512.packusdw.512", words(), steps);
}

Value MatrixAttentionGenerator::isSeen(const Group &group, Value row, int64_t vector) {
  Value own = k.toIndex(k.load(k.b.getI32Type(), ofRow(ownAt, group.tile, row)));
  return seenLanes(own, k.add(k.div(group.position, kPositions), vector));
}

Value MatrixAttentionGenerator::bent(Value exponents) {
  Type bytes = VectorType::get(4 * kLanes, k.b.getI8Type());
  Value entries = arith::ShRUIOp::create(k.b, k.loc, exponents, k.integer(words(), 1));
  Value found = callVector("avx512.permvar.qi.512", bytes, {bend, LLVM::BitcastOp::create(k.b, k.loc, bytes, entries)});
  Value bends = LLVM::BitcastOp::create(k.b, k.loc, words(), k.select(lowBytes, found, k.integer(bytes, 0)));
  return arith::SubIOp::create(k.b, k.loc, exponents, bends);
}

Value MatrixAttentionGenerator::isAbove(Value values, int64_t bound) {
  Type integer = k.b.getI32Type();
  Value above = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::uge, values, k.integer(words(), bound));
  return arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, LLVM::BitcastOp::create(k.b, k.loc, integer, above),
                               k.integer(integer, 0));
}

// Partial sums of a row's rounded weights, in 16 lanes.
void MatrixAttentionGenerator::sumWeights(const Tile &tile, Value row, int64_t numGroups) {
  Value address = ofRow(sumsAt, tile, row, kVectorBytes), sum = k.load(k.lanesF32(), address);
  for (int64_t group = 0; group < numGroups; ++group) {
    Value weights = k.load(halves(), weightsOf(k.add(tile.firstGroup, group), row));
    sum = callVector("avx512bf16.dpbf16ps.512", k.lanesF32(), {sum, weights, k.constant(halves(), 1)});
  }
  k.store(sum, address);
}

// ---- References ----
Value MatrixAttentionGenerator::moveReference(const Group &group, Value row, Value offset) {
  Type integer = k.b.getI32Type();
  Value octave = arith::MaxSIOp::create(k.b, k.loc, highestOctave(group, row), k.integer(integer, kFarthest / kSteps));
  Value oldSteps = arith::SubIOp::create(k.b, k.loc, k.integer(integer, kBias), offset);
  Value old = arith::DivSIOp::create(k.b, k.loc, oldSteps, k.integer(integer, kSteps));
  Value sums = k.load(k.lanesF32(), ofRow(sumsAt, group.tile, row, kVectorBytes));
  Value sum = k.reduceTree(sums, [&](Value x, Value y) { return k.addf(x, y); });
  Value isEmpty = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, sum, k.constF32(0));
  Value earlier = earlierWeights(group, row);
  isEmpty = k.select(isAbove(earlier, 1), k.integer(k.b.getI1Type(), 0), isEmpty);
  Value next = k.select(isEmpty, octave, arith::MaxSIOp::create(k.b, k.loc, old, octave));

  Value power = arith::SubIOp::create(k.b, k.loc, old, next);
  power = arith::MaxSIOp::create(k.b, k.loc, power, k.integer(integer, -127));
  power = arith::MinSIOp::create(k.b, k.loc, power, k.integer(integer, 127));
  multiplyRow(group, row, power);
  Value moved = arith::SubIOp::create(k.b, k.loc, k.integer(integer, kBias),
                                      arith::MulIOp::create(k.b, k.loc, next, k.integer(integer, kSteps)));
  k.store(moved, ofRow(offsetsAt, group.tile, row));
  return moved;
}

Value MatrixAttentionGenerator::highestOctave(const Group &group, Value row) {
  SmallVector<Value> scores;
  for (int64_t vector : {0, 1}) {
    Value score = k.load(k.lanesF32(), scoresOf(group, row, vector));
    scores.push_back(k.select(isSeen(group, row, vector), score, k.lanesOf(kUnseen)));
  }
  Value most = k.reduceTree(k.maxf(scores[0], scores[1]), [&](Value x, Value y) { return k.maxf(x, y); });
  return arith::FPToSIOp::create(k.b, k.loc, k.b.getI32Type(), k.mulf(most, k.constF32(1.0 / kSteps)));
}

// The largest in each lane of the pass's groups before this one, not in the sums yet.
Value MatrixAttentionGenerator::earlierWeights(const Group &group, Value row) {
  return k.loop(group.tile.firstGroup, group.number, 1, k.integer(words(), 0), [&](Value earlier, ValueRange most) {
    Value weights = k.load(words(), weightsOf(earlier, row));
    return SmallVector<Value>{arith::MaxUIOp::create(k.b, k.loc, most[0], weights)};
  })[0];
}

// By 2^power, whatever the row has: sums, and weights that are none of the sums yet. Those exist where power <= 0.
void MatrixAttentionGenerator::multiplyRow(const Group &group, Value row, Value power) {
  Type integer = k.b.getI32Type();
  Value bits = arith::ShLIOp::create(k.b, k.loc, arith::AddIOp::create(k.b, k.loc, power, k.integer(integer, 127)),
                                     k.integer(integer, 23));
  Value factor = k.splat(arith::BitcastOp::create(k.b, k.loc, k.b.getF32Type(), bits));
  auto multiply = [&](Value address) { k.store(k.mulf(k.load(k.lanesF32(), address), factor), address); };
  multiply(ofRow(sumsAt, group.tile, row, kVectorBytes));
  for (int64_t vector = 0; vector < numVectors; ++vector)
    multiply(k.at(outSlot(k.add(group.tile.row, row)), vector * kVectorBytes));
  Value steps = arith::MulIOp::create(k.b, k.loc, arith::MinSIOp::create(k.b, k.loc, power, k.integer(integer, 0)),
                                      k.integer(integer, -kSteps));
  Value fewer = vector::BroadcastOp::create(k.b, k.loc, words(), arith::TruncIOp::create(k.b, k.loc, k.b.getI16Type(), steps));
  k.loop(group.tile.firstGroup, group.number, 1, [&](Value earlier) {
    Value address = weightsOf(earlier, row), weights = k.load(words(), address);
    Value atLeast = arith::MaxUIOp::create(k.b, k.loc, weights, fewer);
    k.store(arith::SubIOp::create(k.b, k.loc, atLeast, fewer), address);
  });
}

}  // namespace girih::cpu
