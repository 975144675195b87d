// SPDX-License-Identifier: Apache-2.0
// CacheFetch: implementation. A thread's place is five words of its scratch: sequence, block, byte of the block's
// part of the layer, bytes left to fetch, end of its sequences.
#include "backends/cpu/codegen/cache_fetch.h"

#include "backends/cpu/codegen/step_memory.h"
#include "dialects/machine/dialect.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"

#include <cstddef>

using namespace mlir;
using namespace girih::dialect;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS, kLineBytes = 64;
constexpr int64_t kMostLines = 4; // for a block of k: more of them hold up the loads of the block itself
constexpr int64_t kCursorBytes = 64;
enum Word : int64_t { kSequence, kBlock, kByte, kLeft, kEnd };

// One sequence is read by all threads.
bool hasManySequences(Operation *op) {
  auto function = op->getParentOfType<func::FuncOp>();
  auto maxTokens = function ? function->getAttrOfType<IntegerAttr>("girih.max_tokens") : IntegerAttr();
  return maxTokens && maxTokens.getInt() > 1;
}

Operation *dispatchOf(Operation *op) {
  Operation *dispatch = op;
  for (auto loop = op->getParentOfType<scf::ForallOp>(); loop; loop = loop->getParentOfType<scf::ForallOp>())
    dispatch = loop;
  return dispatch;
}

Value stepInt(KernelBuilder &k, size_t field, Value number) {
  return k.toIndex(k.load(k.b.getI32Type(), k.at(k.stepPointer(field), k.mul(number, 4))));
}

KvAtOp cacheOf(AttentionPartsOp op) {
  Value kv = op.getKv();
  while (auto append = kv.getDefiningOp<KvAppendOp>())
    kv = append.getKv();
  return kv.getDefiningOp<KvAtOp>();
}

} // namespace

CacheFetch::CacheFetch(ModuleOp module) : module(module) {
  auto machine = module->getAttrOfType<machine::DescriptionAttr>("girih.machine");
  if (machine && machine.getLevels().size() > 1)
    mostBytes = machine.getLevels()[1].getSizeBytes() / machine.getLevels()[1].getSharedBy() / 2;
}

int64_t CacheFetch::scratchBytes(ModuleOp module) {
  bool hasAny = false;
  module.walk([&](AttentionPartsOp op) { hasAny |= hasManySequences(op); });
  return hasAny ? kCursorBytes : 0;
}

Value CacheFetch::get(KernelBuilder &k, Operation *op, int64_t word) {
  return k.toIndex(k.load(k.b.getI64Type(), k.at(threadScratch(k, op), cursor + 8 * word), 8));
}

void CacheFetch::set(KernelBuilder &k, Operation *op, int64_t word, Value value) {
  k.store(k.toInteger(value, k.b.getI64Type()), k.at(threadScratch(k, op), cursor + 8 * word), 8);
}

void CacheFetch::emitStart(Operation *before) {
  OpBuilder b(before);
  KernelBuilder k(b, before->getLoc());
  Value sequences = k.stepInteger(offsetof(girih_step_args, num_sequences)), thread = k.threadIndex();
  Value first = k.div(k.mul(sequences, thread), k.numThreads());
  Value end = k.div(k.mul(sequences, k.add(thread, 1)), k.numThreads());
  Value left = k.select(k.less(sequences, k.numThreads()), k.index(0), k.index(mostBytes));
  set(k, before, kSequence, first);
  set(k, before, kBlock, k.index(0));
  set(k, before, kByte, k.index(0));
  set(k, before, kLeft, left);
  set(k, before, kEnd, end);
}

void CacheFetch::emitStarts(int64_t cursorAt) {
  cursor = cursorAt;
  if (cursorAt < 0) // a module without scratch for it
    mostBytes = 0;
  if (mostBytes == 0)
    return;
  llvm::SetVector<Operation *> places;
  module.walk([&](AttentionPartsOp op) {
    if (!hasManySequences(op))
      return;
    places.insert(&op->getParentOfType<func::FuncOp>().getBody().front().front());
    places.insert(dispatchOf(op));
  });
  for (Operation *place : places)
    emitStart(place);
}

