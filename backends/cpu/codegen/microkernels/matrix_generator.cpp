// SPDX-License-Identifier: Apache-2.0
// MatrixGenerator: implementation. Tile registers 0-3 hold sums, 4-5 activations, 6-7 weights.
#include "backends/cpu/codegen/microkernels/matrix_generator.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kRegisterBytes = 64;                     // a row of a tile
constexpr int64_t kTileBytes = kTileRows * kRegisterBytes; // a whole one
constexpr int64_t kActivations = 4, kWeights = 6;          // first tile registers of each kind; sums are 0-3
constexpr int64_t kPairRow = kPanelColumns * 2 * 2;        // 16 columns x 2 k of bf16: a row of a weight tile

// Register of the sum of row tile `row` and panel `panel`.
int64_t sumOf(int64_t row, int64_t panel) { return row * 2 + panel; }

Value addressOf(KernelBuilder &k, Value pointer) {
  return LLVM::PtrToIntOp::create(k.b, k.loc, k.b.getI64Type(), pointer);
}

Value bytesFrom(KernelBuilder &k, Value pointer, Value other) {
  return k.toIndex(arith::SubIOp::create(k.b, k.loc, addressOf(k, other), addressOf(k, pointer)));
}

} // namespace

void MatrixGenerator::callTile(llvm::StringRef intrinsic, ArrayRef<int64_t> registers, ValueRange memory) {
  SmallVector<Value> operands;
  for (int64_t number : registers)
    operands.push_back(LLVM::ConstantOp::create(k.b, k.loc, k.b.getI8Type(), k.b.getI8IntegerAttr(number)));
  llvm::append_range(operands, memory);
  LLVM::CallIntrinsicOp::create(k.b, k.loc, k.b.getStringAttr(("llvm.x86." + intrinsic).str()), operands);
}

// ---- Passes and what is prepared for them ----
// The frame's first words: the address of the prepared weights' source, or 0, and the buffer that they are in.
constexpr int64_t kBufferAt = 8, kBuffersAt = 64;

void MatrixGenerator::emitReset(KernelBuilder &k, Value frame) {
  for (int64_t word : {int64_t{0}, kBufferAt})
    k.store(k.integer(k.b.getI64Type(), 0), k.at(frame, word), 8);
}

Value MatrixGenerator::weightsOf(Value passNumber, const PanelJob &job) {
  if (PanelFeed(k, layout, isa).isInPlace())
    return job.source;
  Value buffer = k.rem(k.add(firstBuffer, passNumber), k.index(2));
  return k.at(k.at(frame, kBuffersAt), k.mul(buffer, matrixPassBytes(shape)));
}

Value MatrixGenerator::panelStride(const PanelJob &job) {
  return PanelFeed(k, layout, isa).isInPlace() ? job.panelBytes : k.index(matrixPanelBytes(shape));
}

Value MatrixGenerator::numPanels(const TileOperands &tile) {
  return k.div(k.add(tile.numColumns, kPanelColumns - 1), kPanelColumns);
}

bool MatrixGenerator::isOneGroup(const TileOperands &tile) {
  auto columns = getConstantIntValue(tile.numColumns);
  return columns && *columns <= panelsOfEach(tile) * kPanelColumns;
}

Value MatrixGenerator::numGroups(const TileOperands &tile) {
  return k.div(k.add(numPanels(tile), panelsOfEach(tile) - 1), panelsOfEach(tile));
}

// All panels of the call meet a part of k before the next part of it; then come the panels of the call that follows.
MatrixGenerator::Position MatrixGenerator::after(const TileOperands &tile, const Position &position) {
  int64_t each = panelsOfEach(tile);
  Value count = numPanels(tile), next = k.add(position.panel, each), none = k.index(0);
  Value base = k.select(k.less(position.panel, count), none, count), end = k.add(base, count);
  Value hasMore = k.less(next, end), isLast = k.less(k.index(numPasses(tile) - 2), position.pass);
  if (numPasses(tile) == 1)
    return {k.minOf(next, end), none};
  return {k.select(hasMore, next, k.select(isLast, end, base)),
          k.select(hasMore, position.pass, k.select(isLast, none, k.add(position.pass, 1)))};
}

