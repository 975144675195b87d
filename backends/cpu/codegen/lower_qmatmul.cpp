// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-qmatmul: matmuls with stored weights, and lookups of their rows, become microkernels.
#include "backends/cpu/codegen/lower_qmatmul.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/cache_fetch.h"
#include "backends/cpu/codegen/microkernels/byte_matrix_generator.h"
#include "backends/cpu/codegen/microkernels/dot_generator.h"
#include "backends/cpu/codegen/microkernels/code_matrix_generator.h"
#include "backends/cpu/codegen/microkernels/matrix_generator.h"
#include "backends/cpu/codegen/microkernels/rounded_dot_generator.h"
#include "backends/cpu/codegen/microkernels/shared_kernels.h"
#include "backends/cpu/codegen/microkernels/tile_generator.h"
#include "backends/cpu/codegen/microkernels/unpack_formats.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/codegen/row_followers.h"
#include "backends/cpu/codegen/step_memory.h"
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace girih::dialect;
using girih::weights::kBlockDepth;
using girih::weights::kPanelColumns;
using girih::weights::PackedLayout;

namespace girih::cpu {

#define GEN_PASS_DEF_LOWERQMATMUL
#include "backends/cpu/codegen/passes.h.inc"

namespace {

// Used where select_strategy has not spoken: right for any extent, best for none.
constexpr TileShape kDefaultShape = {1, 2, 128};

// Of a prompt that fills a step the logits of few tokens are wanted: so few rows meet codes as they are stored, since
// rounding the weights would cost more than multiplying them.
constexpr int64_t kFewLogits = 4;

bool hasUnitInnerStride(Value memref) {
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  auto type = cast<MemRefType>(memref.getType());
  return succeeded(type.getStridesAndOffset(strides, offset)) && strides.back() == 1;
}

FailureOr<PackedLayout> layoutOf(Operation *op, PackedType type) {
  Expected<PackedLayout> layout = PackedLayout::parse(std::string_view(type.getLayout()));
  if (!layout.isOk())
    return op->emitOpError("weight layout: ") << StringRef(layout.status().message());
  if (layout->isDense)
    return op->emitOpError("a dense weight is read as a memref (buffer_at \"weights\"), not as ") << type;
  return *layout;
}

bool isQuantized(QMatmulOp op) { return getElementTypeOrSelf(op.getX().getType()).isInteger(8); }

bool isForTiles(QMatmulOp op) { return getElementTypeOrSelf(op.getX().getType()).isBF16(); }

// On tiles: the codes of the weights themselves, not the weights rounded to bf16.
bool takesCodes(QMatmulOp op) { return isForTiles(op) && op.getStrategy() == StringRef("codes"); }

// Quantised rows, by a tile unit.
bool takesBytes(QMatmulOp op) { return isQuantized(op) && op.getStrategy() == StringRef("bytes"); }

// Whether the rows of x stay in a frame from one call of a dispatch to the next.
bool keepsRows(QMatmulOp op) { return takesCodes(op) || takesBytes(op); }

// Whether the kernel fetches something else meanwhile.
bool fetchesBeside(QMatmulOp op) { return takesCodes(op) || (isQuantized(op) && op.getStrategy() == StringRef("direct")); }

// The memref that a view, or a view of a view, is of.
Value rootOf(Value memref) {
  while (auto view = memref.getDefiningOp<ViewLikeOpInterface>())
    memref = view.getViewSource();
  return memref;
}

// The shape that takes the codes where few rows of `shape`, in whose frame it has to fit, may be wanted.
std::optional<TileShape> shapeOfFewRows(QMatmulOp op, const PackedLayout &layout, const TileShape &shape) {
  auto buffer = rootOf(op.getInit()).getDefiningOp<BufferAtOp>();
  if (!isForTiles(op) || takesCodes(op) || layout.hasFloatCodes() || !buffer || buffer.getSpace() != "logits")
    return std::nullopt;
  TileShape few{kFewLogits, shape.panels, shape.depth};
  int64_t depth = cast<PackedType>(op.getW().getType()).getDepth();
  bool fits = CodeMatrixGenerator::frameBytes(layout, few, depth) <= matrixFrameBytes(shape, depth);
  return fits ? std::optional(few) : std::nullopt;
}

int64_t lanesOf(QMatmulOp op, const TileShape &shape) {
  if (isForTiles(op) || takesBytes(op))
    return 0;  // tile registers, the same eight for any shape
  if (!isQuantized(op))
    return lanesNeeded(shape);
  return op.getStrategy() == StringRef("panel") ? dotLanesPanel(shape) : dotLanesDirect(shape);
}

FailureOr<TileShape> shapeOf(QMatmulOp op, const IsaTraits &isa) {
  TileShape shape = kDefaultShape;
  shape.rows = op.getRowTile().value_or(shape.rows);
  int64_t columns = op.getColumnTile().value_or(shape.panels * kPanelColumns);
  shape.panels = columns / kPanelColumns;
  shape.depth = op.getKTile().value_or(shape.depth);
  if (shape.rows < 1 || columns < 1 || columns % kPanelColumns != 0 || shape.depth < 1 || shape.depth % kBlockDepth != 0)
    return op.emitOpError("has row_tile ") << shape.rows << ", column_tile " << columns << ", k_tile " << shape.depth
                                           << "; columns come in panels of 16, k in blocks of 32";
  if (lanesOf(op, shape) > isa.laneVectors())
    return op.emitOpError("tile of ") << shape.rows << " rows x " << shape.panels << " panels needs "
                                      << lanesOf(op, shape) << " vectors of 16 lanes, " << isa.name << " holds "
                                      << isa.laneVectors() << "; reduce row_tile or column_tile";
  return shape;
}

TileOperands operandsOf(KernelBuilder &k, QMatmulOp op, int64_t panelBytes) {
  TileOperands tile;
  tile.depth = cast<PackedType>(op.getW().getType()).getDepth();
  tile.x = k.addressOf(op.getX());
  tile.xStride = k.mul(k.strideOf(op.getX(), 0), getElementTypeOrSelf(op.getX()).getIntOrFloatBitWidth() / 8);
  tile.out = k.addressOf(op.getInit());
  tile.outStride = k.mul(k.strideOf(op.getInit(), 0), 4);
  tile.numRows = k.extentOf(op.getInit(), 0);
  tile.numColumns = k.extentOf(op.getInit(), 1);
  tile.weights = pointerOf(k, op.getW());
  tile.panelsLeft = k.index(llvm::divideCeil(cast<PackedType>(op.getW().getType()).getColumns(), kPanelColumns));
  if (Value offset = op.getColumnOffset()) {
    Value first = k.div(offset, kPanelColumns);
    tile.weights = k.at(tile.weights, k.mul(first, panelBytes));
    tile.panelsLeft = isForTiles(op) ? k.sub(tile.panelsLeft, first) : tile.panelsLeft;  // no other kernel asks
  }
  return tile;
}

// The thread's scratch for a panel of `needed` bytes; null after an error.
Value scratchFor(KernelBuilder &k, QMatmulOp op, const TileShape &shape, int64_t needed) {
  int64_t available = scratchBytesOf(op);
  if (needed <= available)
    return k.at(threadScratch(k, op), available - needed);
  op.emitOpError("panel of ") << shape.depth << " k x " << shape.panels * kPanelColumns << " columns needs " << needed
                              << " bytes of scratch, the module has girih.scratch_bytes = " << available
                              << "; reduce k_tile or column_tile";
  return {};
}

template <typename Generator>
LogicalResult emitWith(Generator &&generator, KernelBuilder &k, QMatmulOp op, const TileOperands &tile,
                       const TileShape &shape, int64_t scratchBytes) {
  StringRef strategy = op.getStrategy().value_or("direct");
  if (strategy == "direct") {
    generator.emitDirect(tile);
    return success();
  }
  if (strategy != "panel")
    return op.emitOpError("strategy \"") << strategy << "\" is not known; direct and panel are";
  Value scratch = scratchFor(k, op, shape, scratchBytes);
  if (!scratch)
    return failure();
  generator.emitPanel(tile, scratch);
  return success();
}

// The outermost parallel loop around `op`, whose units share what a thread keeps; `op` itself where there is none.
Operation *dispatchOf(Operation *op) {
  Operation *dispatch = op;
  for (auto loop = op->getParentOfType<scf::ForallOp>(); loop; loop = loop->getParentOfType<scf::ForallOp>())
    dispatch = loop;
  return dispatch;
}

// Whether x is made in the units that read it.
bool isMadeByUnits(QMatmulOp op) {
  Value root = rootOf(op.getX());
  Operation *dispatch = dispatchOf(op);
  if (root.getDefiningOp() && dispatch->isProperAncestor(root.getDefiningOp()))
    return true;
  WalkResult writers = dispatch->walk([&](DestinationStyleOpInterface writer) {
    bool writes = llvm::any_of(writer.getDpsInits(), [&](Value init) { return rootOf(init) == root; });
    return writes ? WalkResult::interrupt() : WalkResult::advance();
  });
  return writers.wasInterrupted();
}

// Bytes on tiles; a step that happens to have fewer rows than make that worth it multiplies them in vectors, to the same
// bits.
LogicalResult emitBytes(KernelBuilder &k, QMatmulOp op, const PackedLayout &layout, const IsaTraits &isa,
                        const TileOperands &tile, const TileShape &shape, int64_t frame) {
  constexpr int64_t kFewRows = 4, kFewPanels = 2;
  if (!isa.hasTiles)
    return op.emitOpError("strategy \"bytes\" needs an ISA with tiles, not ") << isa.name;
  if (!ByteMatrixGenerator::takes(layout))
    return op.emitOpError("strategy \"bytes\" is for codes that fit a byte, with one scale for 32, not \"")
           << layout.print() << "\"; \"direct\" and \"panel\" take any integer codes";
  Value memory = scratchFor(k, op, shape, frame);
  if (!memory)
    return failure();
  k.when(
      k.less(k.index(kFewRows), tile.numRows), [&] { ByteMatrixGenerator(k, layout, isa, shape).emit(tile, memory); },
      [&] { DotGenerator(k, layout, isa, {kFewRows, kFewPanels, shape.depth}).emitDirect(tile); });
  return success();
}

// The strategy and the ISA that bf16 takes, and the frame in scratch; null after an error.
Value frameFor(KernelBuilder &k, QMatmulOp op, const IsaTraits &isa, const TileShape &shape, int64_t frame) {
  if (isa.hasTiles && (takesCodes(op) || op.getStrategy() == StringRef("matrix")))
    return scratchFor(k, op, shape, frame);
  op.emitOpError("x is bf16: that takes strategy \"matrix\" or \"codes\" and an ISA with tiles, not \"")
      << op.getStrategy().value_or("direct") << "\" for " << isa.name;
  return {};
}

LogicalResult emitOnTiles(KernelBuilder &k, QMatmulOp op, const PackedLayout &layout, const IsaTraits &isa,
                          const TileOperands &tile, const TileShape &shape, int64_t frame) {
  Value memory = frameFor(k, op, isa, shape, frame);
  if (!memory)
    return failure();
  if (takesCodes(op) && layout.hasFloatCodes())
    return op.emitOpError("strategy \"codes\" is for integer codes, those of \"")
           << layout.print() << "\" are floats; \"matrix\" takes them";
  auto multiplyCodes = [&](const TileShape &of) { CodeMatrixGenerator(k, layout, isa, of).emit(tile, memory); };
  auto multiply = [&] { MatrixGenerator(k, layout, isa, shape).emit(tile, MatrixGenerator::Place::Far, memory); };
  if (takesCodes(op))
    multiplyCodes(shape);
  else if (auto few = shapeOfFewRows(op, layout, shape))
    k.when(k.less(tile.numRows, k.index(few->rows + 1)), [&] { multiplyCodes(*few); }, multiply);
  else
    multiply();
  return success();
}

// The matmul that multiplies the same x by another weight of the same kind, one panel of both making a pair: it stands
// behind `op` with nothing but views between them. Null where there is none.
QMatmulOp matmulBeside(QMatmulOp op) {
  if (!isForTiles(op) || takesCodes(op) || op.getColumnTile() != kPanelColumns)
    return {};
  Operation *next = op->getNextNode();
  while (next && isMemoryEffectFree(next))
    next = next->getNextNode();
  auto other = dyn_cast_or_null<QMatmulOp>(next);
  if (!other || other.getX() != op.getX() || other.getW().getType() != op.getW().getType() ||
      other.getColumnOffset() != op.getColumnOffset() || other.getInit().getType() != op.getInit().getType() ||
      other.getStrategy() != op.getStrategy() || other.getKTile() != op.getKTile() ||
      other.getColumnTile() != op.getColumnTile())
    return {};
  return other;
}

// The matmul, and another beside it, with what follows in their unit: 32 rows are done with while they are in the first
// level. Such a kernel stands where it is called, as its followers do.
LogicalResult emitWithFollowers(KernelBuilder &k, ArrayRef<QMatmulOp> ops, const PackedLayout &layout,
                                const IsaTraits &isa, TileShape shape, int64_t frame, RowFollowers &followers) {
  QMatmulOp op = ops.front();
  Value memory = frameFor(k, op, isa, shape, frame);
  if (!memory)
    return failure();
  TileOperands tile = operandsOf(k, op, layout.panelBytes(cast<PackedType>(op.getW().getType()).getDepth()));
  if (ops.size() == 2) {
    TileOperands beside = operandsOf(k, ops[1], layout.panelBytes(tile.depth));
    tile.weightsBeside = beside.weights;
    tile.outBeside = beside.out;
    shape.panels *= 2;
  }
  auto columns = getConstantIntValue(tile.numColumns);
  using Place = MatrixGenerator::Place;
  Place place = followers.ownResults() ? Place::Hot : Place::Far;
  if (place == Place::Hot && columns && MatrixGenerator::canKeepNear(shape, tile, *columns))
    place = Place::Near;
  else if (place == Place::Hot && columns && cast<MemRefType>(op.getInit().getType()).getLayout().isIdentity() &&
           MatrixGenerator::canKeepParts(shape, tile, *columns))
    place = Place::Parts;
  Value piece;
  if (place == Place::Parts) {
    auto type =
        MemRefType::get({MatrixGenerator::kPieceRows, MatrixGenerator::kPieceColumns}, k.b.getF32Type());
    Value offset = k.index(scratchBytesOf(op) - frame + matrixPieceOffset(shape));
    piece = BufferAtOp::create(k.b, k.loc, type, "scratch", offset, Value());
  }
  MatrixGenerator generator(k, layout, isa, shape);
  auto done = [&](Value first, Value count, Value column) {
    bool isNear = place == Place::Near || place == Place::Parts;
    followers.emit(k.b, {first, count, MatrixGenerator::nearRow(k, first), isNear, piece, column,
                         MatrixGenerator::kPieceColumns});
  };
  generator.emit(tile, place, memory, followers.empty() ? MatrixGenerator::RowsDone() : done);
  followers.erase();
  return success();
}

// Nothing is prepared when a dispatch begins: what a frame holds is of another weight, or another kernel's. Both kinds
// begin with the address of what they hold something of; of an address of the other kind neither holds anything.
void resetFrame(QMatmulOp op, int64_t frame) {
  auto reset = takesBytes(op)   ? ByteMatrixGenerator::emitReset
               : takesCodes(op) ? CodeMatrixGenerator::emitReset
                                : MatrixGenerator::emitReset;
  auto emitBefore = [&](Operation *place) {
    OpBuilder b(place);
    KernelBuilder k(b, op.getLoc());
    reset(k, k.at(threadScratch(k, op), scratchBytesOf(op) - frame));
  };
  emitBefore(dispatchOf(op));
  if (keepsRows(op) && isMadeByUnits(op))
    emitBefore(op);
}

// `first` is null, or the matmul that `op` stands beside.
LogicalResult lowerPacked(QMatmulOp op, QMatmulOp first, const IsaTraits &isa, SharedKernels &kernels, CacheFetch &cacheFetch,
                          int64_t frame) {
  OpBuilder b(op);
  KernelBuilder outer(b, op.getLoc());
  FailureOr<PackedLayout> layout = layoutOf(op, cast<PackedType>(op.getW().getType()));
  FailureOr<TileShape> shape = shapeOf(op, isa);
  if (failed(layout) || failed(shape))
    return failure();
  int64_t depth = cast<PackedType>(op.getW().getType()).getDepth();
  auto emit = [&](KernelBuilder &k, const TileOperands &tile) -> LogicalResult {
    if (takesBytes(op))
      return emitBytes(k, op, *layout, isa, tile, *shape, frame);
    if (isForTiles(op))
      return emitOnTiles(k, op, *layout, isa, tile, *shape, frame);
    if (!isQuantized(op))
      return emitWith(TileGenerator(k, *layout, isa, *shape), k, op, tile, *shape, panelScratchBytes(*shape));
    if (layout->hasFloatCodes())
      return op.emitOpError("x is quantised, codes of \"") << layout->print() << "\" are floats; multiply them in f32";
    if (op->hasAttr(kRoundedScalesName) && op.getStrategy() == StringRef("panel") && RoundedDotGenerator::takes(*layout, isa))
      return emitWith(RoundedDotGenerator(k, *layout, isa, *shape), k, op, tile, *shape,
                      RoundedDotGenerator::scratchBytes(*layout, *shape, depth));
    return emitWith(DotGenerator(k, *layout, isa, *shape), k, op, tile, *shape,
                    dotScratchBytes(*layout, *shape, depth));
  };
  std::string kind;
  llvm::raw_string_ostream(kind) << op.getW().getType() << getElementTypeOrSelf(op.getX().getType())
                                 << op->getDiscardableAttrDictionary() << op.getStrategyAttr() << shape->rows << "x"
                                 << shape->panels << "x" << shape->depth << "@" << frame
                                 << (shapeOfFewRows(op, *layout, *shape) ? "few" : "");
  if (isForTiles(op) || takesBytes(op))
    resetFrame(op, frame);
  if (isForTiles(op)) {
    SmallVector<QMatmulOp> ops{first ? first : op};
    if (first)
      ops.push_back(op);
    RowFollowers followers(ops);
    if (first || (!followers.empty() && !takesCodes(op))) {
      OpBuilder behind(op->getBlock()->getTerminator());  // buffers of followers are named by then
      KernelBuilder k(behind, op.getLoc());
      return emitWithFollowers(k, ops, *layout, isa, *shape, frame, followers);
    }
  }
  TileOperands tile = operandsOf(outer, op, layout->panelBytes(depth));
  SmallVector<Value *> operands{&tile.x,         &tile.weights, &tile.out,        &tile.xStride,
                                &tile.outStride, &tile.numRows, &tile.numColumns, &tile.panelsLeft};
  if (auto columns = getConstantIntValue(tile.numColumns); columns && fetchesBeside(op)) {
    int64_t panels = llvm::divideCeil(*columns, kPanelColumns), together = takesCodes(op) ? 1 : shape->panels;
    cacheFetch.emitNext(outer, op, llvm::divideCeil(panels, together) * llvm::divideCeil(depth, kBlockDepth), tile);
  }
  if (tile.fetchedLines > 0) {
    operands.append({&tile.fetched, &tile.lastFetched});
    kind += "+" + std::to_string(tile.fetchedLines);
  }
  return kernels.call(outer, "matmul", kind, operands, [&](KernelBuilder &k) { return emit(k, tile); });
}

// Plain f32 weights in row-major order: no kernel, only a meaning. One chain over k, as everywhere.
void lowerPlain(QMatmulOp op) {
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  Value zero = k.index(0);
  Value depth = k.extentOf(op.getX(), 1);
  k.loop(zero, k.extentOf(op.getInit(), 0), 1, [&](Value row) {
    k.loop(zero, k.extentOf(op.getInit(), 1), 1, [&](Value column) {
      Value weightRow = op.getColumnOffset() ? k.add(column, op.getColumnOffset()) : column;
      auto sum = k.loop(zero, depth, 1, k.constF32(0), [&](Value inner, ValueRange carried) {
        Value x = memref::LoadOp::create(b, op.getLoc(), op.getX(), ValueRange{row, inner});
        Value w = memref::LoadOp::create(b, op.getLoc(), op.getW(), ValueRange{weightRow, inner});
        return SmallVector<Value>{k.fma(x, w, carried[0])};
      });
      memref::StoreOp::create(b, op.getLoc(), sum[0], op.getInit(), ValueRange{row, column});
    });
  });
}

LogicalResult lowerMatmul(QMatmulOp op, QMatmulOp first, const IsaTraits &isa, SharedKernels &kernels, CacheFetch &cacheFetch,
                          int64_t frame) {
  if (!isa_and_nonnull<MemRefType>(op.getInit().getType()))
    return op.emitOpError("is still on tensors; bufferize first");
  if (!hasUnitInnerStride(op.getX()) || !hasUnitInnerStride(op.getInit()))
    return op.emitOpError("x and out need an innermost stride of 1, have ")
           << op.getX().getType() << " and " << op.getInit().getType();
  if (isa_and_nonnull<MemRefType>(op.getW().getType()))
    lowerPlain(op);
  else if (failed(lowerPacked(op, first, isa, kernels, cacheFetch, frame)))
    return failure();
  op.erase();
  if (first)
    first.erase();
  return success();
}

// ---- gather_rows ----
void gatherPlain(KernelBuilder &k, GatherRowsOp op, Value row, Value index) {
  k.loop(k.index(0), k.extentOf(op.getInit(), 1), 1, [&](Value column) {
    Value value = memref::LoadOp::create(k.b, k.loc, op.getSource(), ValueRange{index, column});
    memref::StoreOp::create(k.b, k.loc, value, op.getInit(), ValueRange{row, column});
  });
}

void gatherPacked(KernelBuilder &k, GatherRowsOp op, const PackedLayout &layout, const IsaTraits &isa, Value row,
                  Value index) {
  int64_t depth = cast<PackedType>(op.getSource().getType()).getDepth();
  Value panel = k.at(pointerOf(k, op.getSource()), k.mul(k.div(index, kPanelColumns), layout.panelBytes(depth)));
  Value column = k.rem(index, k.index(kPanelColumns));
  Value out = k.at(k.addressOf(op.getInit()), k.mul(k.mul(row, k.strideOf(op.getInit(), 0)), 4));
  auto block = [&](Value number, int64_t count) {
    Value source = k.at(panel, k.mul(number, layout.blockBytes()));
    Value target = k.at(out, k.mul(number, kBlockDepth * 4));
    for (int64_t first = 0; first < count; first += kLanes) {
      Value values = columnWeights(k, layout, isa, source, column, first);
      Value place = k.at(target, first * 4);
      if (count - first >= kLanes)
        k.store(values, place);
      else
        k.storeMasked(values, place, k.maskOf(k.index(count - first)));
    }
  };
  int64_t full = depth / kBlockDepth;
  k.loop(k.index(0), k.index(full), 1, [&](Value number) { block(number, kBlockDepth); });
  if (depth % kBlockDepth != 0)
    block(k.index(full), depth % kBlockDepth);
}

LogicalResult lowerGather(GatherRowsOp op, const IsaTraits &traits) {
  if (!isa<MemRefType>(op.getInit().getType()))
    return op.emitOpError("is still on tensors; bufferize first");
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  auto packed = dyn_cast<PackedType>(op.getSource().getType());
  PackedLayout layout;
  if (packed) {
    FailureOr<PackedLayout> parsed = layoutOf(op, packed);
    if (failed(parsed))
      return failure();
    layout = *parsed;
  }
  Value numRows = packed ? k.index(packed.getColumns()) : k.extentOf(op.getSource(), 0);
  k.loop(k.index(0), k.extentOf(op.getInit(), 0), 1, [&](Value row) {
    Value index = k.within(k.toIndex(memref::LoadOp::create(b, op.getLoc(), op.getIndices(), ValueRange{row})), numRows);
    if (packed)
      gatherPacked(k, op, layout, traits, row, index);
    else
      gatherPlain(k, op, row, index);
  });
  op.erase();
  return success();
}

struct LowerQMatmul : impl::LowerQMatmulBase<LowerQMatmul> {
  using LowerQMatmulBase::LowerQMatmulBase;

