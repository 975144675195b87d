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
    clearOutlierLine(target);
    SmallVector<Value> sums, outlierSums, quads;
    for (int64_t half = 0; half < kHalves; ++half) {
      auto [codes, outliers] = digitsOf(halves[half], inverse);
      storeCodes(codes, k.at(target, kActivationCodes + half * kLanes));
      quads.push_back(quadsOf(storeCodes(outliers, k.at(target, kActivationOutlierCodes + half * kLanes))));
      sums.push_back(sumOf(codes));
      outlierSums.push_back(sumOf(outliers));
    }
    k.store(scale, k.at(target, kActivationScale));
    k.store(k.mulf(scale, k.constF32(kActivationBase)), k.at(target, kActivationOutlierScale));
    storeSums(sums, outlierSums, scale, target);
    Value high =
        arith::ShLIOp::create(k.b, k.loc, quads[1], k.integer(quads[1].getType(), kLanes / kActivationQuad));
    k.store(arith::OrIOp::create(k.b, k.loc, quads[0], high), k.at(target, kActivationOutliers));
  }

private:
  Value loadHalf(Value source, int64_t count) {
    if (count <= 0)
      return k.lanesOf(0);
    return count >= kLanes ? k.load(k.lanesF32(), source)
                           : k.loadMasked(k.lanesF32(), source, k.maskOf(k.index(count)));
  }

  Value divide(Value x, Value y) { return arith::DivFOp::create(k.b, k.loc, x, y); }

  Value sumOf(Value codes) {
    return k.reduceTree(codes, [&](Value x, Value y) { return k.add(x, y); });
  }

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
    Value reach = bothDigits ? k.mulf(largest, k.constF32(1 / kActivationShare))
                             : k.mulf(total(), k.constF32(kActivationReach / kActivationDepth));
    // Both comparisons fail for a NaN, so that its block's scale is NaN, and so is every product with it.
    auto less = [&](Value x, Value y) {
      return arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OLT, x, y);
    };
    Value limit = k.select(less(reach, largest), reach, largest);
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

  Value storeCodes(Value codes, Value target) {
    Value bytes = arith::TruncIOp::create(k.b, k.loc, k.lanes(k.b.getI8Type()), codes);
    k.store(bytes, target);
    return bytes;
  }

  // i32: a bit for each 4 bytes that are not all zero.
  Value quadsOf(Value bytes) {
    constexpr int64_t kQuads = kLanes / kActivationQuad;
    auto words = VectorType::get(kQuads, k.b.getI32Type());
    Value quads = LLVM::BitcastOp::create(k.b, k.loc, words, bytes);
    Value isSet = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, quads, k.integer(words, 0));
    Value bits = LLVM::BitcastOp::create(k.b, k.loc, k.b.getIntegerType(kQuads), isSet);
    return arith::ExtUIOp::create(k.b, k.loc, k.b.getI32Type(), bits);
  }

  void clearOutlierLine(Value target) {
    Value zeros = k.integer(k.lanes(k.b.getI32Type()), 0);
    k.store(zeros, k.at(target, kActivationOutlierCodes));
  }

  // Of the block, then of each half.
  void storeSums(ArrayRef<Value> sums, ArrayRef<Value> outliers, Value scale, Value target) {
    Value zero = k.integer(k.b.getI32Type(), 0), base = k.integer(k.b.getI32Type(), kActivationBase);
    auto store = [&](int64_t number, Value sum, Value outlierSum) {
      Value whole = k.add(sum, k.mul(outlierSum, base));
      Value value = arith::SIToFPOp::create(k.b, k.loc, k.b.getF32Type(), whole);
      k.store(k.mulf(scale, value), k.at(target, kActivationScaledSums + number * 4));
      k.store(k.sub(zero, sum), k.at(target, kActivationMinusSums + number * 4));
      k.store(k.sub(zero, outlierSum), k.at(target, kActivationMinusOutliers + number * 4));
    };
    store(0, k.add(sums[0], sums[1]), k.add(outliers[0], outliers[1]));
    for (int64_t half = 0; half < kHalves; ++half)
      store(1 + half, sums[half], outliers[half]);
  }

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