// The panels at `position`; none where the weight has none left.
PanelJob MatrixGenerator::jobAt(const TileOperands &tile, const Position &position) {
  int64_t panelBytes = layout.panelBytes(tile.depth);
  int64_t numBlocks = llvm::divideCeil(tile.depth, kBlockDepth), blocks = shape.depth / kBlockDepth;
  int64_t last = numPasses(tile) - 1, lastBlocks = numBlocks - last * blocks;
  auto bytesTo = [&](const Position &place) {
    return k.add(k.mul(place.panel, panelBytes), k.mul(place.pass, blocks * layout.blockBytes()));
  };
  Value panels = k.minOf(k.sub(tile.panelsLeft, position.panel), k.index(panelsOfEach(tile)));
  Value toPanel = tile.weightsBeside ? bytesFrom(k, tile.weights, tile.weightsBeside) : k.index(panelBytes);
  Value isLast = k.less(k.index(last - 1), position.pass);
  return {k.at(tile.weights, bytesTo(position)),
          toPanel,
          shape.panels,
          k.mul(panels, numWeights(tile)),
          last == 0 || lastBlocks == blocks ? k.index(lastBlocks)
                                            : k.select(isLast, k.index(lastBlocks), k.index(blocks)),
          k.sub(bytesTo(after(tile, position)), bytesTo(position)),
          matrixPanelBytes(shape)};
}

void MatrixGenerator::unpack(const PanelJob &job, Value weights) {
  PanelFeed feed(k, layout, isa);
  k.loop(k.index(0), feed.numSlices(job), 1, [&](Value number) { feed.emitSlice(job, number, weights); });
}

void MatrixGenerator::emit(const TileOperands &tile, Place resultPlace, Value memory, RowsDone done) {
  frame = memory;
  place = resultPlace;
  rowsDone = done;
  configuration = k.frameBytes(kRegisterBytes);
  spare = k.frameBytes(3 * kTileBytes);
  Type word = k.b.getI64Type();
  firstBuffer = k.toIndex(k.load(word, k.at(frame, kBufferAt)));
  PanelJob start = jobAt(tile, {k.index(0), k.index(0)});
  Value isPrepared = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, k.load(word, frame),
                                           addressOf(k, start.source));
  k.when(isPrepared, [] {}, [&] { unpack(start, weightsOf(k.index(0), start)); });

  int64_t passes = numPasses(tile), full = tile.depth / shape.depth, rest = tile.depth % shape.depth;
  Value count = numPanels(tile);
  auto emitPanels = [&](Value pass, int64_t depth) {
    k.loop(k.index(0), count, panelsOfEach(tile), [&](Value first) {
      Value end = k.minOf(k.add(first, panelsOfEach(tile)), count);
      emitPass(tile, {first, end, k.mul(k.sub(end, first), numWeights(tile))}, pass, depth);
    });
  };
  if (full > 0)
    k.loop(k.index(0), k.index(full), 1, [&](Value pass) { emitPanels(pass, shape.depth); });
  if (rest != 0)
    emitPanels(k.index(full), rest);
  callTile("tilerelease", {});
  if (rowsDone && !isOneGroup(tile) && place != Place::Parts)
    rowsDone(k.index(0), tile.numRows, k.index(0));

  Value groups = numGroups(tile);
  Value buffer = k.rem(k.add(firstBuffer, k.mul(groups, passes)), k.index(2));
  Value hasMore = k.less(count, tile.panelsLeft);
  Value following = addressOf(k, jobAt(tile, {count, k.index(0)}).source);
  k.store(k.select(hasMore, following, k.integer(word, 0)), frame, 8);
  k.store(k.toInteger(buffer, word), k.at(frame, kBufferAt), 8);
}

