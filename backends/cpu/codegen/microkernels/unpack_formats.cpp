// SPDX-License-Identifier: Apache-2.0
// How each code type of the packed layouts becomes f32.
#include "backends/cpu/codegen/microkernels/unpack_formats.h"

#include "backends/cpu/codegen/microkernels/nibble_codes.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

// Bits shift .. shift+width-1 of each element, zero- or sign-extended. Both forms cost a shift and one more.
Value bitField(KernelBuilder &k, Value word, int64_t shift, int64_t width, bool isSigned) {
  Type type = word.getType();
  int64_t numBits = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
  if (isSigned) {
    if (shift + width != numBits)
      word = arith::ShLIOp::create(k.b, k.loc, word, k.integer(type, numBits - shift - width));
    return arith::ShRSIOp::create(k.b, k.loc, word, k.integer(type, numBits - width));
  }
  if (shift != 0)
    word = arith::ShRUIOp::create(k.b, k.loc, word, k.integer(type, shift));
  if (shift + width == numBits)
    return word;
  return arith::AndIOp::create(k.b, k.loc, word, k.integer(type, (int64_t{1} << width) - 1));
}

Type shapedLike(Type like, Type element) {
  auto vector = dyn_cast<VectorType>(like);
  return vector ? Type(vector.cloneWith(std::nullopt, element)) : element;
}

// code - offset as f32: an unsigned code of 8 bits less an offset is exact in i32 and in f32.
Value toFloat(KernelBuilder &k, Value code, int32_t offset) {
  if (offset != 0)
    code = arith::SubIOp::create(k.b, k.loc, code, k.integer(code.getType(), offset));
  return arith::SIToFPOp::create(k.b, k.loc, shapedLike(code.getType(), k.b.getF32Type()), code);
}

// f32 of the bits of f16, bf16 or f32; exact. Lanes: 16 or a scalar.
Value floatOf(KernelBuilder &k, CodeType codes, Value bits) {
  OpBuilder &b = k.b;
  auto typed = [&](Type element) { return shapedLike(bits.getType(), element); };
  if (codes == CodeType::F32)
    return arith::BitcastOp::create(b, k.loc, typed(b.getF32Type()), bits);
  if (codes == CodeType::F16) {
    Value halves = arith::BitcastOp::create(b, k.loc, typed(b.getF16Type()), bits);
    return arith::ExtFOp::create(b, k.loc, typed(b.getF32Type()), halves);
  }
  Value wide = arith::ExtUIOp::create(b, k.loc, typed(b.getI32Type()), bits);
  wide = arith::ShLIOp::create(b, k.loc, wide, k.integer(wide.getType(), 16));
  return arith::BitcastOp::create(b, k.loc, typed(b.getF32Type()), wide);
}

// The same of what lies at `pointer`.
Value loadFloat(KernelBuilder &k, CodeType codes, Value pointer, bool isVector) {
  Type bits = codes == CodeType::F32 ? k.b.getI32Type() : k.b.getI16Type();
  return floatOf(k, codes, k.load(isVector ? Type(k.lanes(bits)) : bits, pointer));
}

// f32 of 2^(byte - 128). The first two are denormal: 2^21 and 2^22 in the fraction, the larger of the two integers only there.
Value powerOf(KernelBuilder &k, Value exponents) {
  Type type = exponents.getType();
  auto shifted = [&](Value value, int64_t bits) { return arith::ShLIOp::create(k.b, k.loc, value, k.integer(type, bits)); };
  Value normal = arith::SubIOp::create(k.b, k.loc, shifted(exponents, 23), k.integer(type, 1 << 23));
  Value odd = arith::AndIOp::create(k.b, k.loc, exponents, k.integer(type, 1));
  Value denormal = arith::AddIOp::create(k.b, k.loc, shifted(odd, 21), k.integer(type, 1 << 21));
  Value bits = arith::MaxSIOp::create(k.b, k.loc, normal, denormal);
  return arith::BitcastOp::create(k.b, k.loc, shapedLike(type, k.b.getF32Type()), bits);
}

// Scales or mins, of which `shared` says where the f16 is that groups share.
Value loadFactors(KernelBuilder &k, ScaleType type, Value own, Value shared, bool isVector) {
  if (type == ScaleType::F16)
    return loadFloat(k, CodeType::F16, own, isVector);
  auto shaped = [&](Type element) { return isVector ? Type(k.lanes(element)) : element; };
  Value bytes = k.load(shaped(k.b.getI8Type()), own);
  Type words = shaped(k.b.getI32Type());
  if (type == ScaleType::E8M0)
    return powerOf(k, arith::ExtUIOp::create(k.b, k.loc, words, bytes));
  Value numbers = toFloat(k, arith::ExtSIOp::create(k.b, k.loc, words, bytes), 0);
  return k.mulf(loadFloat(k, CodeType::F16, shared, isVector), numbers);
}

}  // namespace

