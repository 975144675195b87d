// SPDX-License-Identifier: Apache-2.0
// ByteDot: implementation.
#include "backends/cpu/codegen/microkernels/byte_dot.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

// ---- Vectors ----
Value ByteDot::call(StringRef intrinsic, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, result, k.b.getStringAttr(intrinsic), operands).getResult(0);
}

Value ByteDot::as(Value vector, int64_t count, unsigned bits) {
  return LLVM::BitcastOp::create(k.b, k.loc, VectorType::get(count, k.b.getIntegerType(bits)), vector);
}

// 8 lanes of 16.
Value ByteDot::half(Value vector, int64_t number) {
  SmallVector<int64_t> lanes(kLanes / 2);
  for (int64_t lane = 0; lane < kLanes / 2; ++lane)
    lanes[lane] = number * kLanes / 2 + lane;
  return vector::ShuffleOp::create(k.b, k.loc, vector, vector, lanes);
}

Value ByteDot::joined(Value first, Value second) {
  SmallVector<int64_t> lanes(kLanes);
  for (int64_t lane = 0; lane < kLanes; ++lane)
    lanes[lane] = lane;
  return vector::ShuffleOp::create(k.b, k.loc, first, second, lanes);
}

Value ByteDot::pin(Value lanes) {
  return isa.hasByteDot ? k.pin(lanes) : joined(k.pin(half(lanes, 0)), k.pin(half(lanes, 1)));
}

Value ByteDot::widened(Value words, int64_t odd, bool isSigned) {
  Type type = words.getType();
  Value eight = k.integer(type, 8);
  if (odd)
    return isSigned ? arith::ShRSIOp::create(k.b, k.loc, words, eight).getResult()
                    : arith::ShRUIOp::create(k.b, k.loc, words, eight).getResult();
  if (!isSigned)
    return arith::AndIOp::create(k.b, k.loc, words, k.integer(type, 0xff));
  return arith::ShRSIOp::create(k.b, k.loc, arith::ShLIOp::create(k.b, k.loc, words, eight), eight);
}

// ---- Operands ----
Value ByteDot::codes(Value block, int64_t step) {
  int64_t depth = step * 4;
  int64_t line = layout.codeOffsetBytes(0, depth);
  Value word = k.load(k.lanes(k.b.getI32Type()), k.at(block, line));
  auto every = [&](int64_t byte) { return k.integer(word.getType(), static_cast<int32_t>(byte * 0x01010101)); };
  if (layout.codes == CodeType::U4) {
    if (int shift = layout.codeShift(depth))
      word = arith::ShRUIOp::create(k.b, k.loc, word, k.integer(word.getType(), shift));
    return arith::AndIOp::create(k.b, k.loc, word, every(0x0f));
  }
  return flipsSign() ? arith::XOrIOp::create(k.b, k.loc, word, every(0x80)).getResult() : word;
}

ByteDot::Registers ByteDot::operand(Value codes) {
  if (isa.hasByteDot)
    return {as(codes, 64, 8)};
  if (isNarrow())
    return {as(half(codes, 0), 32, 8), as(half(codes, 1), 32, 8)};
  Registers registers;
  bool isSigned = layout.codes == CodeType::S8;
  for (int64_t number : {0, 1})
    for (int64_t odd : {0, 1})
      registers.push_back(widened(as(half(codes, number), 16, 16), odd, isSigned));
  return registers;
}

ByteDot::Registers ByteDot::activations(Value pointer) {
  Value word = k.load(k.b.getI32Type(), pointer);
  int64_t count = isa.hasByteDot ? kLanes : kLanes / 2;
  Value all = vector::BroadcastOp::create(k.b, k.loc, VectorType::get(count, k.b.getI32Type()), word);
  if (isa.hasByteDot)
    return {as(all, 64, 8)};
  if (isNarrow())
    return {as(all, 32, 8)};
  Value words = as(all, 16, 16);
  return {widened(words, 0, /*isSigned=*/true), widened(words, 1, /*isSigned=*/true)};
}

// ---- Sums ----
ByteDot::Registers ByteDot::start(Value initial) {
  if (isa.hasByteDot)
    return {initial ? initial : k.integer(k.lanes(k.b.getI32Type()), 0)};
  Value none = isNarrow() ? k.integer(VectorType::get(16, k.b.getIntegerType(16)), 0)
                          : k.integer(VectorType::get(8, k.b.getI32Type()), 0);
  return {none, none};
}

void ByteDot::accumulate(Registers &sums, const Registers &weights, const Registers &activations) {
  if (isa.hasByteDot) {
    sums[0] = call("llvm.x86.avx512.vpdpbusd.512", sums[0].getType(), {sums[0], weights[0], activations[0]});
    sums[0] = k.pin(sums[0]);  // or what a step loads waits in registers until the next one
    return;
  }
  for (int64_t number : {0, 1}) {
    Type type = sums[number].getType();
    auto add = [&](Value products) { sums[number] = k.add(sums[number], products); };
    if (isNarrow()) {
      add(call("llvm.x86.avx2.pmadd.ub.sw", type, {weights[number], activations[0]}));
    } else {
      for (int64_t odd : {0, 1})
        add(call("llvm.x86.avx2.pmadd.wd", type, {weights[number * 2 + odd], activations[odd]}));
    }
    sums[number] = k.pin(sums[number]);  // 16 registers hold the sums and one step, not the steps to come
  }
}

Value ByteDot::total(const Registers &sums, Value initial) {
  if (isa.hasByteDot)
    return sums[0];
  Registers halves = sums;
  if (isNarrow())
    for (Value &sum : halves)
      sum = call("llvm.x86.avx2.pmadd.wd", VectorType::get(8, k.b.getI32Type()), {sum, k.integer(sum.getType(), 1)});
  Value whole = joined(halves[0], halves[1]);
  return initial ? k.add(whole, initial) : whole;
}

}  // namespace girih::cpu