void MatrixGenerator::emitPass(const TileOperands &tile, const Group &group, Value number, int64_t depth) {
  int64_t passes = numPasses(tile);
  Value isLast = k.less(k.index(passes - 2), number);
  Value passNumber = k.add(k.mul(number, numGroups(tile)), k.div(group.first, panelsOfEach(tile)));
  Value isEnd = isLast;
  if (place != Place::Parts)
    isEnd = arith::AndIOp::create(k.b, k.loc, isLast, k.less(k.sub(numPanels(tile), k.index(1)), group.end));
  PanelJob here = jobAt(tile, {group.first, number});
  Pass pass{k.mul(number, shape.depth),
            depth,
            passes == 1 ? Value() : k.less(number, k.index(1)),
            isEnd,
            group,
            weightsOf(passNumber, here),
            panelStride(here),
            {},
            {},
            {},
            {}};
  pass.next = jobAt(tile, after(tile, {group.first, number}));
  pass.nextWeights = weightsOf(k.add(passNumber, 1), pass.next);
  PanelFeed feed(k, layout, isa);
  pass.numSlices = feed.numSlices(pass.next);
  // Two blocks of k of two tiles of rows and two panels are a step; slices are spread over the steps of all rows.
  Value steps = k.mul(k.div(k.add(tile.numRows, kTileRows - 1), 2 * kTileRows), k.div(group.count, 2));
  steps = k.mul(steps, depth / kBlockDepth / 2);
  Value some = k.maxOf(steps, k.index(1));
  pass.slicesPerStep = k.div(k.add(pass.numSlices, k.sub(some, k.index(1))), some);
  emitRows(tile, pass);
  Value done = k.minOf(k.mul(steps, pass.slicesPerStep), pass.numSlices);
  k.loop(done, pass.numSlices, 1, [&](Value slice) { feed.emitSlice(pass.next, slice, pass.nextWeights); });
}

// ---- Rows ----
void MatrixGenerator::emitRows(const TileOperands &tile, const Pass &pass) {
  int64_t most = 2 * kTileRows;
  bool isFollowed = followsBetweenProducts(tile, pass), isDelayed = storesBetweenProducts(tile, pass);
  Value none = k.index(0), last = k.mul(k.div(k.sub(tile.numRows, k.index(1)), most), most);
  k.loop(none, tile.numRows, most, [&](Value first) {
    Value count = k.minOf(k.sub(tile.numRows, first), k.index(most));
    // Loading a configuration clears the tiles, so it happens between sums: at the start, and where rows run out.
    Value isAfter = k.less(none, first);
    Value isWhole = arith::AndIOp::create(k.b, k.loc, isAfter, k.less(k.index(31), count));
    k.when(
        isWhole, [] {},
        [&] {
          if (isDelayed)
            k.when(isAfter, [&] { storeSums(tile, pass, rowsBefore(first)); });
          configure(count);
        });
    k.when(
        k.less(k.index(kTileRows), count), [&] { emitPanels(tile, pass, {first, count, 2}, isWhole); },
        [&] {
          if (isFollowed)
            follow(pass, k.sub(first, k.index(most)), k.minOf(first, k.index(most)));
          emitPanels(tile, pass, {first, count, 1}, isWhole);
        });
    if (rowsDone && !isFollowed && (isOneGroup(tile) || place == Place::Parts))
      follow(pass, first, count);
  });
  Value rest = k.sub(tile.numRows, last);
  if (isDelayed)
    k.when(k.less(k.index(kTileRows), rest), [&] { storeSums(tile, pass, {last, rest, 2}); });
  if (isFollowed)
    follow(pass, last, rest);
}

