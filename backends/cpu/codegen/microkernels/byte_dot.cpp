// SPDX-License-Identifier: Apache-2.0
// ByteDot: implementation.
#include "backends/cpu/codegen/microkernels/byte_dot.h"

#include "backends/cpu/codegen/microkernels/nibble_codes.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

static constexpr int64_t kLineBytes = 64;   // codes of 4 k for 16 columns

// ---- Vectors ----
Value ByteDot::call(StringRef intrinsic, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, k.loc, result, k.b.getStringAttr(intrinsic), operands).getResult(0);
}

VectorType ByteDot::integers(int64_t count, unsigned bits) { return VectorType::get(count, k.b.getIntegerType(bits)); }

Value ByteDot::as(Value vector, int64_t count, unsigned bits) {
  return LLVM::BitcastOp::create(k.b, k.loc, integers(count, bits), vector);
}

Value ByteDot::shuffled(Value first, Value second, ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(k.b, k.loc, first, second, lanes);
}

// ---- Operands ----
int64_t ByteDot::excess() const {
  bool takesSigned = isMagnitude() || (isa.dots != ByteDots::Unsigned4 && isa.dots != ByteDots::MultiplyAdd);
  if (takesSigned)
    return 0;
  if (layout.codes == CodeType::E2m1)
    return 16;
  return layout.codes == CodeType::S8 || layout.codes == CodeType::Iq4 ? 128 : 0;
}

Value ByteDot::codesOf(Value block, Value step) {
  if (layout.hasNibbles())
    return nibbleBytes(k, layout, isa, loadNibbleLines(k, layout, block, step), step, excess());
  Value word = k.load(k.lanes(k.b.getI32Type()), k.at(block, k.mul(step, kLineBytes)));
  // Plus or minus 128 are the same byte.
  return excess() ? arith::XOrIOp::create(k.b, k.loc, word, k.integer(word.getType(), int32_t(0x80808080))).getResult()
                  : word;
}

ByteDot::Lanes ByteDot::codes(Value block, Value step) {
  if (!isPaired)
    return {codesOf(block, step)};
  Value first = codesOf(block, step), second = codesOf(block, k.add(step, 1));
  // 8 k of two columns a register: 4 k of both steps side by side, column after column.
  SmallVector<int64_t> low, high;
  for (int64_t column = 0; column < kLanes; ++column)
    (column < kLanes / 2 ? low : high).append({column, kLanes + column});
  return {shuffled(first, second, low), shuffled(first, second, high)};
}

ByteDot::Registers ByteDot::operand(const Lanes &codes) {
  Registers registers;
  for (Value lanes : codes)
    for (int64_t number = 0; number < numParts(); ++number) {
      Value bits = k.slice(lanes, number * isa.registerLanes, isa.registerLanes);
      Value bytes = as(bits, isa.registerLanes * 4, 8);
      if (isMagnitude()) // of -128 as well: 128
        registers.push_back(call("llvm.abs.v32i8", bytes.getType(), {bytes, k.integer(k.b.getI1Type(), 0)}));
      registers.push_back(bytes);
    }
  return registers;
}

ByteDot::Registers ByteDot::activations(ArrayRef<Value> pointers) {
  if (isPaired) {
    SmallVector<Value> rows;
    for (Value pointer : pointers)
      rows.push_back(k.load(k.b.getI64Type(), pointer, 4));
    return {as(vector::FromElementsOp::create(k.b, k.loc, integers(2, 64), rows), 16, 8)};
  }
  Value word = k.load(k.b.getI32Type(), pointers[0]);
  Value all = vector::BroadcastOp::create(k.b, k.loc, integers(isa.registerLanes, 32), word);
  return {as(all, isa.registerLanes * 4, 8)};
}

// ---- Sums ----
// Two products of a signed byte and a code each: 16 bits hold those of as many steps.
int64_t ByteDot::shortSteps() const {
  constexpr int64_t kMostOfX = 127, kMostOfSum = 32767;
  auto stepsOf = [](int64_t mostOfCode) { return kMostOfSum / (2 * mostOfCode * kMostOfX); };
  switch (layout.codes) {
  case CodeType::U4: return stepsOf(15);
  case CodeType::U5: return stepsOf(31);
  case CodeType::U6: return stepsOf(63);
  case CodeType::E2m1: return stepsOf(12 + excess());
  default: return 1;
  }
}

ByteDot::Registers ByteDot::start(ArrayRef<Value> initial, bool isLone) {
  if (isa.dots == ByteDots::Unsigned4)
    return {initial[0] ? initial[0] : k.integer(k.lanes(k.b.getI32Type()), sumBase())};
  bool isShort = isa.dots == ByteDots::MultiplyAdd && isNarrow();
  Value none = k.integer(isShort ? integers(16, 16) : integers(isa.registerLanes, 32), 0);
  Registers sums(numParts() * rowsTogether(), none);
  if (isLone && isa.dots == ByteDots::MultiplyAdd && !isShort && shortSteps() > 1)
    sums.append(numParts(), k.integer(integers(16, 16), 0));
  return sums;
}

