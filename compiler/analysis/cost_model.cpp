// SPDX-License-Identifier: Apache-2.0
// The cost model: how long a dispatch takes on a machine, from its bytes, its instructions and nothing else.
#include "compiler/analysis/cost_model.h"

#include "compiler/analysis/dispatch_traffic.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

#include <cmath>

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

// Measured on the kernels of whole steps (bench/results.md).
constexpr double kNotHidden = 0.35;    // of the shorter of computing and moving, between one unit and the next
constexpr double kSlotsFilled = 0.85;  // of those in which vector instructions may start
constexpr double kVectorElementBytes = 4;

double hertz(machine::DescriptionAttr machine) { return double(machine.getClockMhz()) * 1e6; }

double bytesPerSecond(machine::LevelAttr level, machine::DescriptionAttr machine, double cores) {
  return double(level.getBytesPerCycle()) * hertz(machine) * cores;
}

// The nearest level whose caches together hold so much.
machine::LevelAttr levelFor(double bytes, machine::DescriptionAttr machine) {
  for (machine::LevelAttr level : machine.getLevels()) {
    double copies = double(machine.getCores()) / double(std::max<int64_t>(1, level.getSharedBy()));
    if (bytes <= double(level.getSizeBytes()) * copies)
      return level;
  }
  return machine.getLevels().back();
}

// Multiplies and adds a second on all cores, of the unit that takes `element`; the f32 unit stands in for one that the
// machine does not have.
double peakOf(StringRef element, machine::DescriptionAttr machine) {
  machine::UnitAttr unit = machine.matrixUnitFor(element);
  if (!unit)
    unit = machine.unitFor(element);
  if (!unit)
    unit = machine.unitFor("f32");
  double clock = double(machine.getClockMhz()) * 1e6, cores = double(machine.getCores());
  return unit ? 2.0 * double(unit.getLanes() * unit.getPerCycle()) * clock * cores : 1.0;
}

StringRef nameOf(Type element) { return element.isBF16() ? "bf16" : element.isInteger(8) ? "i8" : "f32"; }

// ---- Operations and footprint of the ops in a tile ----
class OperationCounter {
public:
  OperationCounter(const BatchShape &batch, machine::DescriptionAttr machine, DispatchCost &cost)
      : batch(batch), machine(machine), cost(cost) {}

  void add(Operation *op, double units) {
    if (auto matmul = dyn_cast<QMatmulOp>(op))
      return add(matmul);
    if (auto attention = dyn_cast<AttentionOp>(op)) {
      double queries = double(attention.getQueryTile().value_or(1));
      Type operands = attention.getOperandType().value_or(getElementTypeOrSelf(attention.getInit()));
      return addAttention(attention.getQ(), attention.getKv(), attention.getKey(), operands, queries);
    }
    if (auto parts = dyn_cast<AttentionPartsOp>(op))
      return addAttention(parts.getQ(), parts.getKv(), Value(), getElementTypeOrSelf(parts.getInit()), 1);
    auto structured = dyn_cast<linalg::LinalgOp>(op);
    if (!structured)
      return;
    double elements = 0;
    for (Value operand : op->getOperands()) {
      elements = std::max(elements, elementsOf(operand.getType(), batch.numTokens));
      cost.footprintBytes += 4 * elementsOf(operand.getType(), 1);  // rows pass by: nothing of one is met again in the next
    }
    addOperations(elements * units * double(op->getRegion(0).front().getOperations().size() - 1), "f32");
  }

private:
  void addOperations(double count, StringRef element) {
    cost.operations += count;
    if (machine)
      cost.computeSeconds += count / peakOf(element, machine);
  }

  void add(QMatmulOp matmul) {
    auto weight = dyn_cast<PackedType>(matmul.getW().getType());
    double rows = double(batch.numTokens), depth = weight ? double(weight.getDepth()) : 0;
    double columns = weight ? double(weight.getColumns()) : 0;
    Type element = getElementTypeOrSelf(matmul.getX());
    addOperations(2 * rows * columns * depth, nameOf(element));
    double xBytes = element.getIntOrFloatBitWidth() / 8;
    double columnTile = double(matmul.getColumnTile().value_or(16)), depthTile = double(matmul.getKTile().value_or(0));
    StringRef strategy = matmul.getStrategy().value_or("direct");
    bool isDirect = strategy == "direct" || strategy == "codes" || strategy == "bytes"; // weights are met once, as they are stored
    cost.footprintBytes += (isDirect ? 0 : xBytes * depthTile * columnTile) +
                           double(matmul.getRowTile().value_or(1)) * (xBytes * depth + 4 * columnTile);
    // Passes over k put their sums down and take them up again.
    double passes = !isDirect && depthTile > 0 ? std::ceil(depth / depthTile) : 1;
    cost.rereadBytes += (passes - 1) * 2 * 4 * rows * columns;
  }

  void addAttention(Value q, Value kv, Value key, Type operands, double queries) {
    auto heads = cast<ShapedType>(q.getType());
    KvType cache = kv ? cast<KvType>(kv.getType()) : KvType();
    double kvHeads = cache ? double(cache.getHeads()) : double(cast<ShapedType>(key.getType()).getDimSize(1));
    double perKey = cache ? double(cache.getKeyDim() + cache.getValueDim()) : 2 * double(heads.getDimSize(2));
    double elementBytes = cache ? cache.getElement().getIntOrFloatBitWidth() / 8 : 4;
    double headsPerGroup = heads.isDynamicDim(1) ? 1 : double(heads.getDimSize(1));
    double tokensEach = double(batch.numTokens) / double(batch.numSequences);
    // Token t of a sequence sees the context and t + 1 of its own.
    double seen = double(batch.contextTokens) + (tokensEach + 1) / 2;
    addOperations(2 * double(batch.numTokens) * kvHeads * headsPerGroup * seen * perKey, nameOf(operands));
    // Each group of queries reads the keys again.
    double groups = std::ceil(tokensEach / queries);
    cost.rereadBytes += (groups - 1) * double(batch.numSequences) * seen * kvHeads * perKey * elementBytes;
    cost.footprintBytes += 4 * headsPerGroup * perKey * queries + 16 * perKey * 4;
  }

