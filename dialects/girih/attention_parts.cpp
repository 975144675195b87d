// SPDX-License-Identifier: Apache-2.0
// Attention in parts: tiling, verifiers and effects of attention_parts and join_parts.
#include "dialects/girih/destination.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <array>

using namespace mlir;
using namespace girih::dialect;

namespace {

SmallVector<utils::IteratorType> parallel(unsigned rank) {
  return SmallVector<utils::IteratorType>(rank, utils::IteratorType::parallel);
}

tensor::ExtractSliceOp sliceOf(OpBuilder &b, Location loc, Value source, ArrayRef<OpFoldResult> offsets,
                               ArrayRef<OpFoldResult> sizes) {
  SmallVector<OpFoldResult> strides(offsets.size(), b.getIndexAttr(1));
  return tensor::ExtractSliceOp::create(b, loc, source, offsets, sizes, strides);
}

OpFoldResult apply(OpBuilder &b, Location loc, AffineExpr expr, OpFoldResult value) {
  return affine::makeComposedFoldedAffineApply(b, loc, AffineMap::get(1, 0, expr), {value});
}

// base + offset as an index value; base may be absent.
Value shifted(OpBuilder &b, Location loc, Value base, OpFoldResult offset) {
  Value step = getValueOrCreateConstantIndexOp(b, loc, offset);
  return base ? arith::AddIOp::create(b, loc, base, step).getResult() : step;
}

Range wholeExtent(OpBuilder &b, OpFoldResult extent) { return {b.getIndexAttr(0), extent, b.getIndexAttr(1)}; }

}  // namespace

// ---- attention_parts: (T, chunks of the longest context, G): in a block of the cache heads are neighbours ----
SmallVector<utils::IteratorType> AttentionPartsOp::getLoopIteratorTypes() { return parallel(3); }

SmallVector<Range> AttentionPartsOp::getIterationDomain(OpBuilder &b) {
  Location loc = getLoc();
  int64_t chunk = getChunk(), most = cast<ShapedType>(getInit().getType()).getDimSize(2);
  Value longest = StepExtentOp::create(b, loc, b.getIndexType(), "longest_context");
  AffineExpr positions = b.getAffineDimExpr(0);
  AffineMap numChunks = AffineMap::get(1, 0, {positions.ceilDiv(chunk), b.getAffineConstantExpr(most)}, b.getContext());
  OpFoldResult chunks = affine::makeComposedFoldedAffineMin(b, loc, numChunks, {OpFoldResult(longest)});
  return {wholeExtent(b, tensor::getMixedSize(b, loc, getInit(), 0)),
          wholeExtent(b, chunks), wholeExtent(b, b.getIndexAttr(getKv().getType().getHeads()))};
}

FailureOr<TilingResult> AttentionPartsOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                                 ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  for (OpFoldResult size : sizes)
    if (!isOneInteger(size))
      return emitOpError("is tiled by single tokens, chunks and kv heads");
  auto q = cast<ShapedType>(getQ().getType());
  auto out = cast<ShapedType>(getInit().getType());
  int64_t headsPerGroup = q.getDimSize(1) / getKv().getType().getHeads();
  OpFoldResult one = b.getIndexAttr(1), zero = b.getIndexAttr(0), heads = b.getIndexAttr(headsPerGroup);
  OpFoldResult head = apply(b, loc, b.getAffineDimExpr(0) * headsPerGroup, offsets[2]);
  auto qTile = sliceOf(b, loc, getQ(), {offsets[0], head, zero}, {one, heads, b.getIndexAttr(q.getDimSize(2))});
  auto init = sliceOf(b, loc, getInit(), {offsets[0], head, offsets[1], zero},
                      {one, heads, one, b.getIndexAttr(out.getDimSize(3))});
  SmallVector<Value> first;
  for (auto [index, offset] : llvm::enumerate(std::array{offsets[0], offsets[2], offsets[1]}))
    first.push_back(shifted(b, loc, getOffsets().empty() ? Value() : getOffsets()[index], offset));
  auto tiled = AttentionPartsOp::create(b, loc, init.getType(), qTile, getKv(), first, init, getScaleAttr(),
                                        getWindowAttr(), getSoftCapAttr(), getChunkAttr());
  return TilingResult{{tiled}, SmallVector<Value>(tiled->getResults()), {qTile, init}};
}

