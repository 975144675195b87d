// SPDX-License-Identifier: Apache-2.0
// girih-tile-dispatches: makes each group of ops that meet without waiting one parallel loop.
#include "compiler/tile/passes.h"

#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/SCF/Transforms/TileUsingInterface.h"

#include <numeric>

namespace girih::compiler {
#define GEN_PASS_DEF_TILEDISPATCHES
#include "compiler/tile/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

constexpr int64_t kRowGroupsPerUnit = 16;  // row groups that share one dequantised panel before the next unit
// As a tile size: as many rows as let each core keep to its own ones, so that what it wrote is still near when it reads.
constexpr int64_t kRowsOfCore = ShapedType::kDynamic;
constexpr int64_t kRowGroup = 32;
// A share of fewer rows is not worth dequantising the weights once more, or taking their codes apart where units are wide.
constexpr int64_t kLeastRowsOfCore = 128, kLeastRowsOfCodes = 32;
// Columns of a unit whose rows are quantised and pass by in parts of k: each part serves all of them while it is near.
constexpr int64_t kColumnsOfCodes = 256;
// Fewer tokens of a step may each be another sequence's.
constexpr int64_t kLeastTokensInBlocks = 64;

bool isCompute(Operation &op) {
  return isa<linalg::LinalgOp, QMatmulOp, QuantizeRowsOp, GatherRowsOp, AttentionOp, AttentionPartsOp, JoinPartsOp,
             KvAppendOp>(op);
}

// Whether a tile of `consumer` needs just the like tile of what `operand` reads. A matmul or an attention needs whole
// rows, and so does a reduction over columns: their producers are dispatches of their own.
bool readsTileByTile(Operation *consumer, OpOperand &operand) {
  if (isa<QuantizeRowsOp>(consumer))
    return true;
  auto structured = dyn_cast<linalg::LinalgOp>(consumer);
  if (!structured)
    return false;
  AffineMap map = structured.getMatchingIndexingMap(&operand);
  if (!map.isProjectedPermutation())
    return false;
  auto iterators = structured.getIteratorTypesArray();
  bool isReduced = llvm::any_of(map.getResults(), [&](AffineExpr expr) {
    return iterators[cast<AffineDimExpr>(expr).getPosition()] == utils::IteratorType::reduction;
  });
  return !isReduced || !operand.get().getDefiningOp<QMatmulOp>();
}

// Producers that are computed inside the tiles of `root`: each is read by one op of the group and nothing else.
void collectGroup(Operation *root, llvm::SmallPtrSetImpl<Operation *> &group) {
  for (OpOperand &operand : root->getOpOperands()) {
    Operation *producer = operand.get().getDefiningOp();
    bool isAlone = producer && producer->getBlock() == root->getBlock() && producer->hasOneUse();
    if (!isAlone || !isa<linalg::LinalgOp, QMatmulOp>(producer) || !readsTileByTile(root, operand))
      continue;
    group.insert(producer);
    collectGroup(producer, group);
  }
}

bool sharesPanels(QMatmulOp matmul) {
  return matmul.getStrategy() == StringRef("panel") && getElementTypeOrSelf(matmul.getX()).isInteger(8);
}

// How rows are shared out where each core keeps to its own: in whole groups, as many at most as stay near.
struct RowShares {
  int64_t group, least, most;
};

RowShares rowSharesOf(QMatmulOp matmul) {
  auto machine = matmul->getParentOfType<ModuleOp>()->getAttrOfType<girih::machine::DescriptionAttr>("girih.machine");
  if (!sharesPanels(matmul) || !machine)
    return {kRowGroup, kLeastRowsOfCore, kRowGroup * kRowGroupsPerUnit};
  int64_t group = matmul.getRowTile().value_or(1), levels = machine.getLevels().size();
  int64_t farBytes = machine.getLevels()[std::min<int64_t>(1, levels - 1)].getSizeBytes();
  // Of a pass over k, all of whose columns meet the same part of a row.
  int64_t depth = cast<PackedType>(matmul.getW().getType()).getDepth(), passDepth = matmul.getKTile().value_or(depth);
  int64_t rowBytes = cast<ShapedType>(matmul.getX().getType()).getDimSize(1) * std::min(passDepth, depth) / depth;
  int64_t least = passDepth < depth ? kLeastRowsOfCodes : kLeastRowsOfCore;
  return {group, least, group * std::max(kRowGroupsPerUnit, farBytes / 2 / rowBytes / group)};
}

// Columns of a matrix unit's unit of work. Where the rows of a core outgrow half of the second level, they pass by in parts
// of k, each for all columns of the unit, whose sums take a quarter of that level.
int64_t columnsForParts(QMatmulOp matmul, int64_t columns, int64_t numColumns) {
  auto module = matmul->getParentOfType<ModuleOp>();
  auto machine = module->getAttrOfType<girih::machine::DescriptionAttr>("girih.machine");
  auto maxTokens = matmul->getParentOfType<func::FuncOp>()->getAttrOfType<IntegerAttr>("girih.max_tokens");
  if (!machine || machine.getLevels().size() < 2 || !maxTokens || columns == 0)
    return columns;
  int64_t farBytes = machine.getLevels()[1].getSizeBytes();
  int64_t rows = std::min(kRowGroupsPerUnit * kRowGroup,
                          int64_t(llvm::divideCeil(maxTokens.getInt(), std::max<int64_t>(1, machine.getCores()))));
  int64_t depth = cast<ShapedType>(matmul.getX().getType()).getDimSize(1);
  if (rows * depth * 2 <= farBytes / 2)
    return columns;
  int64_t most = std::max(columns, farBytes / 4 / (rows * 4) / columns * columns);
  while (numColumns % most != 0)
    most -= columns;
  return most;
}

// Columns of a unit whose rows are quantised: one tile's where all of k goes by at once, else so few at most that every core
// has a unit even if rows are not shared.
int64_t columnsForCodes(QMatmulOp matmul, int64_t columns, int64_t numColumns) {
  auto machine = matmul->getParentOfType<ModuleOp>()->getAttrOfType<girih::machine::DescriptionAttr>("girih.machine");
  int64_t depth = cast<PackedType>(matmul.getW().getType()).getDepth();
  if (!machine || columns == 0 || matmul.getKTile().value_or(depth) >= depth)
    return columns;
  int64_t most = std::min(kColumnsOfCodes, numColumns / std::max<int64_t>(1, machine.getCores())) / columns * columns;
  while (most > columns && numColumns % most != 0)
    most -= columns;
  return std::max(most, columns);
}

// Rows of a unit that spans all columns: as many as keep two results of them, joined by what follows, in the first level.
int64_t rowsOfAllColumns(QMatmulOp matmul, int64_t rows, int64_t numColumns) {
  auto machine = matmul->getParentOfType<ModuleOp>()->getAttrOfType<girih::machine::DescriptionAttr>("girih.machine");
  if (!machine || machine.getLevels().empty() || ShapedType::isDynamic(numColumns))
    return rows;
  int64_t most = std::max<int64_t>(1, machine.getLevels()[0].getSizeBytes() / 2 / (numColumns * int64_t(sizeof(float))));
  int64_t group = matmul.getRowTile().value_or(1);
  return std::min(rows, most < group ? most : most / group * group);
}

// [T, N] tile of a matmul: several row groups share a panel; a unit is one column tile wide.
SmallVector<int64_t> matmulTile(QMatmulOp matmul) {
  int64_t rows = matmul.getRowTile().value_or(1), columns = matmul.getColumnTile().value_or(16);
  bool panel = matmul.getStrategy() == StringRef("panel"), matrix = matmul.getStrategy() == StringRef("matrix");
  int64_t numColumns = cast<ShapedType>(matmul.getInit().getType()).getDimSize(1);
  if (ShapedType::isDynamic(numColumns) || numColumns % columns != 0)
    columns = 0;  // one unit spans all columns; the kernel masks the last panel
  if (matrix)
    columns = columnsForParts(matmul, columns, numColumns);
  else if (sharesPanels(matmul))
    columns = columnsForCodes(matmul, columns, numColumns);
  if (matrix || sharesPanels(matmul))
    return {kRowsOfCore, columns};
  int64_t unitRows = panel ? rows * kRowGroupsPerUnit : rows;
  // Few rows share one pass over the weights, but when columns are not cut, rows are: a dispatch is a loop.
  if (columns == 0)
    return {rowsOfAllColumns(matmul, unitRows, numColumns), 0};
  return {panel ? unitRows : 0, columns};
}

SmallVector<int64_t> loopTile(Operation *op, const llvm::SmallPtrSetImpl<Operation *> &group);

// Tile sizes for the dimensions of the op's result, as the matmuls of the group want them; empty when there is none.
SmallVector<int64_t> resultTile(Operation *op, const llvm::SmallPtrSetImpl<Operation *> &group) {
  SmallVector<int64_t> loops = loopTile(op, group);
  auto structured = dyn_cast<linalg::LinalgOp>(op);
  if (!structured || loops.empty())
    return loops;
  SmallVector<int64_t> sizes;
  for (AffineExpr expr : structured.getIndexingMapMatchingResult(op->getResult(0)).getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    sizes.push_back(dim ? loops[dim.getPosition()] : 0);
  }
  return sizes;
}

// The same for the op's loops. A reduction runs whole.
SmallVector<int64_t> loopTile(Operation *op, const llvm::SmallPtrSetImpl<Operation *> &group) {
  if (auto matmul = dyn_cast<QMatmulOp>(op))
    return matmulTile(matmul);
  SmallVector<int64_t> sizes;
  for (OpOperand &operand : op->getOpOperands()) {
    Operation *producer = operand.get().getDefiningOp();
    SmallVector<int64_t> tile = producer && group.contains(producer) ? resultTile(producer, group) : sizes;
    if (tile.empty() || !sizes.empty())
      continue;
    if (isa<QuantizeRowsOp>(op)) {
      // Codes come in blocks: columns that are no multiple of one are not cut.
      sizes = {tile[0], tile[1] == 0 ? 0 : std::lcm(tile[1], kActivationDepth)};
      continue;
    }
    auto structured = cast<linalg::LinalgOp>(op);
    sizes.assign(structured.getNumLoops(), 0);
    for (auto [expr, size] : llvm::zip(structured.getMatchingIndexingMap(&operand).getResults(), tile))
      if (unsigned loop = cast<AffineDimExpr>(expr).getPosition();
          structured.getIteratorTypesArray()[loop] == utils::IteratorType::parallel)
        sizes[loop] = size;
  }
  return sizes;
}

// Tile sizes for the loops of `root`; 0 leaves a loop whole.
SmallVector<int64_t> tileSizes(Operation *root, const llvm::SmallPtrSetImpl<Operation *> &group) {
  if (isa<GatherRowsOp>(root))
    return {1};
  if (auto attention = dyn_cast<AttentionOp>(root))
    return {int64_t(attention.getQueryTile().value_or(1)), 1};
  if (isa<AttentionPartsOp>(root))
    return {1, 1, 1};
  if (isa<JoinPartsOp>(root))
    return {1, 0};  // a row's heads together: what follows row by row then needs no meeting
  if (SmallVector<int64_t> sizes = loopTile(root, group); !sizes.empty())
    return sizes;
  // Rows: the outermost dimension of the result, one row a unit.
  if (isa<QuantizeRowsOp>(root))
    return {1, 0};
  auto structured = cast<linalg::LinalgOp>(root);
  SmallVector<int64_t> sizes(structured.getNumLoops(), 0);
  AffineMap out = structured.getIndexingMapMatchingResult(root->getResult(0));
  if (out.getNumResults() > 0)
    if (auto dim = dyn_cast<AffineDimExpr>(out.getResult(0)))
      sizes[dim.getPosition()] = 1;
  return sizes;
}

// What `girih inspect` and a profile call this dispatch: the nearest layer name, or the op's.
std::string dispatchName(Operation *root) {
  std::string name = root->getName().stripDialect().str();
  if (auto named = root->getLoc()->findInstanceOf<NameLoc>())
    name += "." + named.getName().str();
  return name;
}

class DispatchTiler {
public:
  DispatchTiler(func::FuncOp function, int64_t numCores, int64_t maxTokens)
      : rewriter(function.getContext()), numCores(numCores), maxTokens(maxTokens) {}

