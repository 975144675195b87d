// SPDX-License-Identifier: Apache-2.0
// Verifiers of dialect `girih`: each message carries the numbers; keys such as qmatmul_c1 are those of ops.td.
#include "dialects/girih/activation_block.h"
#include "dialects/girih/destination.h"
#include "dialects/girih/dialect.h"

using namespace mlir;
using namespace girih::dialect;

namespace {

// [N, K] of a stored, packed or plain matrix.
std::pair<int64_t, int64_t> matrixExtents(Type type) {
  if (auto packed = dyn_cast<PackedType>(type))
    return {packed.getColumns(), packed.getDepth()};
  auto shaped = cast<ShapedType>(type);
  return {shaped.getDimSize(0), shaped.getDimSize(1)};
}

bool differ(int64_t a, int64_t b) { return !ShapedType::isDynamic(a) && !ShapedType::isDynamic(b) && a != b; }

}  // namespace

LogicalResult girih::dialect::verifyDestination(Operation *op, Value init) {
  if (isa<MemRefType>(init.getType()))
    return op->getNumResults() == 0 ? success() : op->emitOpError("on memrefs has a result; buffers are written in place");
  if (op->getNumResults() != 1 || op->getResult(0).getType() != init.getType())
    return op->emitOpError("on tensors needs one result of its init's type ") << init.getType();
  return success();
}

void girih::dialect::addBufferEffects(Operation *op, Value init,
                                      SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    if (operand.get() == init)
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  }
}

LogicalResult WeightOp::verify() {
  if (storageFormat(getType()).empty())
    return emitOpError("result type ") << getType() << " has no storage; a weight's type carries #girih.storage<...>";
  return success();
}

LogicalResult ConcatRowsOp::verify() {
  auto result = cast<RankedTensorType>(getType());
  int64_t numRows = 0;
  for (Type type : getParts().getTypes()) {
    auto part = cast<RankedTensorType>(type);
    if (part.getRank() != 2 || result.getRank() != 2 || part.getDimSize(1) != result.getDimSize(1))
      return emitOpError("concat_rows_c1: operand ") << part << " and result " << result << " differ in K";
    if (part.getEncoding() != result.getEncoding())
      return emitOpError("concat_rows_c2: operand ") << part << " and result " << result << " differ in storage";
    int64_t interleave = getInterleave();
    if (interleave < 0 || (interleave > 0 && (part.getDimSize(0) % interleave != 0 ||
                                              part.getDimSize(0) * int64_t(getParts().size()) != result.getDimSize(0))))
      return emitOpError("concat_rows_c3: operand has ")
             << part.getDimSize(0) << " rows; interleaved by " << interleave << " all need the same multiple of it";
    numRows += part.getDimSize(0);
  }
  if (numRows != result.getDimSize(0))
    return emitOpError("operands have ") << numRows << " rows, result has " << result.getDimSize(0);
  return success();
}

LogicalResult PackOp::verify() {
  auto [columns, depth] = matrixExtents(getSource().getType());
  if (columns != getType().getColumns() || depth != getType().getDepth())
    return emitOpError("source is ") << columns << "x" << depth << ", result is " << getType().getColumns() << "x"
                                     << getType().getDepth();
  return success();
}

LogicalResult QuantizeRowsOp::verify() {
  auto x = cast<ShapedType>(getX().getType());
  auto init = cast<ShapedType>(getInit().getType());
  if (!x.isDynamicDim(1) && !init.isDynamicDim(1) && !isActivationRow(init.getDimSize(1), x.getDimSize(1)))
    return emitOpError("quantize_rows_c1: x has ") << x.getDimSize(1) << " elements a row, init " << init.getDimSize(1)
                                                   << " bytes; 32 elements take 128 bytes";
  if (differ(x.getDimSize(0), init.getDimSize(0)))
    return emitOpError("x has ") << x.getDimSize(0) << " rows, init has " << init.getDimSize(0);
  return verifyDestination(*this, getInit());
}