  void runOnOperation() override {
    const IsaTraits *traits = findIsa(isa);
    if (!traits) {
      getOperation().emitError("isa \"") << isa << "\" is not known; " << isaNames() << " are";
      return signalPassFailure();
    }
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa_and_nonnull<QMatmulOp, GatherRowsOp>(op))
        ops.push_back(op);
    });
    SharedKernels kernels;
    TileFrames frames = tileFramesOf(getOperation());
    CacheFetch cacheFetch(getOperation());
    auto scratch = getOperation()->getAttrOfType<IntegerAttr>("girih.scratch_bytes");
    cacheFetch.emitStarts((scratch ? scratch.getInt() : 0) - kernelScratchBytes(getOperation()));
    DenseMap<Operation *, QMatmulOp> firsts; // of two beside each other, lowered with the second
    for (Operation *op : ops) {
      auto matmul = dyn_cast<QMatmulOp>(op);
      QMatmulOp beside = matmul && !firsts.contains(op) ? matmulBeside(matmul) : QMatmulOp();
      if (beside) {
        firsts[beside] = matmul;
        continue;
      }
      if (failed(matmul ? lowerMatmul(matmul, firsts.lookup(op), *traits, kernels, cacheFetch, frames.lookup(op)) : lowerGather(cast<GatherRowsOp>(op), *traits)))
        return signalPassFailure();
    }
  }
};

}  // namespace

