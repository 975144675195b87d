// SPDX-License-Identifier: Apache-2.0
// How a tile of each structured op is made: TilingInterface for quantize_rows, qmatmul, gather_rows and attention.
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace girih::dialect;

namespace {

Range wholeExtent(OpBuilder &b, Location loc, Value value, int64_t dimension) {
  return {b.getIndexAttr(0), tensor::getMixedSize(b, loc, value, dimension), b.getIndexAttr(1)};
}

tensor::ExtractSliceOp sliceOf(OpBuilder &b, Location loc, Value source, ArrayRef<OpFoldResult> offsets,
                               ArrayRef<OpFoldResult> sizes) {
  SmallVector<OpFoldResult> strides(offsets.size(), b.getIndexAttr(1));
  return tensor::ExtractSliceOp::create(b, loc, source, offsets, sizes, strides);
}

OpFoldResult scaled(OpBuilder &b, Location loc, OpFoldResult value, int64_t factor) {
  AffineExpr expr = b.getAffineDimExpr(0) * factor;
  return affine::makeComposedFoldedAffineApply(b, loc, AffineMap::get(1, 0, expr), {value});
}

// base + offset as an index value; base may be absent.
Value shifted(OpBuilder &b, Location loc, Value base, OpFoldResult offset) {
  Value step = getValueOrCreateConstantIndexOp(b, loc, offset);
  return base ? arith::AddIOp::create(b, loc, base, step).getResult() : step;
}

TilingResult tileOf(Operation *tiled, ArrayRef<Operation *> slices) {
  return {{tiled}, SmallVector<Value>(tiled->getResults()), llvm::to_vector(slices)};
}

SmallVector<utils::IteratorType> parallel(unsigned rank) {
  return SmallVector<utils::IteratorType>(rank, utils::IteratorType::parallel);
}

}  // namespace

// ---- quantize_rows: (T, K), K in whole blocks ----
SmallVector<utils::IteratorType> QuantizeRowsOp::getLoopIteratorTypes() { return parallel(2); }

SmallVector<Range> QuantizeRowsOp::getIterationDomain(OpBuilder &b) {
  return {wholeExtent(b, getLoc(), getX(), 0), wholeExtent(b, getLoc(), getX(), 1)};
}

// Bytes of `depth` elements, of which only the last tile of a row may be no multiple of 32.
static OpFoldResult blockBytes(OpBuilder &b, Location loc, OpFoldResult depth) {
  AffineExpr expr = b.getAffineDimExpr(0).ceilDiv(kActivationDepth) * kActivationBytes;
  return affine::makeComposedFoldedAffineApply(b, loc, AffineMap::get(1, 0, expr), {depth});
}

FailureOr<TilingResult> QuantizeRowsOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                               ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  std::optional<int64_t> depth = getConstantIntValue(sizes[1]);
  bool isWhole = isZeroInteger(offsets[1]) && depth == cast<ShapedType>(getX().getType()).getDimSize(1);
  if (!isWhole && depth && *depth % kActivationDepth != 0)
    return emitOpError("is cut into tiles of ") << *depth << " elements; a block of codes has " << kActivationDepth;
  auto x = sliceOf(b, loc, getX(), offsets, sizes);
  auto init = sliceOf(b, loc, getInit(), {offsets[0], blockBytes(b, loc, offsets[1])},
                      {sizes[0], blockBytes(b, loc, sizes[1])});
  auto tiled = QuantizeRowsOp::create(b, loc, init.getType(), x, init, getBothDigitsAttr());
  return tileOf(tiled, {x, init});
}

LogicalResult QuantizeRowsOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                    ArrayRef<OpFoldResult> sizes,
                                                    SmallVector<OpFoldResult> &resultOffsets,
                                                    SmallVector<OpFoldResult> &resultSizes) {
  resultOffsets = {offsets[0], blockBytes(b, getLoc(), offsets[1])};
  resultSizes = {sizes[0], blockBytes(b, getLoc(), sizes[1])};
  return success();
}

// A consumer asks for whole rows: a matmul reads all of K.
FailureOr<TilingResult> QuantizeRowsOp::generateResultTileValue(OpBuilder &b, unsigned,
                                                                ArrayRef<OpFoldResult> offsets,
                                                                ArrayRef<OpFoldResult> sizes) {
  std::optional<int64_t> bytes = getConstantIntValue(sizes[1]);
  if (!isZeroInteger(offsets[1]) || !bytes || *bytes != cast<ShapedType>(getInit().getType()).getDimSize(1))
    return emitOpError("gives whole rows to a consumer's tile; part of a row was asked for");
  return getTiledImplementation(b, {offsets[0], b.getIndexAttr(0)},
                                {sizes[0], tensor::getMixedSize(b, getLoc(), getX(), 1)});
}

// ---- qmatmul: (T, N) ----
SmallVector<utils::IteratorType> QMatmulOp::getLoopIteratorTypes() { return parallel(2); }

SmallVector<Range> QMatmulOp::getIterationDomain(OpBuilder &b) {
  return {wholeExtent(b, getLoc(), getInit(), 0), wholeExtent(b, getLoc(), getInit(), 1)};
}

FailureOr<TilingResult> QMatmulOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                          ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  OpFoldResult depth = tensor::getMixedSize(b, loc, getX(), 1);
  auto x = sliceOf(b, loc, getX(), {offsets[0], b.getIndexAttr(0)}, {sizes[0], depth});
  auto init = sliceOf(b, loc, getInit(), offsets, sizes);
  auto tiled = QMatmulOp::create(b, loc, init.getType(), x, getW(), shifted(b, loc, getColumnOffset(), offsets[1]),
                                 init, getStrategyAttr(), getRowTileAttr(), getColumnTileAttr(), getKTileAttr());
  tiled->setDiscardableAttrs((*this)->getDiscardableAttrDictionary());
  return tileOf(tiled, {x, init});
}

