// SPDX-License-Identifier: Apache-2.0
// Implementation of nibble_codes.h.
#include "backends/cpu/codegen/microkernels/nibble_codes.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kTableBytes = 16;

// The byte in each place of a word.
Value everyByte(KernelBuilder &k, Type words, int64_t byte) {
  return k.integer(words, static_cast<int32_t>(byte * 0x01010101));
}

Value splatOf(KernelBuilder &k, Value index) { return k.splat(k.toInteger(index, k.b.getI32Type())); }

// Bits from `shift` on (an index) to bit `target` of every byte, the others cleared by `mask`. One shift where it is known.
Value bitsOf(KernelBuilder &k, Value word, Value shift, int64_t target, int64_t mask) {
  Type words = word.getType();
  if (auto known = getConstantIntValue(shift)) {
    int64_t right = *known - target;
    if (right > 0)
      word = arith::ShRUIOp::create(k.b, k.loc, word, k.integer(words, right));
    else if (right < 0)
      word = arith::ShLIOp::create(k.b, k.loc, word, k.integer(words, -right));
    return arith::AndIOp::create(k.b, k.loc, word, everyByte(k, words, mask << target));
  }
  word = arith::ShRUIOp::create(k.b, k.loc, word, splatOf(k, shift));
  word = arith::AndIOp::create(k.b, k.loc, word, everyByte(k, words, mask));
  return target ? arith::ShLIOp::create(k.b, k.loc, word, k.integer(words, target)).getResult() : word;
}

llvm::StringRef lookupOf(const IsaTraits &isa, int64_t numBytes) {
  if (numBytes == kTableBytes)
    return isa.architecture->byteLookup;
  return numBytes == 64 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.avx2.pshuf.b";
}

} // namespace

Value lookUpBytes(KernelBuilder &k, const IsaTraits &isa, ArrayRef<int8_t> table, int64_t bias, Value bytes) {
  int64_t count = cast<VectorType>(bytes.getType()).getNumElements();
  int64_t together = count == kTableBytes ? count : isa.registerLanes * 4;
  VectorType type = VectorType::get(together, k.b.getI8Type());
  SmallVector<int8_t> entries;
  for (int64_t place = 0; place < together; ++place)
    entries.push_back(static_cast<int8_t>(table[size_t(place % kTableBytes)] + bias));
  Value values = arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(type, ArrayRef<int8_t>(entries)));
  SmallVector<Value> parts;
  for (int64_t first = 0; first < count; first += together) {
    Value part = count == together ? bytes : k.slice(bytes, first, together);
    parts.push_back(LLVM::CallIntrinsicOp::create(k.b, k.loc, Type(type),
                                                  k.b.getStringAttr(lookupOf(isa, together)),
                                                  ValueRange{values, part})
                        .getResult(0));
  }
  return parts.size() == 1 ? parts[0] : k.joined(parts);
}

Value nibbleBytes(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa, const NibbleLines &lines,
                  Value step, int64_t bias) {
  Type words = lines.nibbles.getType();
  VectorType bytes = VectorType::get(kLineBytes, k.b.getI8Type());
  Value codes = bitsOf(k, lines.nibbles, k.mul(k.div(step, kNibbleLines), 4), 0, 15);
  auto asBytes = [&] { return LLVM::BitcastOp::create(k.b, k.loc, bytes, codes); };
  if (std::span<const int8_t> table = layout.codeValues(); !table.empty())
    return LLVM::BitcastOp::create(k.b, k.loc, words,
                                   lookUpBytes(k, isa, {table.data(), table.size()}, bias, asBytes()));
  if (int64_t highBits = layout.highBits()) {
    Value shift = k.rem(k.mul(step, highBits), k.index(8));
    codes = arith::OrIOp::create(k.b, k.loc, codes, bitsOf(k, lines.high, shift, 4, (1 << highBits) - 1));
  }
  if (bias == 0)
    return codes;
  return LLVM::BitcastOp::create(k.b, k.loc, words, k.add(asBytes(), k.integer(bytes, bias)));
}

NibbleLines loadNibbleLines(KernelBuilder &k, const PackedLayout &layout, Value block, Value step) {
  auto line = [&](Value number) {
    return k.load(k.lanes(k.b.getI32Type()), k.at(block, k.mul(number, kLineBytes)));
  };
  NibbleLines lines{line(k.rem(step, k.index(kNibbleLines))), Value()};
  if (int64_t highBits = layout.highBits())
    lines.high = line(k.add(k.div(k.mul(step, highBits), 8), kNibbleLines));
  return lines;
}

} // namespace girih::cpu