TileFrames tileFramesOf(Operation *module) {
  TileFrames frames;
  DenseMap<Operation *, int64_t> ends;
  // Those that keep rows keep nothing else: one frame for all that read the same rows in the same way.
  DenseMap<std::tuple<Operation *, Value, int64_t>, int64_t> shared;
  module->walk([&](QMatmulOp op) {
    if (!isForTiles(op) && !takesBytes(op))
      return;
    int64_t columns = op.getColumnTile().value_or(kDefaultShape.panels * kPanelColumns);
    TileShape shape{1, columns / kPanelColumns, int64_t(op.getKTile().value_or(kDefaultShape.depth))};
    auto place = [&](int64_t bytes) { return ends[dispatchOf(op)] += llvm::alignTo(bytes, 64); };
    auto weight = dyn_cast<PackedType>(op.getW().getType());
    auto layout = PackedLayout::parse(weight ? std::string_view(weight.getLayout()) : std::string_view());
    if (!keepsRows(op) || !layout.isOk()) {
      frames[op] = place(matrixFrameBytes(shape, weight ? weight.getDepth() : shape.depth));
      return;
    }
    shape.rows = op.getRowTile().value_or(kDefaultShape.rows);
    auto bytesOf = takesBytes(op) ? ByteMatrixGenerator::frameBytes : CodeMatrixGenerator::frameBytes;
    int64_t bytes = bytesOf(*layout, shape, weight.getDepth());
    int64_t &frame = shared[{dispatchOf(op), op.getX(), bytes}];
    frames[op] = frame = frame ? frame : place(bytes);
  });
  return frames;
}

}  // namespace girih::cpu