LogicalResult QMatmulOp::verify() {
  auto x = cast<ShapedType>(getX().getType());
  auto init = cast<ShapedType>(getInit().getType());
  auto [columns, depth] = matrixExtents(getW().getType());
  bool isQuantized = x.getElementType().isInteger(8);
  if (isQuantized && !isa<PackedType>(getW().getType()))
    return emitOpError("qmatmul_c3: x is quantised, w is ") << getW().getType() << "; integer kernels read packed codes";
  if (isQuantized && !x.isDynamicDim(1) && !isActivationRow(x.getDimSize(1), depth))
    return emitOpError("qmatmul_c1: rows of x have ") << x.getDimSize(1) << " bytes, K = " << depth << " of w needs "
                                                      << activationRowBytes(depth);
  if (!isQuantized && differ(x.getDimSize(1), depth))
    return emitOpError("qmatmul_c1: contracting dims differ: x has ") << x.getDimSize(1) << ", w has " << depth;
  if (!getColumnOffset() && differ(init.getDimSize(1), columns))
    return emitOpError("qmatmul_c2: out has ") << init.getDimSize(1) << " columns, w has " << columns;
  return verifyDestination(*this, getInit());
}

LogicalResult GatherRowsOp::verify() {
  auto init = cast<ShapedType>(getInit().getType());
  auto [rows, depth] = matrixExtents(getSource().getType());
  if (differ(init.getDimSize(1), depth))
    return emitOpError("source rows have ") << depth << " elements, out rows have " << init.getDimSize(1);
  return verifyDestination(*this, getInit());
}

LogicalResult AttentionOp::verify() {
  auto q = cast<ShapedType>(getQ().getType());
  bool stateless = getKey() && getValue();
  if (stateless == bool(getKv()) || bool(getKey()) != bool(getValue()))
    return emitOpError("attention_c2: needs either keys and values or a cache");
  int64_t groups = stateless ? cast<ShapedType>(getKey().getType()).getDimSize(1) : getKv().getType().getHeads();
  int64_t keyDim = stateless ? cast<ShapedType>(getKey().getType()).getDimSize(2) : getKv().getType().getKeyDim();
  if (groups <= 0 || (getOffsets().empty() && !q.isDynamicDim(1) && q.getDimSize(1) % groups != 0))
    return emitOpError("attention_c1: ") << q.getDimSize(1) << " query heads are no multiple of " << groups << " kv heads";
  if (differ(q.getDimSize(2), keyDim))
    return emitOpError("attention_c3: q has head dim ") << q.getDimSize(2) << ", k has " << keyDim;
  if (!getOffsets().empty() && getOffsets().size() != 2)
    return emitOpError("has ") << getOffsets().size() << " offsets; a tile has two: its first token and kv head";
  Type element = getElementTypeOrSelf(getInit());
  if (!element.isF32() && (stateless || getOperandType() != element))
    return emitOpError("attention_c4: the result is ") << element << ", which is not f32 and not the operand_type of attention over a cache";
  return verifyDestination(*this, getInit());
}

LogicalResult KvAppendOp::verify() {
  auto key = cast<ShapedType>(getKey().getType());
  auto value = cast<ShapedType>(getValue().getType());
  KvType kv = getKv().getType();
  if (differ(key.getDimSize(1), kv.getHeads()) || differ(key.getDimSize(2), kv.getKeyDim()) ||
      differ(value.getDimSize(1), kv.getHeads()) || differ(value.getDimSize(2), kv.getValueDim()))
    return emitOpError("key ") << key << " or value " << value << " does not fit cache " << kv;
  return success();
}

void QuantizeRowsOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
}
void QMatmulOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
}
void GatherRowsOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
}
void AttentionOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, getInit(), effects);
  if (getKv())
    effects.emplace_back(MemoryEffects::Read::get());
}
void KvAppendOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  addBufferEffects(*this, Value(), effects);
  effects.emplace_back(MemoryEffects::Write::get());
}