MatrixGenerator::Rows MatrixGenerator::rowsBefore(Value first) {
  int64_t most = 2 * kTileRows;
  return {k.sub(first, k.index(most)), k.index(most), 2};
}

void MatrixGenerator::follow(const Pass &pass, Value first, Value count) {
  k.when(pass.isLast, [&] { rowsDone(first, count, k.mul(pass.group.first, kPanelColumns)); });
}

// Whether each group is a pair of panels, and a pass a step of two blocks or more.
bool MatrixGenerator::hasPairs(const TileOperands &tile, const Pass &pass) {
  auto columns = getConstantIntValue(tile.numColumns);
  int64_t inAll = columns ? *columns * numWeights(tile) : 0, pair = 2 * kPanelColumns;
  return pass.depth >= 2 * kBlockDepth &&
         (inAll == pair || (inAll > 0 && inAll % pair == 0 && shape.panels == 2));
}

// What follows 32 rows goes between the products of the next 32, some rows a step.
bool MatrixGenerator::followsBetweenProducts(const TileOperands &tile, const Pass &pass) {
  return rowsDone && hasPairs(tile, pass) && (isOneGroup(tile) || place == Place::Parts);
}

// Sums of 32 rows are stored when the next 32 need their registers: stored at once they are waited for, and nothing is
// multiplied meanwhile. Unless what follows needs them at once.
bool MatrixGenerator::storesBetweenProducts(const TileOperands &tile, const Pass &pass) {
  bool isFollowedAtOnce =
      rowsDone && (isOneGroup(tile) || place == Place::Parts) && !followsBetweenProducts(tile, pass);
  return hasPairs(tile, pass) && !isFollowedAtOnce;
}