PanelBlock::PanelBlock(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa, Value block)
    : PanelBlock(k, layout, isa, block, block, Value(), block, block) {}

PanelBlock::PanelBlock(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa, Value codes, Value block,
                       Value highShift, Value scales, Value mins)
    : k(k), layout(layout), isa(isa), codesAt(codes), blockAt(block), highShift(highShift), scalesAt(scales), minsAt(mins) {}

Value PanelBlock::weights(int64_t depth) {
  if (layout.hasFloatCodes())
    return floatCodes(depth);
  int64_t group = depth / layout.groupSize;
  if (group != currentGroup) {
    currentGroup = group;
    scale = loadFactors(k, layout.scales, k.at(scalesAt, layout.scaleOffsetBytes(0, depth)),
                        k.at(blockAt, layout.scaleHalfOffsetBytes(0)), /*isVector=*/true);
    if (layout.mins != ScaleType::None)
      min = loadFactors(k, layout.mins, k.at(minsAt, layout.minOffsetBytes(0, depth)),
                        k.at(blockAt, layout.minHalfOffsetBytes(0)), /*isVector=*/true);
  }
  // scale * code is exact, so the fused form rounds as the two operations would.
  Value code = codes(depth);
  return min ? k.fma(scale, code, min) : k.mulf(scale, code);
}

Value loadScales(KernelBuilder &k, const PackedLayout &layout, Value block, int64_t depth) {
  return loadFactors(k, layout.scales, k.at(block, layout.scaleOffsetBytes(0, depth)),
                     k.at(block, layout.scaleHalfOffsetBytes(0)), /*isVector=*/true);
}

Value loadMins(KernelBuilder &k, const PackedLayout &layout, Value block, int64_t depth) {
  return loadFactors(k, layout.mins, k.at(block, layout.minOffsetBytes(0, depth)),
                     k.at(block, layout.minHalfOffsetBytes(0)), /*isVector=*/true);
}

Value PanelBlock::codes(int64_t depth) {
  bool isNumber = layout.hasNibbles() && layout.highBits() == 0; // the nibble says all
  if (isNumber && isa.hasLaneTable)
    return lookedUpCodes(depth);
  if (layout.codes == CodeType::U4)
    return toFloat(k, bitField(k, line(depth), 8 * (depth % 4) + layout.codeShift(depth), 4, /*isSigned=*/false),
                   layout.codeOffset);
  return byteCodes(depth);
}

Value PanelBlock::floatCodes(int64_t depth) {
  if (layout.codes == CodeType::BF16) { // the upper halves of f32
    Value pairs = line(depth),
          words =
              depth % 2
                  ? Value(arith::AndIOp::create(k.b, k.loc, pairs, k.integer(pairs.getType(), 0xffff0000)))
                  : arith::ShLIOp::create(k.b, k.loc, pairs, k.integer(pairs.getType(), 16));
    return arith::BitcastOp::create(k.b, k.loc, k.lanesF32(), words);
  }
  return loadFloat(k, layout.codes, k.at(codesAt, layout.codeOffsetBytes(0, depth)), /*isVector=*/true);
}

// The 64 bytes with the codes of 16 columns for the k around `depth`: 2 of bf16, 4 of integers.
Value PanelBlock::line(int64_t depth) {
  int64_t offset = layout.codeOffsetBytes(0, depth) / 64 * 64;
  if (offset != currentLine) {
    currentLine = offset;
    currentLineValue = k.load(k.lanes(k.b.getI32Type()), k.at(codesAt, offset));
  }
  return currentLineValue;
}

// A lookup uses the low 4 bits of each lane only: it replaces the mask, the subtraction and the conversion.
Value PanelBlock::lookedUpCodes(int64_t depth) {
  Value word = line(depth);
  int64_t shift = 8 * (depth % 4) + layout.codeShift(depth);
  if (!codeTable) {
    SmallVector<float> entries(kLanes);
    for (int64_t code = 0; code < kLanes; ++code)
      entries[code] = static_cast<float>(layout.codeNumber(uint32_t(code)));
    codeTable = arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(k.lanesF32(), ArrayRef<float>(entries)));
  }
  if (shift != 0)
    word = arith::ShRUIOp::create(k.b, k.loc, word, k.integer(word.getType(), shift));
  auto lookup = LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(k.lanesF32()),
                                              k.b.getStringAttr("llvm.x86.avx512.permvar.sf.512"),
                                              ValueRange{codeTable, word});
  return lookup.getResult(0);
}

Value PanelBlock::byteCodes(int64_t depth) {
  bool isNibble = layout.hasNibbles(), isSigned = isNibble || layout.codes == CodeType::S8;
  Value word = isNibble ? nibbleWords(depth) : line(depth);
  return toFloat(k, bitField(k, word, 8 * (depth % 4), 8, isSigned), isNibble ? 0 : layout.codeOffset);
}

