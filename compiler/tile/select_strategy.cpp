// SPDX-License-Identifier: Apache-2.0
// girih-select-strategy: chooses tile sizes from the machine's figures.
#include "compiler/tile/passes.h"

#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"
#include "runtime/weights/packed_layout.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace girih::compiler {
#define GEN_PASS_DEF_SELECTSTRATEGY
#include "compiler/tile/passes.h.inc"
} // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;
using girih::machine::DescriptionAttr;

namespace {

constexpr int64_t kVirtualLanes = 16; // columns of a panel: results do not depend on the real vector width
constexpr int64_t kBlockDepth = 32;   // k values in one packed block
constexpr int64_t kMaxDirectRows =
    8; // beyond, dequantising once into scratch beats doing it for each row group
constexpr int64_t kMaxPanelRows = 16;   // no register file holds more rows beside two panels
constexpr int64_t kUnpackRegisters = 3; // the loaded line, its codes and the broadcast activation

constexpr int64_t kAttentionUnitsOfCore =
    3; // units of the longest step: as late tokens see more, one core ends last
constexpr int64_t kMaxDirectDotRows =
    31;                             // codes are taken apart faster than they are stored and loaded again
constexpr int64_t kMostRowsOfVectors = 8; // a tile of bytes takes as long, and slows the vectors that follow it
constexpr int64_t kLeastUnitsOfCore = 6;
constexpr int64_t kDotRowGroup = 8; // rows that read a panel in one pass of the direct strategy

struct RegisterTile {
  int64_t rows = 1, panels = 1;
};

// Facts of the machine that tiling needs.
struct Budget {
  int64_t registersPerVector; // machine registers that hold 16 f32
  int64_t registers;
  int64_t nearBytes; // the first level: L1 or scratchpad
  int64_t farBytes;  // the next one
  int64_t cores;
  girih::machine::TileAttr matrix = {}, byteMatrix = {}; // of the matrix units, where there are some
};

// How many multiply-adds a load feeds, the larger the better: a panel's weights take a load for each register, a
// broadcast activation one for all of them.
double reuse(RegisterTile tile, const Budget &budget) {
  double weights = double(tile.panels * budget.registersPerVector);
  return double(tile.rows) * weights / (double(tile.rows) + weights);
}

int64_t registersOf(RegisterTile tile, const Budget &budget, int64_t temporaries) {
  return (tile.rows * tile.panels + tile.panels + temporaries) * budget.registersPerVector;
}

// The best tile of at most `maxRows` rows whose panels divide `numPanels` and whose accumulators, weights and
// temporaries fit the registers. Where weights are unpacked for every row group (`direct`), rows count first.
RegisterTile bestTile(int64_t maxRows, int64_t numPanels, const Budget &budget, bool direct) {
  int64_t temporaries = direct ? kUnpackRegisters : 1;
  RegisterTile best;
  for (int64_t panels : {1, 2, 4}) {
    if (numPanels % panels != 0)
      continue;
    for (int64_t rows = 1; rows <= maxRows; ++rows) {
      RegisterTile tile{rows, panels};
      if (registersOf(tile, budget, temporaries) > budget.registers)
        break;
      bool isBetter = direct && tile.rows != best.rows ? tile.rows > best.rows
                                                       : reuse(tile, budget) > reuse(best, budget);
      if (isBetter)
        best = tile;
    }
  }
  return best;
}

// Integer sums live beside the f32 ones: of one panel at a time (`direct`), or of the whole tile.
int64_t dotRegistersOf(RegisterTile tile, const Budget &budget, bool direct) {
  int64_t sums = tile.rows * tile.panels;
  int64_t vectors = direct ? sums + tile.rows + 5 * tile.panels - 1 : 2 * sums + tile.panels + 3;
  return vectors * budget.registersPerVector;
}

// Few rows: as many as there are, and panels only while rows are fewer than streams of memory keep busy. Many rows: the
// most multiply-adds a load.
RegisterTile bestDotTile(int64_t maxRows, int64_t numPanels, const Budget &budget, bool direct) {
  RegisterTile best;
  for (int64_t panels : {1, 2}) {
    if (numPanels % panels != 0)
      continue;
    for (int64_t rows = 1; rows <= maxRows; ++rows) {
      RegisterTile tile{rows, panels};
      if (dotRegistersOf(tile, budget, direct) > budget.registers)
        break;
      bool isBetter = direct ? rows >= best.rows : reuse(tile, budget) > reuse(best, budget);
      if (isBetter)
        best = tile;
    }
  }
  return best;
}

int64_t roundDown(int64_t value, int64_t multiple) { return value / multiple * multiple; }

struct SelectStrategyPass : girih::compiler::impl::SelectStrategyBase<SelectStrategyPass> {
  void runOnOperation() override {
    auto machine = getOperation()->getAttrOfType<DescriptionAttr>("girih.machine");
    auto unit = machine ? machine.unitFor("f32") : girih::machine::UnitAttr();
    if (!unit || machine.getLevels().empty()) {
      getOperation().emitError(
          "module has no `girih.machine` with an f32 unit and a memory level; tile sizes come "
          "from nowhere else");
      return signalPassFailure();
    }
    auto levels = machine.getLevels();
    Budget budget{std::max<int64_t>(1, kVirtualLanes / unit.getLanes()), unit.getRegisters(),
                  levels[0].getSizeBytes(), levels[levels.size() > 1 ? 1 : 0].getSizeBytes(),
                  std::max<int64_t>(1, machine.getCores())};
    if (girih::machine::UnitAttr matrix = machine.matrixUnitFor("bf16"))
      budget.matrix = matrix.getTile();
    if (girih::machine::UnitAttr matrix = machine.matrixUnitFor("i8"))
      budget.byteMatrix = matrix.getTile();
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens)
        continue;
      function.walk([&](QMatmulOp op) { selectMatmul(op, maxTokens.getInt(), budget); });
      function.walk([&](AttentionOp op) { selectAttention(op, maxTokens.getInt(), budget); });
    }
  }

  void selectMatmul(QMatmulOp op, int64_t maxTokens, const Budget &budget) {
    auto weight = dyn_cast<PackedType>(op.getW().getType());
    if (!weight)
      return;
    if (getElementTypeOrSelf(op.getX()).isBF16() && budget.matrix)
      return takesCodes(weight, maxTokens, budget) ? selectCodes(op, weight, maxTokens)
                                                   : selectMatrix(op, weight, maxTokens, budget);
    if (getElementTypeOrSelf(op.getX()).isInteger(8))
      return takesBytes(weight, maxTokens, budget) ? selectBytes(op, weight, maxTokens, budget)
                                                   : selectDot(op, weight, maxTokens, budget);
    int64_t numPanels = llvm::divideCeil(weight.getColumns(), kVirtualLanes);
    bool direct = maxTokens <= kMaxDirectRows;
    RegisterTile tile = bestTile(direct ? maxTokens : kMaxPanelRows, numPanels, budget, direct);
    // The dequantised panel may fill half of the second level; the other half is for activations.
    int64_t depth = llvm::alignTo(weight.getDepth(), kBlockDepth);
    int64_t fits = roundDown(budget.farBytes / 2 / (tile.panels * kVirtualLanes * 4), kBlockDepth);
    set(op, direct ? "direct" : "panel", tile, direct ? depth : std::clamp(fits, kBlockDepth, depth));
  }

  void selectDot(QMatmulOp op, PackedType weight, int64_t maxTokens, const Budget &budget) {
    int64_t numPanels = llvm::divideCeil(weight.getColumns(), kVirtualLanes);
    bool direct = maxTokens <= kMaxDirectDotRows;
    RegisterTile tile =
        bestDotTile(direct ? std::min(maxTokens, kDotRowGroup) : kMaxPanelRows, numPanels, budget, direct);
    // The codes, a byte each, their scales and mins, f32, may fill half of the first level, whose other half is for rows;
    // passes over k are equally deep.
    int64_t numBlocks = llvm::divideCeil(weight.getDepth(), kBlockDepth);
    int64_t blockBytes = tile.panels * kVirtualLanes * (kBlockDepth + 2 * 4);
    int64_t most = std::max<int64_t>(1, budget.nearBytes / 2 / blockBytes);
    int64_t numPasses = direct ? 1 : llvm::divideCeil(numBlocks, most);
    set(op, direct ? "direct" : "panel", tile, kBlockDepth * int64_t(llvm::divideCeil(numBlocks, numPasses)));
  }

  void set(QMatmulOp op, StringRef strategy, RegisterTile tile, int64_t depth) {
    Builder b(op);
    op.setStrategyAttr(b.getStringAttr(strategy));
    op.setRowTileAttr(b.getI64IntegerAttr(tile.rows));
    op.setColumnTileAttr(b.getI64IntegerAttr(tile.panels * kVirtualLanes));
    op.setKTileAttr(b.getI64IntegerAttr(depth));
  }

  // As few rows as a tile has: what each row costs, scaling its sums, is less than rounding the weights would.
  static bool takesCodes(PackedType weight, int64_t maxTokens, const Budget &budget) {
    auto layout = girih::weights::PackedLayout::parse(std::string_view(weight.getLayout()));
    return layout.isOk() && !layout->hasFloatCodes() && maxTokens <= budget.matrix.getRows();
  }

  // Panels one behind the other, two a unit: every thread keeps the rows, and k is never cut.
  void selectCodes(QMatmulOp op, PackedType weight, int64_t maxTokens) {
    set(op, "codes", {maxTokens, 2}, llvm::alignTo(weight.getDepth(), kBlockDepth));
  }

  // More rows than vectors multiply as fast, and no more than a tile has: what each row costs is scaling its sums. Codes,
  // less their offset, must be bytes, with one scale a block.
  static bool takesBytes(PackedType weight, int64_t maxTokens, const Budget &budget) {
    auto layout = girih::weights::PackedLayout::parse(std::string_view(weight.getLayout()));
    if (!budget.byteMatrix || maxTokens <= kMostRowsOfVectors || maxTokens > budget.byteMatrix.getRows() || !layout.isOk())
      return false;
    bool isByte = layout->hasNibbles() || layout->codeOffset == 0;
    return !layout->isDense && !layout->hasFloatCodes() && layout->numGroups() == 1 && isByte;
  }

  // Panels one behind the other, k never cut: a unit begins and ends once for all of them, so as many as leave every core
  // the same number of units, and some for whoever comes first.
  void selectBytes(QMatmulOp op, PackedType weight, int64_t maxTokens, const Budget &budget) {
    int64_t numPanels = llvm::divideCeil(weight.getColumns(), kVirtualLanes), panels = 2;
    for (int64_t more : {4, 8})
      if (numPanels % (more * budget.cores) == 0 && numPanels >= more * budget.cores * kLeastUnitsOfCore)
        panels = more;
    set(op, "bytes", {maxTokens, panels}, llvm::alignTo(weight.getDepth(), kBlockDepth));
  }

  // Whether one operation, and nothing else, joins the result with that of the same x and another weight of the same kind.
  static bool isJoined(QMatmulOp op) {
    Value result = op.getResult();
    auto reader = result && result.hasOneUse() ? dyn_cast<linalg::LinalgOp>(*result.user_begin()) : linalg::LinalgOp();
    return reader && llvm::any_of(reader->getOperands(), [&](Value operand) {
      auto other = operand.getDefiningOp<QMatmulOp>();
      return other && other != op && other->hasOneUse() && other.getX() == op.getX() &&
             other.getW().getType() == op.getW().getType();
    });
  }

  // Whether a core's rows outgrow half of the second level, so that they pass by in parts of k, and nothing but one operation
  // on each of them reads the sums, which then lie tile by tile from part to part.
  static bool meetsInParts(QMatmulOp op, PackedType weight, int64_t maxTokens, const Budget &budget) {
    int64_t rows = llvm::divideCeil(maxTokens, budget.cores);
    Value result = op.getResult();
    return rows * weight.getDepth() * 2 > budget.farBytes / 2 && result && result.hasOneUse() && !isJoined(op) &&
           isa<linalg::LinalgOp>(*result.user_begin());
  }

  // Two tiles of rows by two of columns share what they load; the columns are of both matmuls where two are joined, so
  // that what joins them meets their sums at once. The weights of a pass stay in three quarters of the first level while
  // all rows go by; in half of it, without being driven out by those of the next pass, where it costs little to take sums
  // up again. Passes over k are equally deep.
  void selectMatrix(QMatmulOp op, PackedType weight, int64_t maxTokens, const Budget &budget) {
    int64_t columns = 2 * budget.matrix.getColumns(), joined = isJoined(op) ? 2 : 1, blockBytes = 2 * columns * kBlockDepth;
    int64_t numBlocks = llvm::divideCeil(weight.getDepth(), kBlockDepth);
    int64_t quarters = meetsInParts(op, weight, maxTokens, budget) ? 2 : 3;
    int64_t most = std::max<int64_t>(1, budget.nearBytes / 4 * quarters / blockBytes);
    int64_t numPasses = llvm::divideCeil(numBlocks, most);
    set(op, "matrix", {2 * budget.matrix.getRows(), columns / kVirtualLanes / joined},
        kBlockDepth * int64_t(llvm::divideCeil(numBlocks, numPasses)));
  }

  void selectAttention(AttentionOp op, int64_t maxTokens, const Budget &budget) {
    if (!op.getKv())
      return;
    auto q = cast<ShapedType>(op.getQ().getType());
    int64_t headsPerGroup = q.getDimSize(1) / op.getKv().getType().getHeads(), fits = 0;
    if (op.getOperandType()) {
      // What keys and values cost to put in pairs is shared by all rows of a tile, whose state stays in the second level.
      int64_t valueDim = op.getKv().getType().getValueDim();
      int64_t bytesPerToken = headsPerGroup * (q.getDimSize(2) * 2 + (valueDim + kVirtualLanes) * 4);
      int64_t units = budget.cores * kAttentionUnitsOfCore;
      int64_t shared = std::max<int64_t>(1, maxTokens * op.getKv().getType().getHeads() / units);
      fits = std::clamp<int64_t>(budget.farBytes / 4 / bytesPerToken, 1, shared);
    } else {
      // Rows that share a chunk: as many as keep their sums and queries within half of the first level.
      int64_t bytesPerToken = headsPerGroup * (q.getDimSize(2) + op.getKv().getType().getValueDim()) * 4;
      fits = std::clamp<int64_t>(budget.nearBytes / 2 / bytesPerToken, 1, 16);
    }
    op.setQueryTileAttr(Builder(op).getI64IntegerAttr(std::min(fits, maxTokens)));
    op.setChunkAttr(Builder(op).getI64IntegerAttr(chunkOf(getOperation())));
  }

  // Positions of a chunk: no machine's figure, since it is part of what is computed. A context has 64 chunks, or more
  // where they would grow too large to keep their scores near.
  static int64_t chunkOf(ModuleOp module) {
    auto model = module->getAttrOfType<DictionaryAttr>("girih.model");
    auto maxPositions = model ? model.getAs<IntegerAttr>("maxPositions") : IntegerAttr();
    int64_t wanted =
        maxPositions ? int64_t(llvm::PowerOf2Ceil(llvm::divideCeil(maxPositions.getInt(), 64))) : 0;
    return std::clamp<int64_t>(wanted, 128, 512);
  }
};

} // namespace
