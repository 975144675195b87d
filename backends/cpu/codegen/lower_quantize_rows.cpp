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
  explicit BlockQuantizer(KernelBuilder &k) : k(k) {}

  // The `count` values at `source` become the block at `target`; elements past them are zeros.
  void emit(Value source, Value target, int64_t count) {
    SmallVector<Half> halves;
    for (int64_t half = 0; half < kHalves; ++half) {
      Value values = loadHalf(k.at(source, half * kLanes * 4), count - half * kLanes);
      halves.push_back(storeHalf(values, k.at(target, kActivationCodes + half * kLanes)));
    }
    storeSums(halves, target);
  }

private:
  struct Half {
    Value scale, sum; // f32, and the i32 sum of its codes
  };

  Value loadHalf(Value source, int64_t count) {
    if (count <= 0)
      return k.lanesOf(0);
    return count >= kLanes ? k.load(k.lanesF32(), source) : k.loadMasked(k.lanesF32(), source, k.maskOf(k.index(count)));
  }

  Value divide(Value x, Value y) { return arith::DivFOp::create(k.b, k.loc, x, y); }

  // Of absolute values bits and numbers have one order, in which NaN is the largest.
  Value largestOf(Value values) {
    Value bits = LLVM::BitcastOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), values);
    bits = arith::AndIOp::create(k.b, k.loc, bits, k.integer(bits.getType(), 0x7fffffff));
    Value largest = k.reduceTree(bits, [&](Value x, Value y) { return k.maxOf(x, y); });
    return LLVM::BitcastOp::create(k.b, k.loc, k.b.getF32Type(), largest);
  }

  Half storeHalf(Value values, Value target) {
    Value largest = largestOf(values), limit = k.constF32(127);
    // Unordered, so that a NaN is not taken for zeros: its scale is NaN, and so is every product with the half.
    Value isZero =
        arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OLT, largest, k.constF32(kActivationLeast));
    Value scale = k.select(isZero, k.constF32(0), divide(largest, limit));
    Value inverse = k.splat(k.select(isZero, k.constF32(0), divide(limit, largest)));
    Value rounded = math::RoundEvenOp::create(k.b, k.loc, k.mulf(values, inverse));
    Value codes = arith::FPToSIOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), rounded);
    k.store(arith::TruncIOp::create(k.b, k.loc, k.lanes(k.b.getI8Type()), codes), target);
    return {scale, k.reduceTree(codes, [&](Value x, Value y) { return k.add(x, y); })};
  }

  void storeSums(ArrayRef<Half> halves, Value target) {
    Value zero = k.integer(k.b.getI32Type(), 0), scaledSum;
    for (int64_t half = 0; half < kHalves; ++half) {
      auto [scale, sum] = halves[half];
      Value number = arith::SIToFPOp::create(k.b, k.loc, k.b.getF32Type(), sum);
      Value scaled = k.mulf(scale, number);
      scaledSum = scaledSum ? k.fma(scale, number, scaledSum) : scaled;
      k.store(scale, k.at(target, kActivationScales + half * 4));
      k.store(scaled, k.at(target, kActivationScaledHalves + half * 4));
      k.store(k.sub(zero, sum), k.at(target, kActivationMinusHalves + half * 4));
    }
    k.store(scaledSum, k.at(target, kActivationScaledSum));
    k.store(zero, k.at(target, kActivationMinusHalves + kHalves * 4));
  }

  KernelBuilder &k;
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
  BlockQuantizer quantizer(k);
  int64_t depth = type.getDimSize(1), full = depth / kActivationDepth;
  Value x = k.addressOf(op.getX()), out = k.addressOf(op.getInit());
  Value xStride = k.mul(k.strideOf(op.getX(), 0), 4), outStride = k.strideOf(op.getInit(), 0);
  k.loop(k.index(0), k.extentOf(op.getX(), 0), 1, [&](Value row) {
    Value source = k.at(x, k.mul(row, xStride)), target = k.at(out, k.mul(row, outStride));
    auto block = [&](Value number, int64_t count) {
      quantizer.emit(k.at(source, k.mul(number, kActivationDepth * 4)), k.at(target, k.mul(number, kActivationBytes)),
                     count);
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

}  // namespace

}  // namespace girih::cpu
