// SPDX-License-Identifier: Apache-2.0
// AttentionRows: implementation.
#include "backends/cpu/codegen/microkernels/attention_rows.h"

#include "runtime/abi/step.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cstddef>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
static_assert(kPositions == kLanes, "one vector holds the scores of one KV block");

}  // namespace

int64_t AttentionShape::keyBytes() const { return keyDim() * kPositions * elementBytes(); }

Value tailMask(KernelBuilder &k, int64_t vector, int64_t extent) {
  int64_t left = extent - vector * kLanes;
  return left >= kLanes ? Value() : k.maskOf(k.index(left));
}

void storeResult(KernelBuilder &k, Value value, Value out, Type element, int64_t vector, int64_t valueDim) {
  if (!element.isF32())
    value = arith::TruncFOp::create(k.b, k.loc, Type(k.lanes(element)), value);
  Value target = k.at(out, vector * kLanes * element.getIntOrFloatBitWidth() / 8), mask = tailMask(k, vector, valueDim);
  mask ? k.storeMasked(value, target, mask) : k.store(value, target);
}

void storeQuotient(KernelBuilder &k, Value out, Type element, int64_t valueDim, Value sums,
                   llvm::function_ref<Value(int64_t)> valueOf) {
  Value total = k.splat(k.reduceTree(sums, [&](Value x, Value y) { return k.addf(x, y); }));
  for (int64_t vector = 0; vector * kLanes < valueDim; ++vector) {
    Value value = arith::DivFOp::create(k.b, k.loc, valueOf(vector), total);
    storeResult(k, value, out, element, vector, valueDim);
  }
}

Value firstSeen(KernelBuilder &k, Value position, std::optional<int64_t> window) {
  return window ? k.maxOf(k.sub(position, k.index(*window - 1)), k.index(0)) : k.index(0);
}

AttentionRows::AttentionRows(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands,
                             int64_t maxRows)
    : k(k), shape(shape), operands(operands), numVectors(llvm::divideCeil(shape.valueDim(), kLanes)),
      maxRows(maxRows) {}

// ---- The frame ----
int64_t AttentionRows::section(int64_t bytes) {
  int64_t offset = frameSize;
  frameSize += llvm::alignTo(bytes, kVectorBytes);
  return offset;
}

Value AttentionRows::slot(int64_t section, Value row, int64_t rowBytes) {
  return k.at(k.at(frame, k.mul(row, rowBytes)), section);
}

// ---- Rows ----
Value AttentionRows::rowAddress(Value base, Value tokenStride, Value headStride, const Rows &rows, Value row) {
  Value token = k.add(rows.token, k.div(row, shape.headsPerGroup));
  Value head = k.add(k.mul(rows.group, shape.headsPerGroup), k.rem(row, k.index(shape.headsPerGroup)));
  return k.at(k.at(base, k.mul(token, tokenStride)), k.mul(head, headStride));
}

Value AttentionRows::queryAddress(const Rows &rows, Value row) {
  return rowAddress(operands.q, operands.qTokenStride, operands.qHeadStride, rows, row);
}

Value AttentionRows::outAddress(const Rows &rows, Value row) {
  return rowAddress(operands.out, operands.outTokenStride, operands.outHeadStride, rows, row);
}

Value AttentionRows::stepInt(size_t field, Value number) {
  return k.toIndex(k.load(k.b.getI32Type(), k.at(k.stepPointer(field), k.mul(number, 4))));
}

Value AttentionRows::positionOf(const Rows &rows, Value token) {
  return stepInt(offsetof(girih_step_args, positions), k.add(k.add(operands.firstToken, rows.token), token));
}

AttentionRows::Rows AttentionRows::rowsOf(Value numTokens, Value token, Value group, Value cacheGroup) {
  Rows rows;
  rows.numTokens = numTokens;
  rows.count = k.mul(numTokens, shape.headsPerGroup);
  rows.token = token;
  rows.group = group;
  rows.cacheGroup = cacheGroup;
  Value first = k.add(operands.firstToken, token);
  Value sequence = stepInt(offsetof(girih_step_args, token_sequences), first);
  Value firstPosition = stepInt(offsetof(girih_step_args, positions), first);
  Value lastPosition = stepInt(offsetof(girih_step_args, positions), k.add(first, k.sub(numTokens, k.index(1))));
  Value stride = k.stepInteger(offsetof(girih_step_args, block_table_stride));
  rows.table = k.at(k.stepPointer(offsetof(girih_step_args, block_tables)), k.mul(k.mul(sequence, stride), 4));
  rows.firstBlock = k.div(firstSeen(k, firstPosition, shape.window), kPositions);
  rows.endPosition = k.add(lastPosition, 1);
  rows.endBlock = k.add(k.div(lastPosition, kPositions), 1);
  return rows;
}

// ---- The cache ----
Value AttentionRows::seenLanes(Value own, Value block) {
  Type i32 = k.b.getI32Type();
  Value past = k.sub(own, k.mul(block, kPositions));  // lanes up to this one are not in the future
  Value isSeen = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::sle, k.laneNumbers(),
                                       k.splat(k.toInteger(past, i32)));
  if (!shape.window)
    return isSeen;
  Value before = k.splat(k.toInteger(k.sub(past, k.index(*shape.window)), i32));
  Value isNear = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::sgt, k.laneNumbers(), before);
  return arith::AndIOp::create(k.b, k.loc, isSeen, isNear);
}

Value AttentionRows::blockAddress(const Rows &rows, Value number) {
  // Past the end the last block stands in: it is read again, and masked.
  Value within = k.minOf(number, k.sub(rows.endBlock, k.index(1)));
  Value block = k.toIndex(k.load(k.b.getI32Type(), k.at(rows.table, k.mul(within, 4))));
  return k.at(operands.cache, k.mul(block, shape.blockBytes));
}

Value AttentionRows::loadCache(Value pointer, Value mask) {
  VectorType stored = k.lanes(shape.kv.getElement());
  Value loaded = mask ? k.loadMasked(stored, pointer, mask) : k.load(stored, pointer);
  if (shape.kv.hasScales())
    return arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(),
                                   arith::ExtSIOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), loaded));
  return shape.kv.getElement().isF32() ? loaded : arith::ExtFOp::create(k.b, k.loc, k.lanesF32(), loaded).getResult();
}

Value AttentionRows::scalesAddress(const Rows &rows, Value block, bool ofValues) {
  int64_t first = shape.kv.scalesOffset() + (ofValues ? shape.kv.getHeads() * kVectorBytes : 0);
  return k.at(k.at(blockAddress(rows, block), first), k.mul(rows.cacheGroup, kVectorBytes));
}

Value AttentionRows::scalesOf(const Rows &rows, Value block, bool ofValues) {
  return k.load(k.lanesF32(), scalesAddress(rows, block, ofValues));
}

}  // namespace girih::cpu
