// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-quantize-rows: rows of f32 become blocks of 8-bit codes.
#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/passes.h"
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::cpu {

#define GEN_PASS_DEF_LOWERQUANTIZEROWS
#include "backends/cpu/codegen/passes.h.inc"

namespace {

constexpr int64_t kHalves = kActivationDepth / kActivationHalf;
static_assert(kActivationHalf == kLanes);

class BlockQuantizer {
public:
  BlockQuantizer(KernelBuilder &k, bool bothDigits) : k(k), bothDigits(bothDigits) {}

  // The `count` values at `source` become the block at `target`; elements past them are zeros.
  void emit(Value source, Value target, int64_t count) {
    SmallVector<Value> halves;
    for (int64_t half = 0; half < kHalves; ++half)
      halves.push_back(loadHalf(k.at(source, half * kLanes * 4), count - half * kLanes));
    auto [scale, inverse] = scaleOf(halves);
    SmallVector<Value> codes, outliers;
    for (Value half : halves) {
      auto [code, outlier] = digitsOf(half, inverse);
      codes.push_back(code);
      outliers.push_back(outlier);
    }
    storeCodes(codes, k.at(target, kActivationCodes));
    Value quads = quadsOf(storeCodes(outliers, k.at(target, kActivationOutlierCodes)));
    storeSums(codes, outliers, scale, quads, target);
  }

private:
  Value loadHalf(Value source, int64_t count) {
    if (count <= 0)
      return k.lanesOf(0);
    return count >= kLanes ? k.load(k.lanesF32(), source)
                           : k.loadMasked(k.lanesF32(), source, k.maskOf(k.index(count)));
  }

  Value divide(Value x, Value y) { return arith::DivFOp::create(k.b, k.loc, x, y); }

  // Of absolute values bits and numbers have one order, in which NaN is the largest.
  std::pair<Value, Value> scaleOf(ArrayRef<Value> halves) {
    Type bits = k.lanes(k.b.getI32Type());
    SmallVector<Value> sizes, numbers;
    for (Value half : halves) {
      Value size = LLVM::BitcastOp::create(k.b, k.loc, bits, half);
      sizes.push_back(arith::AndIOp::create(k.b, k.loc, size, k.integer(bits, 0x7fffffff)));
      numbers.push_back(LLVM::BitcastOp::create(k.b, k.loc, k.lanesF32(), sizes.back()));
    }
    Value largest =
        k.reduceTree(k.maxOf(sizes[0], sizes[1]), [&](Value x, Value y) { return k.maxOf(x, y); });
    largest = LLVM::BitcastOp::create(k.b, k.loc, k.b.getF32Type(), largest);
    auto total = [&] {
      return k.reduceTree(k.addf(numbers[0], numbers[1]), [&](Value x, Value y) { return k.addf(x, y); });
    };
    // Both comparisons fail for a NaN, so that its block's scale is NaN, and so is every product with it.
    auto less = [&](Value x, Value y) {
      return arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OLT, x, y);
    };
    auto limitOf = [&]() -> Value {
      if (bothDigits)
        return k.mulf(largest, k.constF32(1 / kActivationShare));
      Value sizes = total();
      Value worth = less(k.mulf(sizes, k.constF32(kActivationWorth / kActivationDepth)), largest);
      return k.select(worth, k.mulf(sizes, k.constF32(kActivationReach / kActivationDepth)), largest);
    };
    Value limit = limitOf();
    Value isZero = less(largest, k.constF32(kActivationLeast)), zero = k.constF32(0), most = k.constF32(127);
    return {k.select(isZero, zero, divide(limit, most)),
            k.splat(k.select(isZero, zero, divide(most, limit)))};
  }

  // Codes and outlier codes, i32. A multiple of 1/255 is never halfway between two integers.
  std::pair<Value, Value> digitsOf(Value values, Value inverse) {
    auto rounded = [&](Value x) { return math::RoundEvenOp::create(k.b, k.loc, x); };
    auto integers = [&](Value x) {
      return arith::FPToSIOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), x);
    };
    Value both = rounded(k.mulf(values, inverse));
    Value outliers = rounded(k.mulf(both, k.lanesOf(1.0 / kActivationBase)));
    return {integers(k.fma(outliers, k.lanesOf(-kActivationBase), both)), integers(outliers)};
  }

  Value storeCodes(ArrayRef<Value> halves, Value target) {
    Value all = k.joined(halves);
    Value bytes = arith::TruncIOp::create(k.b, k.loc, VectorType::get(kActivationDepth, k.b.getI8Type()), all);
    k.store(bytes, target);
    return bytes;
  }

  // i32: a bit for each 4 bytes that are not all zero.
  Value quadsOf(Value bytes) {
    constexpr int64_t kQuads = kActivationDepth / kActivationQuad;
    auto words = VectorType::get(kQuads, k.b.getI32Type());
    Value quads = LLVM::BitcastOp::create(k.b, k.loc, words, bytes);
    Value isSet = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, quads, k.integer(words, 0));
    Value bits = LLVM::BitcastOp::create(k.b, k.loc, k.b.getIntegerType(kQuads), isSet);
    return arith::ExtUIOp::create(k.b, k.loc, k.b.getI32Type(), bits);
  }

  Value shuffled(Value x, Value y, ArrayRef<int64_t> lanes) {
    return vector::ShuffleOp::create(k.b, k.loc, x, y, lanes);
  }

  // Sums of all lanes of four vectors at once: the first in lanes 0 .. 3 of the result, the second in 4 .. 7, and so on.
  Value sumsOf(ArrayRef<Value> vectors) {
    auto halvesAdded = [&](Value x, Value y) {
      Value low = shuffled(x, y, {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23});
      return k.add(low, shuffled(x, y, {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31}));
    };
    Value first = halvesAdded(vectors[0], vectors[1]), second = halvesAdded(vectors[2], vectors[3]);
    Value sums = k.add(shuffled(first, second, {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27}),
                       shuffled(first, second, {4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31}));
    sums = k.add(sums, shuffled(sums, sums, {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13}));
    return k.add(sums, shuffled(sums, sums, {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));
  }

  Value inserted(Value scalar, Value vector, int64_t lane) {
    return vector::InsertOp::create(k.b, k.loc, scalar, vector, lane);
  }

  // The sums of the block, then of each half, four lanes and one store for each kind of them with what lies beside it.
  void storeSums(ArrayRef<Value> codes, ArrayRef<Value> outliers, Value scale, Value quads, Value target) {
    auto four = VectorType::get(4, k.b.getI32Type());
    auto fourFloats = VectorType::get(4, k.b.getF32Type());
    Value halves = sumsOf({codes[0], codes[1], outliers[0], outliers[1]});
    Value zeros = k.integer(halves.getType(), 0), zero = k.integer(four, 0);
    // {0, both halves, the first, the second}
    auto ofDigit = [&](int64_t at) {
      return k.add(shuffled(zeros, halves, {0, 16 + at, 16 + at, 20 + at}),
                   shuffled(zeros, halves, {0, 20 + at, 0, 0}));
    };
    Value sums = ofDigit(0), outlierSums = ofDigit(8);
    Value whole = k.add(sums, k.mul(outlierSums, k.integer(four, kActivationBase)));
    Value scaled = arith::SIToFPOp::create(k.b, k.loc, fourFloats, whole);
    scaled = k.mulf(vector::BroadcastOp::create(k.b, k.loc, fourFloats, scale), scaled);
    k.store(inserted(scale, scaled, 0), k.at(target, kActivationScale));
    Value minus = k.sub(zero, sums);
    k.store(inserted(quads, shuffled(minus, minus, {1, 2, 3, 0}), 3), k.at(target, kActivationMinusSums));
    Value outlierScale = k.mulf(scale, k.constF32(kActivationBase));
    Value bits = LLVM::BitcastOp::create(k.b, k.loc, k.b.getI32Type(), outlierScale);
    k.store(inserted(bits, k.sub(zero, outlierSums), 0), k.at(target, kActivationOutlierScale));
    k.store(zero, k.at(target, kActivationMinusOutliers + 12));
  }
  static_assert(kActivationScaledSums == kActivationScale + 4 && kActivationMinusSums == kActivationScale + 16 &&
                kActivationOutliers == kActivationMinusSums + 12 &&
                kActivationMinusOutliers == kActivationOutlierScale + 4);

  KernelBuilder &k;
  bool bothDigits;
};