LogicalResult AttentionPartsOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                      ArrayRef<OpFoldResult>, SmallVector<OpFoldResult> &resultOffsets,
                                                      SmallVector<OpFoldResult> &resultSizes) {
  int64_t headsPerGroup = cast<ShapedType>(getQ().getType()).getDimSize(1) / getKv().getType().getHeads();
  OpFoldResult head = apply(b, getLoc(), b.getAffineDimExpr(0) * headsPerGroup, offsets[2]);
  OpFoldResult one = b.getIndexAttr(1);
  resultOffsets = {offsets[0], head, offsets[1], b.getIndexAttr(0)};
  resultSizes = {one, b.getIndexAttr(headsPerGroup), one,
                 b.getIndexAttr(cast<ShapedType>(getInit().getType()).getDimSize(3))};
  return success();
}

FailureOr<TilingResult> AttentionPartsOp::generateResultTileValue(OpBuilder &, unsigned, ArrayRef<OpFoldResult>,
                                                                  ArrayRef<OpFoldResult>) {
  return emitOpError("is tiled by tokens, chunks and kv heads, not by a consumer's tile");
}

LogicalResult AttentionPartsOp::verify() {
  auto init = cast<ShapedType>(getInit().getType());
  int64_t wanted = partElements(getKv().getType().getValueDim());
  if (init.getDimSize(3) != wanted)
    return emitOpError("attention_parts_c1: a part of ") << getKv().getType().getValueDim() << " values has " << wanted
                                                         << " elements, init's have " << init.getDimSize(3);
  if (static_cast<int64_t>(getChunk()) <= 0 || getChunk() % 64 != 0)
    return emitOpError("chunk ") << getChunk() << " is no multiple of 64";
  if (!getOffsets().empty() && getOffsets().size() != 3)
    return emitOpError("has ") << getOffsets().size() << " offsets; a tile has three: its token, kv head and chunk";
  return verifyDestination(*this, getInit());
}

void AttentionPartsOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
  effects.emplace_back(MemoryEffects::Read::get());
}

// ---- join_parts: (T, H) ----
SmallVector<utils::IteratorType> JoinPartsOp::getLoopIteratorTypes() { return parallel(2); }

SmallVector<Range> JoinPartsOp::getIterationDomain(OpBuilder &b) {
  return {wholeExtent(b, tensor::getMixedSize(b, getLoc(), getInit(), 0)),
          wholeExtent(b, tensor::getMixedSize(b, getLoc(), getInit(), 1))};
}

FailureOr<TilingResult> JoinPartsOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                            ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  auto partsType = cast<ShapedType>(getParts().getType());
  OpFoldResult zero = b.getIndexAttr(0);
  auto parts = sliceOf(b, loc, getParts(), {offsets[0], offsets[1], zero, zero},
                       {sizes[0], sizes[1], b.getIndexAttr(partsType.getDimSize(2)),
                        b.getIndexAttr(partsType.getDimSize(3))});
  auto init = sliceOf(b, loc, getInit(), {offsets[0], offsets[1], zero},
                      {sizes[0], sizes[1], b.getIndexAttr(cast<ShapedType>(getInit().getType()).getDimSize(2))});
  auto tiled = JoinPartsOp::create(b, loc, init.getType(), parts, shifted(b, loc, getTokenOffset(), offsets[0]), init,
                                   getChunkAttr(), getWindowAttr());
  return TilingResult{{tiled}, SmallVector<Value>(tiled->getResults()), {parts, init}};
}

LogicalResult JoinPartsOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                 ArrayRef<OpFoldResult> sizes, SmallVector<OpFoldResult> &resultOffsets,
                                                 SmallVector<OpFoldResult> &resultSizes) {
  resultOffsets = {offsets[0], offsets[1], b.getIndexAttr(0)};
  resultSizes = {sizes[0], sizes[1], b.getIndexAttr(cast<ShapedType>(getInit().getType()).getDimSize(2))};
  return success();
}

FailureOr<TilingResult> JoinPartsOp::generateResultTileValue(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                             ArrayRef<OpFoldResult> sizes) {
  if (!isZeroInteger(offsets[2]))
    return emitOpError("values of a head are joined whole; a tile of part of a head was asked for");
  return getTiledImplementation(b, offsets.take_front(2), sizes.take_front(2));
}

LogicalResult JoinPartsOp::verify() {
  auto parts = cast<ShapedType>(getParts().getType()), init = cast<ShapedType>(getInit().getType());
  if (parts.getDimSize(3) != AttentionPartsOp::partElements(init.getDimSize(2)))
    return emitOpError("parts have ") << parts.getDimSize(3) << " elements, those of " << init.getDimSize(2)
                                      << " values have " << AttentionPartsOp::partElements(init.getDimSize(2));
  return verifyDestination(*this, getInit());
}

void JoinPartsOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
}