  // Tiles every compute op that stands directly in `block`, last first, so that a root is met before what it reads.
  LogicalResult tileBlock(Block &block) {
    while (Operation *root = lastCompute(block))
      if (failed(tileRoot(root)))
        return failure();
    for (Operation &op : llvm::make_early_inc_range(block))
      if (auto loop = dyn_cast<scf::ForOp>(op))
        if (failed(tileBlock(*loop.getBody())))
          return failure();
    return success();
  }

private:
  Operation *lastCompute(Block &block) {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
      if (!isCompute(op))
        continue;
      if (op.use_empty() && isMemoryEffectFree(&op)) {
        rewriter.eraseOp(&op);
        continue;
      }
      return &op;
    }
    return nullptr;
  }

  LogicalResult tileRoot(Operation *root) {
    if (auto append = dyn_cast<KvAppendOp>(root))
      return tileAppend(append);
    llvm::SmallPtrSet<Operation *, 8> group;
    collectGroup(root, group);
    rewriter.setInsertionPoint(root);
    SmallVector<OpFoldResult> sizes;
    for (int64_t size : tileSizes(root, group))
      sizes.push_back(size == kRowsOfCore ? rowsOfCore(root, group) : rewriter.getIndexAttr(size));
    scf::SCFTileAndFuseOptions options;
    options.tilingOptions.setLoopType(scf::SCFTilingOptions::LoopType::ForallOp).setTileSizes(sizes);
    options.setFusionControlFn([&](tensor::ExtractSliceOp, OpResult producer, bool)
                                   -> std::optional<scf::SCFTileAndFuseOptions::ControlFnResult> {
      if (!group.contains(producer.getOwner()))
        return std::nullopt;
      return scf::SCFTileAndFuseOptions::ControlFnResult{};
    });
    auto tiled = scf::tileConsumerAndFuseProducersUsingSCF(rewriter, cast<TilingInterface>(root), options);
    if (failed(tiled) || tiled->loops.empty())
      return root->emitOpError("has no parallel loop to cut into units of work");
    Operation *loop = tiled->loops.front();
    loop->setAttr("girih.dispatch", rewriter.getStringAttr(dispatchName(root)));
    // Units that read weights or the cache are worth taking over from a thread whose processor is slow or away, or whose
    // sequences are longer.
    auto isLong = [](Operation *op) { return isa<QMatmulOp, AttentionOp, AttentionPartsOp>(op); };
    if (isLong(root) || llvm::any_of(group, isLong))
      loop->setAttr("girih.distribution", rewriter.getStringAttr("dynamic"));
    for (OpResult result : root->getResults())
      rewriter.replaceAllUsesWith(result, tiled->replacements[result]);
    rewriter.eraseOp(root);
    return success();
  }