LogicalResult QMatmulOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                               ArrayRef<OpFoldResult> sizes, SmallVector<OpFoldResult> &resultOffsets,
                                               SmallVector<OpFoldResult> &resultSizes) {
  resultOffsets.assign(offsets.begin(), offsets.end());
  resultSizes.assign(sizes.begin(), sizes.end());
  return success();
}

FailureOr<TilingResult> QMatmulOp::generateResultTileValue(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                           ArrayRef<OpFoldResult> sizes) {
  return getTiledImplementation(b, offsets, sizes);
}

// ---- gather_rows: (T); rows are taken whole ----
SmallVector<utils::IteratorType> GatherRowsOp::getLoopIteratorTypes() { return parallel(1); }

SmallVector<Range> GatherRowsOp::getIterationDomain(OpBuilder &b) { return {wholeExtent(b, getLoc(), getInit(), 0)}; }

FailureOr<TilingResult> GatherRowsOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                             ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  auto indices = sliceOf(b, loc, getIndices(), {offsets[0]}, {sizes[0]});
  auto init = sliceOf(b, loc, getInit(), {offsets[0], b.getIndexAttr(0)},
                      {sizes[0], tensor::getMixedSize(b, loc, getInit(), 1)});
  auto tiled = GatherRowsOp::create(b, loc, init.getType(), indices, getSource(), init);
  return tileOf(tiled, {indices, init});
}

LogicalResult GatherRowsOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                  ArrayRef<OpFoldResult> sizes,
                                                  SmallVector<OpFoldResult> &resultOffsets,
                                                  SmallVector<OpFoldResult> &resultSizes) {
  resultOffsets = {offsets[0], b.getIndexAttr(0)};
  resultSizes = {sizes[0], tensor::getMixedSize(b, getLoc(), getInit(), 1)};
  return success();
}

FailureOr<TilingResult> GatherRowsOp::generateResultTileValue(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                              ArrayRef<OpFoldResult> sizes) {
  std::optional<int64_t> columns = getConstantIntValue(sizes[1]);
  if (!isZeroInteger(offsets[1]) || !columns || *columns != cast<ShapedType>(getInit().getType()).getDimSize(1))
    return emitOpError("rows are gathered whole; a tile of part of a row was asked for");
  return getTiledImplementation(b, offsets.take_front(), sizes.take_front());
}

// ---- attention: (T, G); all query heads of a kv head stay together ----
static int64_t numKvHeads(AttentionOp op) {
  return op.getKv() ? op.getKv().getType().getHeads() : cast<ShapedType>(op.getKey().getType()).getDimSize(1);
}

SmallVector<utils::IteratorType> AttentionOp::getLoopIteratorTypes() { return parallel(2); }

SmallVector<Range> AttentionOp::getIterationDomain(OpBuilder &b) {
  int64_t groups = numKvHeads(*this);
  return {wholeExtent(b, getLoc(), getInit(), 0), {b.getIndexAttr(0), b.getIndexAttr(groups), b.getIndexAttr(1)}};
}

FailureOr<TilingResult> AttentionOp::getTiledImplementation(OpBuilder &b, ArrayRef<OpFoldResult> offsets,
                                                            ArrayRef<OpFoldResult> sizes) {
  Location loc = getLoc();
  auto q = cast<ShapedType>(getQ().getType());
  auto out = cast<ShapedType>(getInit().getType());
  int64_t headsPerGroup = q.getDimSize(1) / numKvHeads(*this);
  OpFoldResult head = scaled(b, loc, offsets[1], headsPerGroup);
  OpFoldResult heads = scaled(b, loc, sizes[1], headsPerGroup);
  auto qTile = sliceOf(b, loc, getQ(), {offsets[0], head, b.getIndexAttr(0)},
                       {sizes[0], heads, b.getIndexAttr(q.getDimSize(2))});
  auto init = sliceOf(b, loc, getInit(), {offsets[0], head, b.getIndexAttr(0)},
                      {sizes[0], heads, b.getIndexAttr(out.getDimSize(2))});
  Value tokenBase = getOffsets().empty() ? Value() : getOffsets()[0];
  Value headBase = getOffsets().empty() ? Value() : getOffsets()[1];
  Value first[] = {shifted(b, loc, tokenBase, offsets[0]), shifted(b, loc, headBase, offsets[1])};
  auto tiled = AttentionOp::create(b, loc, init.getType(), qTile, getKey(), getValue(), getKv(), first, init,
                                   getScaleAttr(), getWindowAttr(), getSoftCapAttr(), getQueryTileAttr(),
                                   getChunkAttr(), getOperandTypeAttr());
  return tileOf(tiled, {qTile, init});
}

LogicalResult AttentionOp::getResultTilePosition(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                 ArrayRef<OpFoldResult> sizes,
                                                 SmallVector<OpFoldResult> &resultOffsets,
                                                 SmallVector<OpFoldResult> &resultSizes) {
  auto out = cast<ShapedType>(getInit().getType());
  int64_t headsPerGroup = cast<ShapedType>(getQ().getType()).getDimSize(1) / numKvHeads(*this);
  resultOffsets = {offsets[0], scaled(b, getLoc(), offsets[1], headsPerGroup), b.getIndexAttr(0)};
  resultSizes = {sizes[0], scaled(b, getLoc(), sizes[1], headsPerGroup), b.getIndexAttr(out.getDimSize(2))};
  return success();
}

FailureOr<TilingResult> AttentionOp::generateResultTileValue(OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
                                                             ArrayRef<OpFoldResult> sizes) {
  return emitOpError("is tiled by tokens and kv heads, not by a consumer's tile");
}
