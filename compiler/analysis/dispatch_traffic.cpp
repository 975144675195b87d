// SPDX-License-Identifier: Apache-2.0
// What a dispatch reads and writes of memory that outlives it: implementation.
#include "compiler/analysis/dispatch_traffic.h"

#include "dialects/girih/dialect.h"
#include "runtime/weights/packed_layout.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/MapVector.h"

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

constexpr double kBlockTokens = 16;  // of a KV block

double bytesOf(Type type, int64_t numTokens) {
  Type element = getElementTypeOrSelf(type);
  return element.isIntOrFloat() ? elementsOf(type, numTokens) * element.getIntOrFloatBitWidth() / 8 : 0;
}

double packedBytes(PackedType type) {
  auto layout = weights::PackedLayout::parse(type.getLayout().str());
  if (!layout.isOk())
    return 0;
  auto bytes = layout->tensorBytes(type.getColumns(), type.getDepth());
  return bytes.isOk() ? double(*bytes) : 0;
}

// Bytes of a panel of columns: one column's values lie among those of its neighbours, in the same lines.
double rowBytes(PackedType type) {
  auto layout = weights::PackedLayout::parse(type.getLayout().str());
  return layout.isOk() ? double(layout->panelBytes(type.getDepth())) : 0;
}

class TrafficCounter {
public:
  TrafficCounter(scf::ForallOp loop, const BatchShape &batch, double units) : loop(loop), batch(batch), units(units) {}

  DispatchTraffic count() {
    loop.getBody()->walk([&](Operation *op) { add(op); });
    for (auto &[base, bytes] : touched) {
      auto buffer = base.getDefiningOp<BufferAtOp>();
      bool isWeight = buffer && buffer.getSpace() == "weights";
      (isWeight ? traffic.streamedBytes : traffic.activationBytes) += bytes;
    }
    return traffic;
  }

private:
  void add(Operation *op) {
    if (auto gather = dyn_cast<GatherRowsOp>(op)) {
      if (auto table = dyn_cast<PackedType>(gather.getSource().getType()))
        traffic.streamedBytes += double(batch.numTokens) * rowBytes(table);
      touch(gather.getInit());
      return;
    }
    if (auto append = dyn_cast<KvAppendOp>(op))
      traffic.streamedBytes += appendedBytes(cast<KvType>(append.getKv().getType()));
    else if (auto attention = dyn_cast<AttentionOp>(op); attention && attention.getKv())
      traffic.streamedBytes += seenKeys() * keyBytes(attention.getKv());
    else if (auto parts = dyn_cast<AttentionPartsOp>(op))
      traffic.streamedBytes += seenKeys() * keyBytes(parts.getKv());
    else if (auto join = dyn_cast<JoinPartsOp>(op)) {
      // Of the room for all chunks of a context only those that are seen.
      auto parts = cast<ShapedType>(join.getParts().getType());
      double chunks = std::ceil(seenKeys() / double(batch.numTokens) / double(join.getChunk()));
      traffic.activationBytes += 4 * double(batch.numTokens) * chunks * double(parts.getDimSize(1) * parts.getDimSize(3));
      return touch(join.getInit());
    } else if (auto matmul = dyn_cast<QMatmulOp>(op)) {
      if (auto weight = dyn_cast<PackedType>(matmul.getW().getType()))
        traffic.streamedBytes += packedBytes(weight);
    }
    if (isa<ViewLikeOpInterface>(op))
      return;
    for (Value operand : op->getOperands())
      touch(operand);
  }

  double seenKeys() const {
    return double(batch.numSequences) * double(batch.contextTokens) + double(batch.numTokens);
  }

  // A block has a key's elements apart, each among those of 15 neighbours, so that one key touches the lines of all; values
  // lie one by one.
  double appendedBytes(KvType kv) const {
    double ofElement = double(kv.getElement().getIntOrFloatBitWidth()) / 8 * double(kv.getHeads());
    double blocks = double(batch.numSequences) * std::ceil(double(batch.numTokens) / double(batch.numSequences) / kBlockTokens);
    return ofElement * (blocks * kBlockTokens * double(kv.getKeyDim()) + double(batch.numTokens) * double(kv.getValueDim()));
  }

  // A token's keys and values of the layer.
  static double keyBytes(Value kv) { return double(cast<KvType>(kv.getType()).blockBytes()) / kBlockTokens; }

  // No more of a buffer than there is of it; what is made within the tile is its thread's own.
  void touch(Value memory) {
    if (!isa<MemRefType>(memory.getType()))
      return;
    double bytes = bytesOf(memory.getType(), batch.numTokens) * units;
    Value base = memory;
    while (auto view = base.getDefiningOp<ViewLikeOpInterface>()) {
      // From the first view before the units on, all of it.
      if (!loop->isAncestor(base.getParentBlock()->getParentOp()))
        bytes = std::min(bytes, bytesOf(base.getType(), batch.numTokens));
      base = view.getViewSource();
    }
    bytes = std::min(bytes, bytesOf(base.getType(), batch.numTokens));
    auto buffer = base.getDefiningOp<BufferAtOp>();
    if (loop->isAncestor(base.getParentBlock()->getParentOp()) || (buffer && buffer.getSpace() == "scratch"))
      return;
    double &known = touched[base];
    known = std::max(known, bytes);
  }

  scf::ForallOp loop;
  const BatchShape &batch;
  double units;
  DispatchTraffic traffic;
  llvm::MapVector<Value, double> touched;
};

}  // namespace

double elementsOf(Type type, int64_t numTokens) {
  auto shaped = dyn_cast<ShapedType>(type);
  if (!shaped || !shaped.hasRank())
    return 0;
  double count = 1;
  for (int64_t extent : shaped.getShape())
    count *= ShapedType::isDynamic(extent) ? double(numTokens) : double(extent);
  return count;
}

DispatchTraffic trafficOf(scf::ForallOp loop, const BatchShape &batch, double units) {
  return TrafficCounter(loop, batch, units).count();
}

double stepStreamBytes(Operation *op, const BatchShape &batch) {
  auto module = op->getParentOfType<ModuleOp>();
  auto integer = [&](StringRef name) {
    auto attribute = module ? module->getAttrOfType<IntegerAttr>(name) : IntegerAttr();
    return attribute ? double(attribute.getInt()) : 0;
  };
  double positions = double(batch.numSequences) * double(batch.contextTokens) + double(batch.numTokens);
  return integer("girih.weight_bytes") + positions * integer("girih.kv_block_bytes") / kBlockTokens;
}

}  // namespace girih::compiler