  // T rows in as many equal shares as there are cores, fewer where a share would be too small; a share in equal parts
  // where it is larger than what stays near. Whole groups of rows, so that only the last part has an odd end.
  OpFoldResult rowsOfCore(Operation *root, const llvm::SmallPtrSetImpl<Operation *> &group) {
    Location loc = root->getLoc();
    auto matmul = dyn_cast<QMatmulOp>(root);
    for (Operation *op : group)
      matmul = matmul ? matmul : dyn_cast<QMatmulOp>(op);
    RowShares shared = rowSharesOf(matmul);
    Value out = cast<DestinationStyleOpInterface>(root).getDpsInits()[0];
    auto constant = [&](int64_t value) -> Value { return arith::ConstantIndexOp::create(rewriter, loc, value); };
    auto create = [&]<typename Op>(Value x, Value y) -> Value { return Op::create(rewriter, loc, x, y); };
    auto ceilDiv = [&](Value x, Value y) { return create.operator()<arith::CeilDivUIOp>(x, y); };
    Value one = constant(1);
    Value rows = getValueOrCreateConstantIndexOp(rewriter, loc, tensor::getMixedSize(rewriter, loc, out, 0));
    Value shares = create.operator()<arith::DivUIOp>(rows, constant(shared.least));
    shares = create.operator()<arith::MinUIOp>(shares, constant(numCores));
    Value share = ceilDiv(rows, create.operator()<arith::MaxUIOp>(shares, one));
    Value parts = create.operator()<arith::MaxUIOp>(ceilDiv(share, constant(shared.most)), one);
    Value groups = ceilDiv(ceilDiv(share, parts), constant(shared.group));
    groups = create.operator()<arith::MaxUIOp>(groups, one);
    groups = create.operator()<arith::MinUIOp>(groups, constant(shared.most / shared.group));
    return create.operator()<arith::MulIOp>(groups, constant(shared.group));
  }