void ByteDot::widen(Registers &sums) {
  for (int64_t number = 0; hasShortSums(sums) && number < numParts(); ++number) {
    Value &shortSum = sums[numParts() + number];
    sums[number] = pinPart(addedPairs(sums[number], shortSum));
    shortSum = k.integer(shortSum.getType(), 0);
  }
}

Value ByteDot::addedPairs(Value sum, Value products) {
  return k.add(sum, call("llvm.x86.avx2.pmadd.wd", sum.getType(), {products, k.integer(products.getType(), 1)}));
}

Value ByteDot::pairProducts(int64_t number, const Registers &weights, const Registers &activations) {
  Value bytes = isMagnitude() ? weights[number * 2] : weights[number], x = activations[0];
  if (isMagnitude())
    x = call("llvm.x86.avx2.psign.b", bytes.getType(), {x, weights[number * 2 + 1]});
  return call("llvm.x86.avx2.pmadd.ub.sw", integers(16, 16), {bytes, x});
}

// What sdot does, in four instructions.
Value ByteDot::addWidened(Value sum, Value weights, Value activations) {
  SmallVector<Value> products;
  for (int64_t number : {0, 1}) {
    products.push_back(call("llvm.aarch64.neon.smull.v8i16", integers(8, 16),
                            {k.slice(weights, number * 8, 8), k.slice(activations, number * 8, 8)}));
  }
  Value pairs = call("llvm.aarch64.neon.addp.v8i16", integers(8, 16), products);
  return k.add(sum, call("llvm.aarch64.neon.saddlp.v4i32.v8i16", integers(4, 32), {pairs}));
}

void ByteDot::accumulate(Registers &sums, const Registers &weights, const Registers &activations) {
  bool isShort = isa.dots == ByteDots::MultiplyAdd && (isNarrow() || hasShortSums(sums));
  int64_t first = hasShortSums(sums) ? numParts() : 0;
  for (size_t number = 0; number + size_t(first) < sums.size(); ++number) {
    Value &sum = sums[number + size_t(first)];
    Type type = sum.getType();
    if (isa.dots == ByteDots::Unsigned4)
      sum = call("llvm.x86.avx512.vpdpbusd.512", type, {sum, weights[number], activations[0]});
    else if (isa.dots == ByteDots::MultiplyAdd) {
      Value products = pairProducts(int64_t(number), weights, activations);
      sum = isShort ? k.add(sum, products) : addedPairs(sum, products);
    }
    else if (isPaired)
      sum = call("llvm.aarch64.neon.smmla.v4i32.v16i8", type, {sum, activations[0], weights[number]});
    else if (isa.dots == ByteDots::Widening)
      sum = addWidened(sum, weights[number], activations[0]);
    else
      sum = call("llvm.aarch64.neon.sdot.v4i32.v16i8", type, {sum, weights[number], activations[0]});
    sum = pinPart(sum);  // or what a step loads waits in registers until the next one
  }
}

Value ByteDot::baseOf(Value scale) { return hasBase() ? k.mulf(scale, k.lanesOf(-kSumBase)) : Value(); }

Value ByteDot::scaled(Value total, Value scale, Value base) {
  if (base)
    return k.fma(LLVM::BitcastOp::create(k.b, k.loc, k.lanesF32(), total), scale, base);
  return k.mulf(arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), total), scale);
}

ByteDot::Lanes ByteDot::total(const Registers &sums, ArrayRef<Value> initial) {
  if (isa.dots == ByteDots::Unsigned4)
    return {sums[0]};
  Registers parts = sums;
  if (isa.dots == ByteDots::MultiplyAdd && isNarrow())
    for (Value &sum : parts)
      sum = call("llvm.x86.avx2.pmadd.wd", integers(8, 32), {sum, k.integer(sum.getType(), 1)});
  Lanes totals;
  for (int64_t row = 0; row < rowsTogether(); ++row) {
    // A pair's register holds (row 0 | row 1) of two columns each.
    for (int64_t number = 0; isPaired && number < numParts(); ++number)
      parts[number] = shuffled(sums[2 * number], sums[2 * number + 1], {2 * row, 2 * row + 1, 2 * row + 4, 2 * row + 5});
    Value whole = k.joined(ArrayRef(parts).take_front(numParts()));
    totals.push_back(initial[row] ? k.add(whole, initial[row]) : whole);
  }
  return totals;
}

}  // namespace girih::cpu