// Signed bytes of the 4 k around `depth`, less their offset: what is done here is done once for four.
Value PanelBlock::nibbleWords(int64_t depth) {
  int64_t step = depth / 4;
  if (step == currentStep)
    return currentBytes;
  currentStep = step;
  int64_t high = layout.highOffsetBytes(0, depth) / 64 * 64;
  if (layout.highBits() && high != currentHigh) {
    currentHigh = high;
    currentHighValue = k.load(k.lanes(k.b.getI32Type()), k.at(blockAt, high));
    if (highShift)
      currentHighValue = arith::ShRUIOp::create(k.b, k.loc, currentHighValue,
                                                k.splat(k.toInteger(highShift, k.b.getI32Type())));
  }
  currentBytes =
      nibbleBytes(k, layout, isa, {line(depth), currentHighValue}, k.index(step), -layout.codeOffset);
  return currentBytes;
}

// Codes of a byte lie in fours, a float's one by one: so many pieces make 16.
static Value columnPieces(KernelBuilder &k, const PackedLayout &layout, Value codes, int64_t depth) {
  OpBuilder &b = k.b;
  auto offset = [&](int64_t step) { return layout.codeOffsetBytes(0, depth + step); };
  int64_t codesOfPiece = layout.hasFloatCodes() ? 1 : 4, bytes = codesOfPiece * codeTypeBytes(layout.codes);
  VectorType pieces = VectorType::get(kLanes / codesOfPiece, b.getIntegerType(unsigned(bytes) * 8));
  Value vector = LLVM::PoisonOp::create(b, k.loc, pieces);
  for (int64_t piece = 0; piece < pieces.getNumElements(); ++piece) {
    Value word = LLVM::LoadOp::create(b, k.loc, pieces.getElementType(), k.at(codes, offset(piece * codesOfPiece)), 1);
    vector = vector::InsertOp::create(b, k.loc, word, vector, piece);
  }
  return vector;
}

// What 16 k of a column have above their nibbles, from bit 4 on. Four k share a byte's place in their lines.
static Value columnHighBits(KernelBuilder &k, const PackedLayout &layout, Value column, int64_t depth) {
  VectorType words = k.lanes(k.b.getI32Type());
  Value word = k.splat(k.load(k.b.getI32Type(), k.at(column, layout.highOffsetBytes(0, depth))));
  SmallVector<int32_t> shifts;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    shifts.push_back(int32_t(lane % 4 * 8) + layout.highShift(depth + lane));
  Value each = arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(words, ArrayRef<int32_t>(shifts)));
  Value bits = bitField(k, arith::ShRUIOp::create(k.b, k.loc, word, each), 0, layout.highBits(), /*isSigned=*/false);
  return arith::ShLIOp::create(k.b, k.loc, bits, k.integer(words, 4));
}

Value columnWeights(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa, Value block, Value column,
                    int64_t depth) {
  OpBuilder &b = k.b;
  auto inColumn = [&](int64_t first, int64_t stride) { return k.at(k.at(block, k.mul(column, stride)), first); };
  int64_t codeStride = layout.codeOffsetBytes(1, depth) - layout.codeOffsetBytes(0, depth);
  Value codes = inColumn(0, codeStride), pieces = columnPieces(k, layout, codes, depth);
  if (layout.hasFloatCodes())
    return floatOf(k, layout.codes, pieces);
  Value bytes = vector::BitCastOp::create(b, k.loc, k.lanes(b.getI8Type()), pieces);
  std::span<const int8_t> table = layout.codeValues();
  if (layout.hasNibbles())
    bytes = bitField(k, bytes, layout.codeShift(depth), 4, /*isSigned=*/false);
  if (!table.empty())
    bytes = lookUpBytes(k, isa, {table.data(), table.size()}, 0, bytes);
  bool isSigned = layout.codes == CodeType::S8 || !table.empty();
  Value words = isSigned ? arith::ExtSIOp::create(b, k.loc, k.lanes(b.getI32Type()), bytes).getResult()
                         : arith::ExtUIOp::create(b, k.loc, k.lanes(b.getI32Type()), bytes).getResult();
  if (layout.highBits())
    words = arith::OrIOp::create(b, k.loc, words, columnHighBits(k, layout, codes, depth));
  auto grouped = [&](ScaleType type, int64_t own, int64_t shared) {
    return k.splat(loadFactors(k, type, inColumn(own, scaleTypeBytes(type)), inColumn(shared, 2), /*isVector=*/false));
  };
  Value scale = grouped(layout.scales, layout.scaleOffsetBytes(0, depth), layout.scaleHalfOffsetBytes(0));
  Value value = toFloat(k, words, layout.codeOffset);
  if (layout.mins == ScaleType::None)
    return k.mulf(scale, value);
  Value min = grouped(layout.mins, layout.minOffsetBytes(0, depth), layout.minHalfOffsetBytes(0));
  return k.fma(scale, value, min);
}

}  // namespace girih::cpu