  // The append has no tensor result: a loop over tokens around its slices. What follows reads the same cache. In a long
  // step as many tokens go together as share a block of the cache; in a short one each, like the rows beside it.
  LogicalResult tileAppend(KvAppendOp append) {
    rewriter.setInsertionPoint(append);
    Location loc = append.getLoc();
    OpFoldResult tokens = tensor::getMixedSize(rewriter, loc, append.getKey(), 0), zero = rewriter.getIndexAttr(0);
    int64_t together = maxTokens >= kLeastTokensInBlocks ? GIRIH_KV_BLOCK_TOKENS : 1;
    auto loop = scf::ForallOp::create(rewriter, loc, zero, tokens, OpFoldResult(rewriter.getIndexAttr(together)),
                                      ValueRange(), std::nullopt);
    loop->setAttr("girih.dispatch", rewriter.getStringAttr(dispatchName(append)));
    rewriter.setInsertionPointToStart(loop.getBody());
    Value token = loop.getInductionVar(0);
    OpFoldResult count = rewriter.getIndexAttr(1);
    if (together > 1) {
      AffineExpr first = rewriter.getAffineDimExpr(0), end = rewriter.getAffineDimExpr(1);
      AffineMap left = AffineMap::get(2, 0, {rewriter.getAffineConstantExpr(together), end - first}, rewriter.getContext());
      count = affine::makeComposedFoldedAffineMin(rewriter, loc, left, {token, tokens});
    }
    auto row = [&](Value heads) -> Value {
      auto type = cast<RankedTensorType>(heads.getType());
      SmallVector<OpFoldResult> offsets{token, rewriter.getIndexAttr(0), rewriter.getIndexAttr(0)};
      SmallVector<OpFoldResult> sizes{count, rewriter.getIndexAttr(type.getDimSize(1)),
                                      rewriter.getIndexAttr(type.getDimSize(2))};
      SmallVector<OpFoldResult> strides(3, rewriter.getIndexAttr(1));
      return tensor::ExtractSliceOp::create(rewriter, loc, heads, offsets, sizes, strides);
    };
    KvAppendOp::create(rewriter, loc, append.getKv().getType(), row(append.getKey()), row(append.getValue()),
                       append.getKv(), token);
    rewriter.replaceOp(append, append.getKv());
    return success();
  }