// Tile registers of `numRows` (1 to 32) rows in two; a register of no rows would be no valid one.
void MatrixGenerator::configure(Value numRows) {
  Type word = k.b.getI64Type();
  Value low = k.toInteger(k.minOf(numRows, k.index(kTileRows)), word);
  Value high = k.toInteger(k.maxOf(k.sub(numRows, k.index(kTileRows)), k.index(1)), word);
  auto times = [&](Value rows, int64_t bytes) -> Value {
    return arith::MulIOp::create(k.b, k.loc, rows, k.integer(word, bytes));
  };
  auto plus = [&](Value x, Value y) -> Value { return arith::AddIOp::create(k.b, k.loc, x, y); };
  // A byte a register: sums and activations of the first row tile, of the second, then weights.
  Value rows = plus(plus(times(low, 0x0000'0001'0000'0101), times(high, 0x0000'0100'0101'0000)),
                    k.integer(word, 0x1010'0000'0000'0000));
  Value bytesPerRow = k.integer(word, 0x0040'0040'0040'0040);
  k.store(k.integer(word, 1), configuration, 8); // palette 1
  k.store(k.integer(word, 0), k.at(configuration, 8), 8);
  k.store(bytesPerRow, k.at(configuration, 16), 8);
  k.store(bytesPerRow, k.at(configuration, 24), 8);
  k.store(k.integer(word, 0), k.at(configuration, 32), 8);
  k.store(k.integer(word, 0), k.at(configuration, 40), 8);
  k.store(rows, k.at(configuration, 48), 8);
  k.store(k.integer(word, 0), k.at(configuration, 56), 8);
  callTile("ldtilecfg", {}, configuration);
}

void MatrixGenerator::emitPanels(const TileOperands &tile, const Pass &pass, const Rows &rows,
                                 Value isAfter) {
  // The k that fill no tile: zero-padded copies of the activations, since what follows a row is another row.
  if (pass.depth % kBlockDepth != 0)
    copyLastK(tile, rows, pass, spare);
  if (hasPairs(tile, pass))
    return emitSums(tile, pass, rows, k.index(0), 2, isAfter);
  Value count = pass.group.count, paired = k.mul(k.div(count, 2), 2);
  k.loop(k.index(0), paired, 2, [&](Value panel) { emitSums(tile, pass, rows, panel, 2, isAfter); });
  k.loop(paired, count, 1, [&](Value panel) { emitSums(tile, pass, rows, panel, 1, isAfter); });
}

// In the order of their products.
SmallVector<MatrixGenerator::Sum> MatrixGenerator::sumsOf(const TileOperands &tile, const Pass &pass,
                                                          const Rows &rows, Value panel, int64_t panels) {
  bool isPair = numWeights(tile) == 2;
  Value column = k.mul(isPair ? pass.group.first : k.add(pass.group.first, panel), kPanelColumns);
  SmallVector<Sum> sums;
  for (int64_t i = 0; i < panels; ++i)
    for (int64_t row = 0; row < rows.tiles; ++row)
      sums.push_back({sumOf(row, i), k.add(rows.first, row * kTileRows), rowsOfTile(rows, row),
                      isPair ? column : k.add(column, i * kPanelColumns), isPair && i == 1});
  return sums;
}

void MatrixGenerator::storeSums(const TileOperands &tile, const Pass &pass, const Rows &rows) {
  for (const Sum &sum : sumsOf(tile, pass, rows, k.index(0), 2))
    storeSum(tile, pass, sum);
}

// `isAfter`: the rows before these are 32 whose sums may still be in their registers.
void MatrixGenerator::emitSums(const TileOperands &tile, const Pass &pass, const Rows &rows, Value panel,
                               int64_t panels, Value isAfter) {
  int64_t numBlocks = llvm::divideCeil(pass.depth, kBlockDepth), full = pass.depth / kBlockDepth;
  bool isDelayed = rows.tiles == 2 && storesBetweenProducts(tile, pass);
  SmallVector<Sum> sums = sumsOf(tile, pass, rows, panel, panels), before;
  if (isDelayed)
    before = sumsOf(tile, pass, rowsBefore(rows.first), panel, panels);
  auto begin = [&](int64_t number) {
    if (isDelayed)
      k.when(isAfter, [&] { storeSum(tile, pass, before[size_t(number)]); });
    beginSum(tile, pass, sums[size_t(number)]);
  };
  auto nothing = [](int64_t) {};
  Value x = k.at(tile.x, k.add(k.mul(rows.first, tile.xStride), k.mul(pass.firstK, 2)));
  Value weights = k.at(pass.weights, k.mul(panel, pass.panelBytes));
  auto product = [&](Value block, ForProduct before, ForProduct behind) {
    multiply(k.at(x, k.mul(block, kBlockDepth * 2)), tile.xStride, k.at(weights, k.mul(block, kTileBytes)),
             pass.panelBytes, rows.tiles, panels, before, behind);
  };
  int64_t steps = full / 2;
  if (steps > 0) {
    Value row = k.div(rows.first, 2 * kTileRows), pairs = k.div(pass.group.count, 2);
    Value firstStep = k.mul(k.add(k.mul(row, pairs), k.div(panel, 2)), steps);
    Value slice = k.minOf(k.mul(firstStep, pass.slicesPerStep), pass.numSlices);
    Step step{k.index(0), steps, rows.first, sums.front().firstColumn, slice};
    auto emit = [&](ForProduct before) {
      auto both = [&](ForProduct behind) {
        Value block = k.mul(step.number, 2);
        product(block, before, behind);
        product(k.add(block, 1), nothing, [&](int64_t number) { behind(kProducts + number); });
      };
      rows.tiles == 2 && panels == 2 ? emitStep(tile, pass, step, both) : both(nothing);
    };
    emit(begin);
    Value second = k.minOf(k.add(slice, pass.slicesPerStep), pass.numSlices);
    k.loop(k.index(1), k.index(steps), 1, second, [&](Value number, ValueRange slices) {
      step.number = number;
      step.slice = slices[0];
      emit(nothing);
      return SmallVector<Value>{k.minOf(k.add(slices[0], pass.slicesPerStep), pass.numSlices)};
    });
  }
  if (full == 0)
    for (size_t number = 0; number < sums.size(); ++number)
      begin(int64_t(number));
  if (full % 2 != 0)
    product(k.index(full - 1), full == 1 ? ForProduct(begin) : ForProduct(nothing), nothing);
  if (full != numBlocks)
    multiply(spare, k.index(kRegisterBytes), k.at(weights, full * kTileBytes), pass.panelBytes, rows.tiles,
             panels, nothing, nothing);
  if (!isDelayed)
    for (const Sum &sum : sums)
      storeSum(tile, pass, sum);
}

// What else there is to do is mixed with a step's products: the tile unit and the vectors only work at the same time where
// their instructions lie within a core's window.
void MatrixGenerator::emitStep(const TileOperands &tile, const Pass &pass, const Step &step,
                               llvm::function_ref<void(ForProduct)> products) {
  auto follow = [&](int64_t number) {
    if (number == kProducts)
      fetchRows(tile, pass, step);
    if (number == kProducts + 1 && followsBetweenProducts(tile, pass))
      followBehind(pass, step);
  };
  k.when(
      k.less(step.slice, pass.numSlices),
      [&] {
        PanelSlice slice(k, layout, isa, pass.next, step.slice, pass.nextWeights);
        slice.fetch();
        products([&](int64_t number) {
          slice.emitPair(number);
          follow(number);
        });
        Value end = k.minOf(k.add(step.slice, pass.slicesPerStep), pass.numSlices);
        k.loop(k.add(step.slice, 1), end, 1,
               [&](Value more) { PanelFeed(k, layout, isa).emitSlice(pass.next, more, pass.nextWeights); });
      },
      [&] { products(follow); });
}

// Rows of 32 that a step takes care of.
static int64_t shareOf(int64_t numSteps) {
  int64_t most = 2 * kTileRows;
  return std::min(most, int64_t(llvm::PowerOf2Ceil(llvm::divideCeil(most, numSteps))));
}

// A step's share of the places of these rows' sums, in the pass that writes there first. Lines that come from beyond the
// second level when they are stored would hold up the tile loads behind the stores.
void MatrixGenerator::fetchRows(const TileOperands &tile, const Pass &pass, const Step &step) {
  if (place != Place::Far)
    return;
  auto fetch = [&] {
    Value first = k.add(step.firstRow, k.mul(step.number, shareOf(step.ofAll)));
    for (int64_t row = 0; row < shareOf(step.ofAll); ++row)
      k.fetchLines(
          k.at(tile.out, k.add(k.mul(k.add(first, row), tile.outStride), k.mul(step.firstColumn, 4))),
          2 * kRegisterBytes);
  };
  pass.isFirst ? k.when(isPartInFrame(tile) ? pass.isLast : pass.isFirst, fetch) : fetch();
}

// A step's share of the 32 rows before these, if there are any. In the second block: in the first one of the first step
// their sums are stored.
void MatrixGenerator::followBehind(const Pass &pass, const Step &step) {
  int64_t most = 2 * kTileRows, share = shareOf(step.ofAll);
  Value done = k.mul(step.number, share);
  auto both = [&](Value x, Value y) -> Value { return arith::AndIOp::create(k.b, k.loc, x, y); };
  Value isDue = both(both(pass.isLast, k.less(k.index(0), step.firstRow)), k.less(done, k.index(most)));
  k.when(isDue, [&] {
    rowsDone(k.add(rowsBefore(step.firstRow).first, done), k.index(share),
             k.mul(pass.group.first, kPanelColumns));
  });
}

// 32 k: each tile of activations and of weights is loaded once and used for every sum it is part of. Activations pass
// by once for each pair of panels: loaded as a stream they do not drive the weights out of the first level, a third
// of the speed.
void MatrixGenerator::multiply(Value x, Value xStride, Value weights, Value panelBytes, int64_t rowTiles,
                               int64_t panels, ForProduct before, ForProduct behind) {
  Type word = k.b.getI64Type();
  Value stride = k.toInteger(xStride, word), pairs = k.integer(word, kPairRow);
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t row = 0; row < rowTiles; ++row) {
      if (panel == 0)
        callTile("tileloaddt164", {kActivations + row}, {k.at(x, k.mul(xStride, row * kTileRows)), stride});
      if (row == 0)
        callTile("tileloadd64", {kWeights + panel}, {k.at(weights, k.mul(panelBytes, panel)), pairs});
      before(panel * rowTiles + row);
      callTile("tdpbf16ps", {sumOf(row, panel), kActivations + row, kWeights + panel});
      behind(panel * rowTiles + row);
    }
}

// ---- Partial tiles ----
Value MatrixGenerator::rowsOfTile(const Rows &rows, int64_t rowTile) {
  if (rowTile + 1 < rows.tiles)
    return k.index(kTileRows);
  return k.sub(rows.count, k.index(rowTile * kTileRows));
}

// target [32 rows][32] = the last k of the pass, zeros behind them.
void MatrixGenerator::copyLastK(const TileOperands &tile, const Rows &rows, const Pass &pass, Value target) {
  int64_t full = pass.depth / kBlockDepth * kBlockDepth, rest = pass.depth - full;
  Value x = k.at(tile.x, k.add(k.mul(rows.first, tile.xStride), k.mul(k.add(pass.firstK, full), 2)));
  k.loop(k.index(0), rows.count, 1, [&](Value row) {
    for (int64_t half = 0; half < 2; ++half) {
      Value count = k.index(std::clamp<int64_t>(rest - half * kLanes, 0, kLanes));
      Value from = k.at(k.at(x, k.mul(row, tile.xStride)), half * kLanes * 2);
      Value values = k.loadMasked(k.lanes(k.b.getI16Type()), from, k.maskOf(count));
      k.store(values, k.at(k.at(target, k.mul(row, kRegisterBytes)), half * kLanes * 2));
    }
  });
}

// The first `columns` of each row.
void MatrixGenerator::copyColumns(Value from, Value fromStride, Value to, Value toStride, Value numRows,
                                  Value columns) {
  Value mask = k.maskOf(columns);
  k.loop(k.index(0), numRows, 1, [&](Value row) {
    Value values = k.loadMasked(k.lanesF32(), k.at(from, k.mul(row, fromStride)), mask);
    k.storeMasked(values, k.at(to, k.mul(row, toStride)), mask);
  });
}

// Runs `whole` where all 16 columns of a panel exist, `partial` elsewhere; one of them only where that is known.
static void byColumns(KernelBuilder &k, const TileOperands &tile, Value columns,
                      llvm::function_ref<void()> whole, llvm::function_ref<void()> partial) {
  auto fixed = getConstantIntValue(tile.numColumns);
  if (fixed && *fixed % kPanelColumns == 0)
    return whole();
  k.when(k.less(k.index(kPanelColumns - 1), columns), whole, partial);
}

// ---- Where sums lie ----
// In the result.
MatrixGenerator::SumPlace MatrixGenerator::resultOf(const TileOperands &tile, const Sum &sum) {
  Value row = place == Place::Near ? nearRow(k, sum.firstRow) : sum.firstRow;
  Value offset = k.add(k.mul(row, tile.outStride), k.mul(sum.firstColumn, 4));
  return {k.at(sum.isBeside ? tile.outBeside : tile.out, offset), tile.outStride};
}

// Others read the result, whose rows lie where they do: one group's parts have a place of their own.
bool MatrixGenerator::isPartInFrame(const TileOperands &tile) {
  auto columns = getConstantIntValue(tile.numColumns);
  return place == Place::Far && !tile.weightsBeside && isOneGroup(tile) && *columns % kPanelColumns == 0;
}

// Between two parts of k.
MatrixGenerator::SumPlace MatrixGenerator::partOf(const TileOperands &tile, const Sum &sum) {
  auto tileFrom = [&](Value memory, Value rowBytes) -> SumPlace {
    Value panel = k.mul(k.div(sum.firstColumn, kPanelColumns), k.mul(sum.numRows, kRegisterBytes));
    return {k.at(memory, k.add(k.mul(sum.firstRow, rowBytes), panel)), k.index(kRegisterBytes)};
  };
  if (place == Place::Near || place == Place::Parts)
    return tileFrom(sum.isBeside ? tile.outBeside : tile.out, tile.outStride);
  SumPlace result = resultOf(tile, sum);
  if (!isPartInFrame(tile))
    return result;
  SumPlace part = tileFrom(k.at(frame, matrixPieceOffset(shape)), k.index(kPieceRowBytes));
  Value fits = k.less(tile.numRows, k.index(kPartRows + 1));
  return {k.select(fits, part.address, result.address), k.select(fits, part.stride, result.stride)};
}

// Of a complete piece, for what follows.
MatrixGenerator::SumPlace MatrixGenerator::pieceOf(const Sum &sum) {
  Value panel = k.rem(k.div(sum.firstColumn, kPanelColumns), k.index(2));
  Value offset = k.add(k.mul(nearRow(k, sum.firstRow), kPieceRowBytes), k.mul(panel, kRegisterBytes));
  return {k.at(frame, k.add(k.index(matrixPieceOffset(shape)), offset)), k.index(kPieceRowBytes)};
}

void MatrixGenerator::beginSum(const TileOperands &tile, const Pass &pass, const Sum &sum) {
  if (!pass.isFirst)
    return callTile("tilezero", {sum.number});
  k.when(
      pass.isFirst, [&] { callTile("tilezero", {sum.number}); },
      [&] { loadSum(tile, sum, partOf(tile, sum)); });
}

void MatrixGenerator::storeSum(const TileOperands &tile, const Pass &pass, const Sum &sum) {
  SumPlace complete = place == Place::Parts ? pieceOf(sum) : resultOf(tile, sum);
  if (!pass.isFirst)
    return storeSum(tile, sum, complete);
  SumPlace part = partOf(tile, sum);
  storeSum(tile, sum,
           {k.select(pass.isLast, complete.address, part.address),
            k.select(pass.isLast, complete.stride, part.stride)});
}

void MatrixGenerator::loadSum(const TileOperands &tile, const Sum &sum, const SumPlace &from) {
  Type word = k.b.getI64Type();
  Value columns = k.sub(tile.numColumns, sum.firstColumn);
  byColumns(
      k, tile, columns,
      [&] { callTile("tileloadd64", {sum.number}, {from.address, k.toInteger(from.stride, word)}); },
      [&] {
        Value stride = k.index(kRegisterBytes), here = k.at(spare, 2 * kTileBytes);
        copyColumns(from.address, from.stride, here, stride, sum.numRows, columns);
        callTile("tileloadd64", {sum.number}, {here, k.toInteger(stride, word)});
      });
}

void MatrixGenerator::storeSum(const TileOperands &tile, const Sum &sum, const SumPlace &to) {
  Type word = k.b.getI64Type();
  Value columns = k.sub(tile.numColumns, sum.firstColumn);
  byColumns(
      k, tile, columns,
      [&] { callTile("tilestored64", {sum.number}, {to.address, k.toInteger(to.stride, word)}); },
      [&] {
        Value stride = k.index(kRegisterBytes), here = k.at(spare, 2 * kTileBytes);
        callTile("tilestored64", {sum.number}, {here, k.toInteger(stride, word)});
        copyColumns(here, stride, to.address, to.stride, sum.numRows, columns);
      });
}

} // namespace girih::cpu