// The attention that follows in the same layer, or else the next layer's, which is like the one before.
std::optional<CacheFetch::Place> CacheFetch::placeFor(QMatmulOp op) {
  if (mostBytes == 0 || !hasManySequences(op))
    return std::nullopt;
  Operation *dispatch = dispatchOf(op);
  AttentionPartsOp before, after;
  for (Operation &other : *dispatch->getBlock())
    other.walk([&](AttentionPartsOp attention) {
      bool isBefore = dispatchOf(attention)->isBeforeInBlock(dispatch);
      if (isBefore)
        before = attention;
      else if (!after)
        after = attention;
    });
  AttentionPartsOp attention = after ? after : before;
  KvAtOp cache = attention ? cacheOf(attention) : KvAtOp();
  // Behind a window the cache begins somewhere else.
  if (!cache || attention.getWindow() || !DominanceInfo().properlyDominates(cache.getOffsetBytes(), dispatch))
    return std::nullopt;
  return Place{attention, cache, !after};
}

void CacheFetch::emitNext(KernelBuilder &k, QMatmulOp op, int64_t numBlocks, TileOperands &tile) {
  std::optional<Place> place = placeFor(op);
  if (!place)
    return;
  int64_t layerBytes = cast<KvType>(place->attention.getKv().getType()).blockBytes();
  int64_t blockBytes = place->cache.getBlockBytes();
  Value offset = place->cache.getOffsetBytes();
  if (place->isOfNextLayer)
    offset = k.add(offset, llvm::alignTo(layerBytes, kLineBytes));
  tile.fetchedLines = std::min(int64_t(llvm::divideCeil(layerBytes, numBlocks * kLineBytes)), kMostLines);
  int64_t callBytes = tile.fetchedLines * numBlocks * kLineBytes;
  Value sequence = get(k, op, kSequence), left = get(k, op, kLeft);
  Value isLeft =
      arith::AndIOp::create(k.b, k.loc, k.less(sequence, get(k, op, kEnd)), k.less(k.index(0), left));
  isLeft =
      arith::AndIOp::create(k.b, k.loc, isLeft, k.less(offset, k.index(blockBytes))); // there is a next layer
  SmallVector<Value> found = k.when(isLeft, ValueRange{tile.x, k.index(0)}, [&]() -> SmallVector<Value> {
    Value block = get(k, op, kBlock), byte = get(k, op, kByte);
    Value stride = k.stepInteger(offsetof(girih_step_args, block_table_stride));
    Value id = stepInt(k, offsetof(girih_step_args, block_tables), k.add(k.mul(sequence, stride), block));
    Value inPool = k.add(k.add(k.mul(id, blockBytes), offset), byte);
    Value bytes = k.minOf(k.index(callBytes), k.sub(k.index(layerBytes), byte));
    Value last = k.maxOf(k.sub(bytes, k.index(tile.fetchedLines * kLineBytes)), k.index(0));
    advance(k, op, {sequence, block, k.add(byte, callBytes), layerBytes});
    set(k, op, kLeft, k.sub(left, k.index(callBytes)));
    return {k.at(k.stepPointer(offsetof(girih_step_args, kv_pool)), inPool), last};
  });
  tile.fetched = found[0];
  tile.lastFetched = found[1];
}

void CacheFetch::advance(KernelBuilder &k, Operation *op, const Progress &progress) {
  Value isWhole = k.less(k.index(progress.layerBytes - 1), progress.byte);
  Value block = k.add(progress.block, k.select(isWhole, k.index(1), k.index(0)));
  Value length = stepInt(k, offsetof(girih_step_args, context_lengths), progress.sequence);
  Value isSame = k.less(block, k.div(k.add(length, kPositions - 1), kPositions));
  set(k, op, kSequence, k.add(progress.sequence, k.select(isSame, k.index(0), k.index(1))));
  set(k, op, kBlock, k.select(isSame, block, k.index(0)));
  set(k, op, kByte, k.select(isWhole, k.index(0), progress.byte));
}

} // namespace girih::cpu