  const BatchShape &batch;
  machine::DescriptionAttr machine;
  DispatchCost &cost;
};

double numUnits(scf::ForallOp loop, int64_t numTokens) {
  double units = 1;
  for (auto [lower, upper, step] :
       llvm::zip(loop.getMixedLowerBound(), loop.getMixedUpperBound(), loop.getMixedStep())) {
    double extent = double(getConstantIntValue(upper).value_or(numTokens) - getConstantIntValue(lower).value_or(0));
    double each = double(getConstantIntValue(step).value_or(numTokens));  // unknown: rows in shares of cores
    units *= std::max(1.0, extent / each);
  }
  return units;
}

// Instructions of all units, on as many cores as there are units for, the last round only partly filled. What is
// loaded comes from the level that holds a unit's footprint.
double countedSeconds(const CountedWork &work, machine::LevelAttr home, machine::DescriptionAttr machine) {
  machine::UnitAttr vectors = machine.unitFor("i32");
  if (!vectors)
    vectors = machine.unitFor("f32");
  double cycles = 0;
  if (vectors)
    cycles = work.vectorBytes / (kVectorElementBytes * double(vectors.getLanes() * vectors.getPerCycle())) / kSlotsFilled;
  for (machine::UnitAttr unit : machine.getUnits())
    if (machine::TileAttr tile = unit.getTile()) {
      double products = double(tile.getRows() * tile.getColumns() * tile.getDepth());
      cycles += work.tileProducts * products / double(unit.getLanes() * unit.getPerCycle());
      break;
    }
  double near = double(machine.getLevels().front().getBytesPerCycle());
  double moving = std::max(work.loadBytes / double(home.getBytesPerCycle()), 2 * work.storeBytes / near);
  cycles = std::max(cycles, moving) + kNotHidden * std::min(cycles, moving);
  double cores = double(machine.getCores()), units = std::max(1.0, work.units);
  double rounds = std::ceil(units / cores);
  return cycles * rounds / units / (double(machine.getClockMhz()) * 1e6);
}

// The nearest level that all cores share, or the farthest.
machine::LevelAttr sharedLevel(machine::DescriptionAttr machine) {
  for (machine::LevelAttr level : machine.getLevels())
    if (level.getSharedBy() >= machine.getCores())
      return level;
  return machine.getLevels().back();
}

// Weights and caches come from the nearest level that holds a step's; activations from where cores meet, or behind it: as
// whoever comes first takes a unit, what it reads was left by any of them. The first line of either is waited for.
double memorySecondsOf(const DispatchTraffic &traffic, double stepBytes, double units, machine::DescriptionAttr machine) {
  double cores = std::min(double(machine.getCores()), std::max(1.0, units));
  auto moved = [&](double bytes, machine::LevelAttr level) {
    return bytes > 0 ? bytes / bytesPerSecond(level, machine, cores) + double(level.getLatencyCycles()) / hertz(machine) : 0;
  };
  machine::LevelAttr meeting = sharedLevel(machine), holding = levelFor(traffic.activationBytes, machine);
  if (holding.getSizeBytes() > meeting.getSizeBytes())
    meeting = holding;
  return moved(traffic.streamedBytes, levelFor(stepBytes, machine)) + moved(traffic.activationBytes, meeting);
}

}  // namespace

DispatchCost estimateDispatch(scf::ForallOp loop, const BatchShape &batch, machine::DescriptionAttr machine,
                              const std::optional<CountedWork> &counted) {
  DispatchCost cost;
  double units = counted ? counted->units : numUnits(loop, batch.numTokens);
  OperationCounter operations(batch, machine, cost);
  loop.getBody()->walk([&](Operation *op) { operations.add(op, units); });
  DispatchTraffic traffic = trafficOf(loop, batch, units);
  cost.bytes = traffic.streamedBytes + traffic.activationBytes;
  if (!machine || machine.getLevels().empty())
    return cost;
  machine::LevelAttr home = machine.getLevels().back();
  for (machine::LevelAttr level : llvm::reverse(machine.getLevels()))
    if (cost.footprintBytes <= double(level.getSizeBytes()))
      home = level;
  cost.level = home.getName().str();
  if (counted)
    cost.computeSeconds = countedSeconds(*counted, home, machine);
  cost.memorySeconds = memorySecondsOf(traffic, stepStreamBytes(loop, batch), units, machine);
  cost.isMemoryBound = cost.memorySeconds >= cost.computeSeconds;
  // What small tiles make be read again comes from the second level, while the units wait.
  machine::LevelAttr second = machine.getLevels()[machine.getLevels().size() > 1 ? 1 : 0];
  double rereadSeconds = counted ? 0 : cost.rereadBytes / bytesPerSecond(second, machine, double(machine.getCores()));
  double longer = std::max(cost.memorySeconds, cost.computeSeconds), shorter = std::min(cost.memorySeconds, cost.computeSeconds);
  // What a core's first unit reads it can only wait for.
  double unitsEach = std::max(1.0, units / double(std::max<int64_t>(1, machine.getCores())));
  double shown = kNotHidden + (1 - kNotHidden) / unitsEach;
  cost.seconds = longer + shown * shorter + rereadSeconds + double(machine.getBarrierNs()) * 1e-9;
  return cost;
}

}  // namespace girih::compiler