bool hasUnitInnerStride(Value memref) {
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  auto type = cast<MemRefType>(memref.getType());
  return succeeded(type.getStridesAndOffset(strides, offset)) && strides.back() == 1;
}

LogicalResult lower(QuantizeRowsOp op) {
  auto type = dyn_cast<MemRefType>(op.getX().getType());
  if (!type)
    return op.emitOpError("is still on tensors; bufferize first");
  if (type.isDynamicDim(1) || !hasUnitInnerStride(op.getX()) || !hasUnitInnerStride(op.getInit()))
    return op.emitOpError("x and init need a static row length and an innermost stride of 1, have ")
           << type << " and " << op.getInit().getType();
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  BlockQuantizer quantizer(k, op.getBothDigits());
  int64_t depth = type.getDimSize(1), full = depth / kActivationDepth;
  Value x = k.addressOf(op.getX()), out = k.addressOf(op.getInit());
  Value xStride = k.mul(k.strideOf(op.getX(), 0), 4), outStride = k.strideOf(op.getInit(), 0);
  k.loop(k.index(0), k.extentOf(op.getX(), 0), 1, [&](Value row) {
    Value source = k.at(x, k.mul(row, xStride)), target = k.at(out, k.mul(row, outStride));
    auto block = [&](Value number, int64_t count) {
      quantizer.emit(k.at(source, k.mul(number, kActivationDepth * 4)),
                     k.at(target, k.mul(number, kActivationBytes)), count);
    };
    if (full > 0)
      k.loop(k.index(0), k.index(full), 1, [&](Value number) { block(number, kActivationDepth); });
    if (depth % kActivationDepth != 0)
      block(k.index(full), depth % kActivationDepth);
  });
  op.erase();
  return success();
}

struct LowerQuantizeRows : impl::LowerQuantizeRowsBase<LowerQuantizeRows> {
  void runOnOperation() override {
    SmallVector<QuantizeRowsOp> ops;
    getOperation().walk([&](QuantizeRowsOp op) { ops.push_back(op); });
    for (QuantizeRowsOp op : ops)
      if (failed(lower(op)))
        return signalPassFailure();
  }
};

} // namespace

} // namespace girih::cpu