  IRRewriter rewriter;
  int64_t numCores, maxTokens;
};

// A filled tensor costs nothing to make again: each reader gets its own, inside its tile.
void separateFills(func::FuncOp function) {
  SmallVector<linalg::FillOp> shared;
  function.walk([&](linalg::FillOp fill) {
    if (!fill->use_empty() && !fill->hasOneUse())
      shared.push_back(fill);
  });
  for (linalg::FillOp fill : shared)
    for (OpOperand &use : llvm::make_early_inc_range(llvm::drop_begin(fill->getUses())))
      use.set(OpBuilder(use.getOwner()).clone(*fill)->getResult(0));
}

// The extent of a result is its destination's: asking for it is no use of the result.
void askDestinations(func::FuncOp function) {
  function.walk([](tensor::DimOp dim) {
    while (auto producer = dim.getSource().getDefiningOp<DestinationStyleOpInterface>())
      dim.getSourceMutable().assign(producer.getTiedOpOperand(cast<OpResult>(dim.getSource()))->get());
  });
}

struct TileDispatchesPass : girih::compiler::impl::TileDispatchesBase<TileDispatchesPass> {
  void runOnOperation() override {
    auto machine = getOperation()->getAttrOfType<girih::machine::DescriptionAttr>("girih.machine");
    int64_t numCores = machine ? machine.getCores() : 1;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens)
        continue;
      separateFills(function);
      askDestinations(function);
      if (failed(DispatchTiler(function, numCores, maxTokens.getInt()).tileBlock(function.getBody().front())))
        return signalPassFailure();
    }
  }
};

}  // namespace
