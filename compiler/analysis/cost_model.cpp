// SPDX-License-Identifier: Apache-2.0
// The cost model: how long a dispatch takes on a machine, from its bytes, its operations and nothing else.
#include "compiler/analysis/cost_model.h"

#include "dialects/girih/dialect.h"
#include "runtime/weights/packed_layout.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

#include <cmath>

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

double elementsOf(Type type, int64_t numTokens) {
  auto shaped = dyn_cast<ShapedType>(type);
  if (!shaped || !shaped.hasRank())
    return 0;
  double count = 1;
  for (int64_t extent : shaped.getShape())
    count *= ShapedType::isDynamic(extent) ? double(numTokens) : double(extent);
  return count;
}

double packedBytes(PackedType type) {
  auto layout = weights::PackedLayout::parse(type.getLayout().str());
  if (!layout.isOk())
    return 0;
  auto bytes = layout->tensorBytes(type.getColumns(), type.getDepth());
  return bytes.isOk() ? double(*bytes) : 0;
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

void addOperations(double count, StringRef element, machine::DescriptionAttr machine, DispatchCost &cost) {
  cost.operations += count;
  if (machine)
    cost.computeSeconds += count / peakOf(element, machine);
}

// What one op inside the tile adds. Its types are the tile's; `units` tiles make the dispatch.
void addOp(Operation *op, int64_t numTokens, double units, machine::DescriptionAttr machine, DispatchCost &cost) {
  if (auto matmul = dyn_cast<QMatmulOp>(op)) {
    auto weight = dyn_cast<PackedType>(matmul.getW().getType());
    double rows = double(numTokens), depth = weight ? double(weight.getDepth()) : 0;
    double columns = weight ? double(weight.getColumns()) : 0;
    Type element = getElementTypeOrSelf(matmul.getX());
    addOperations(2 * rows * columns * depth, nameOf(element), machine, cost);
    double xBytes = element.getIntOrFloatBitWidth() / 8;
    cost.bytes += (weight ? packedBytes(weight) : 0) + rows * (xBytes * depth + 4 * columns);
    double columnTile = double(matmul.getColumnTile().value_or(16)), depthTile = double(matmul.getKTile().value_or(0));
    bool isDirect = matmul.getStrategy().value_or("direct") == "direct";
    cost.footprintBytes += (isDirect ? 0 : xBytes * depthTile * columnTile) +
                           double(matmul.getRowTile().value_or(1)) * (xBytes * depth + 4 * columnTile);
    // Passes over k put their sums down and take them up again.
    double passes = !isDirect && depthTile > 0 ? std::ceil(depth / depthTile) : 1;
    cost.rereadBytes += (passes - 1) * 2 * 4 * rows * columns;
    return;
  }
  if (auto attention = dyn_cast<AttentionOp>(op)) {
    // What it reads: a cache, or keys and values of this step alone.
    auto extent = [](Value value, int64_t dim) { return double(cast<ShapedType>(value.getType()).getDimSize(dim)); };
    bool isCached = bool(attention.getKv());
    double heads = isCached ? double(attention.getKv().getType().getHeads()) : extent(attention.getKey(), 1);
    double elementBytes = isCached ? attention.getKv().getType().getElement().getIntOrFloatBitWidth() / 8 : 4;
    // The context is not known here: half of the step's own tokens, as in a first prompt.
    double context = std::max(1.0, double(numTokens) / 2);
    double perKey = extent(attention.getQ(), 2) + extent(attention.getInit(), 2);
    auto q = cast<ShapedType>(attention.getQ().getType());
    double headsPerGroup = q.isDynamicDim(1) ? 1 : double(q.getDimSize(1));
    Type operands = attention.getOperandType().value_or(getElementTypeOrSelf(attention.getInit()));
    addOperations(2 * double(numTokens) * heads * headsPerGroup * context * perKey, nameOf(operands), machine, cost);
    cost.bytes += context * heads * perKey * elementBytes;
    // Each group of queries reads the keys again.
    double groups = std::ceil(double(numTokens) / double(attention.getQueryTile().value_or(1)));
    cost.rereadBytes += (groups - 1) * context * heads * perKey * elementBytes;
    cost.footprintBytes += 4 * headsPerGroup * perKey * double(attention.getQueryTile().value_or(1)) + 16 * perKey * 4;
    return;
  }
  auto structured = dyn_cast<linalg::LinalgOp>(op);
  if (!structured)
    return;
  double elements = 0;
  for (Value operand : op->getOperands())
    elements = std::max(elements, elementsOf(operand.getType(), numTokens));
  addOperations(elements * units * double(op->getRegion(0).front().getOperations().size() - 1), "f32", machine, cost);
  for (Value operand : op->getOperands()) {
    double bytes = 4 * elementsOf(operand.getType(), numTokens);
    cost.bytes += bytes * units;
    cost.footprintBytes += bytes;
  }
}

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

}  // namespace

DispatchCost estimateDispatch(scf::ForallOp loop, int64_t numTokens, machine::DescriptionAttr machine) {
  DispatchCost cost;
  double units = numUnits(loop, numTokens);
  loop.getBody()->walk([&](Operation *op) { addOp(op, numTokens, units, machine, cost); });
  if (!machine || machine.getLevels().empty())
    return cost;
  double clock = double(machine.getClockMhz()) * 1e6, cores = double(machine.getCores());
  machine::LevelAttr home = machine.getLevels().back(), source = home;
  for (machine::LevelAttr level : llvm::reverse(machine.getLevels())) {
    if (cost.footprintBytes <= double(level.getSizeBytes()))
      home = level;
    if (cost.bytes <= double(level.getSizeBytes()) && level.getSharedBy() > 1)
      source = level;
  }
  cost.level = home.getName().str();
  double memorySeconds = cost.bytes / (double(source.getBytesPerCycle()) * clock * cores);
  cost.isMemoryBound = memorySeconds >= cost.computeSeconds;
  // What small tiles make be read again comes from the second level, while the units wait.
  machine::LevelAttr second = machine.getLevels()[machine.getLevels().size() > 1 ? 1 : 0];
  double rereadSeconds = cost.rereadBytes / (double(second.getBytesPerCycle()) * clock * cores);
  cost.seconds = std::max(memorySeconds, cost.computeSeconds) + rereadSeconds + double(machine.getBarrierNs()) * 1e-9;
  return cost;
}

}  // namespace girih::compiler
