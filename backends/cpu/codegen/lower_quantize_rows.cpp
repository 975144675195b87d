// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-quantize-rows: rows of f32 become blocks of 8-bit codes.
#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/passes.h"
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/ADT/bit.h"

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

  // Four whole blocks at once, `sourceStride` and `targetStride` bytes apart: what reduces each of them does it side by side.
  // First all of one digit; those with outliers are then done again.
  void emitFour(Value source, Value sourceStride, Value target, Value targetStride) {
    auto sourceOf = [&](Value block) { return k.at(source, k.mul(sourceStride, block)); };
    auto targetOf = [&](Value block) { return k.at(target, k.mul(targetStride, block)); };
    SmallVector<Value> sources, targets;
    for (int64_t block = 0; block < kTogether; ++block) {
      sources.push_back(sourceOf(k.index(block)));
      targets.push_back(targetOf(k.index(block)));
    }
    Scales scales = scalesOfFour(sources);
    SmallVector<Value> codes = storeFourCodes(sources, scales.inverse, targets);
    for (int64_t pair = 0; pair < kTogether; pair += 2)
      storePairSums(ArrayRef(codes).slice(pair * kHalves, 2 * kHalves), scales.scale, pair, targets);
    storeNoOutliers(scales.scale, targets);
    k.forBits(scales.worth, kTogether, {}, [&](Value block, ValueRange) {
      emit(sourceOf(block), targetOf(block), kActivationDepth);
      return SmallVector<Value>();
    });
  }

  bool takesFour() const { return !bothDigits; }
  static constexpr int64_t kTogether = 4;

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

  // ---- Four blocks ----
  struct Scales {
    Value scale, inverse; // vector<4xf32>
    Value worth;          // i32: a bit for each block that is to have a second digit
  };

  Scales scalesOfFour(ArrayRef<Value> sources) {
    Type bits = k.lanes(k.b.getI32Type());
    SmallVector<Value> maxima, totals;
    for (Value source : sources) {
      SmallVector<Value> sizes, numbers;
      for (int64_t half = 0; half < kHalves; ++half) {
        Value size = LLVM::BitcastOp::create(k.b, k.loc, bits, loadHalf(k.at(source, half * kLanes * 4), kLanes));
        sizes.push_back(arith::AndIOp::create(k.b, k.loc, size, k.integer(bits, 0x7fffffff)));
        numbers.push_back(LLVM::BitcastOp::create(k.b, k.loc, k.lanesF32(), sizes.back()));
      }
      maxima.push_back(k.maxOf(sizes[0], sizes[1]));
      totals.push_back(k.addf(numbers[0], numbers[1]));
    }
    auto four = [&](double value) { return k.constant(VectorType::get(kTogether, k.b.getF32Type()), value); };
    auto firsts = [&](Value vector) { return shuffled(vector, vector, {0, 4, 8, 12}); };
    Value largest = combined(maxima, [&](Value x, Value y) { return k.maxOf(x, y); });
    largest = firsts(LLVM::BitcastOp::create(k.b, k.loc, k.lanesF32(), largest));
    Value sizes = firsts(combined(totals, [&](Value x, Value y) { return k.addf(x, y); }));
    auto less = [&](Value x, Value y) {
      return arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OLT, x, y);
    };
    Value worth = less(k.mulf(sizes, four(kActivationWorth / kActivationDepth)), largest);
    worth = LLVM::BitcastOp::create(k.b, k.loc, k.b.getIntegerType(kTogether), worth);
    Value isZero = less(largest, four(kActivationLeast));
    return {k.select(isZero, four(0), divide(largest, four(127))), k.select(isZero, four(0), divide(four(127), largest)),
            arith::ExtUIOp::create(k.b, k.loc, k.b.getI32Type(), worth)};
  }

  // The codes of each half, i32, plus kRoundingBits: a number below 2^22 added to 1.5 * 2^23 is rounded as a conversion
  // rounds it, and its last bits are that integer.
  SmallVector<Value> storeFourCodes(ArrayRef<Value> sources, Value inverse, ArrayRef<Value> targets) {
    SmallVector<Value> codes;
    for (auto [block, source] : llvm::enumerate(sources)) {
      Value factor = shuffled(inverse, inverse, SmallVector<int64_t>(kLanes, int64_t(block)));
      for (int64_t half = 0; half < kHalves; ++half) {
        Value scaled = k.mulf(loadHalf(k.at(source, half * kLanes * 4), kLanes), factor);
        Value moved = k.addf(scaled, k.lanesOf(llvm::bit_cast<float>(kRoundingBits)));
        codes.push_back(LLVM::BitcastOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), moved));
        Value bytes = arith::TruncIOp::create(k.b, k.loc, k.lanes(k.b.getI8Type()), codes.back());
        k.store(bytes, k.at(targets[block], kActivationCodes + half * kLanes));
      }
    }
    return codes;
  }
  static constexpr int32_t kRoundingBits = 0x4b400000;

  // Of blocks `pair` and `pair` + 1, each in half of a vector: in its first lanes the scale and its sums as f32, then as
  // integers with no outliers behind them.
  void storePairSums(ArrayRef<Value> codes, Value scale, int64_t pair, ArrayRef<Value> targets) {
    Value sums = combined(codes, [&](Value x, Value y) { return k.add(x, y); });
    sums = k.sub(sums, k.integer(sums.getType(), static_cast<int32_t>(uint32_t(kRoundingBits) * uint32_t(kLanes))));
    Value others = shuffled(sums, sums, {4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
    // {both halves, both, the first, the second}
    Value kinds = shuffled(k.add(sums, others), sums, {0, 1, 18, 3, 4, 5, 6, 7, 8, 9, 26, 11, 12, 13, 14, 15});
    kinds = shuffled(kinds, others, {0, 1, 2, 19, 4, 5, 6, 7, 8, 9, 10, 27, 12, 13, 14, 15});
    SmallVector<int64_t> ofBlock(kLanes, pair), beside;
    std::fill(ofBlock.begin() + kLanes / 2, ofBlock.end(), pair + 1);
    Value scales = shuffled(scale, scale, ofBlock);
    Value scaled = k.mulf(scales, arith::SIToFPOp::create(k.b, k.loc, k.lanesF32(), kinds));
    scaled = shuffled(scaled, scales, {16, 1, 2, 3, 4, 5, 6, 7, 24, 9, 10, 11, 12, 13, 14, 15});
    Value zeros = k.integer(sums.getType(), 0), minus = k.sub(zeros, kinds);
    minus = shuffled(minus, zeros, {1, 2, 3, 16, 5, 6, 7, 16, 9, 10, 11, 16, 13, 14, 15, 16});
    for (int64_t block : {0, 1}) {
      k.store(k.slice(scaled, block * 8, 4), k.at(targets[pair + block], kActivationScale));
      k.store(k.slice(minus, block * 8, 4), k.at(targets[pair + block], kActivationMinusSums));
    }
  }

  // The second line: zeros but for the scale.
  void storeNoOutliers(Value scale, ArrayRef<Value> targets) {
    constexpr int64_t kAt = (kActivationOutlierScale - kActivationOutlierCodes) / 4;
    Value outlierScale = k.mulf(scale, k.constant(scale.getType(), kActivationBase)), zeros = k.lanesOf(0);
    SmallVector<int64_t> all;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      all.push_back(std::min<int64_t>(lane, kTogether - 1));
    Value wide = shuffled(outlierScale, outlierScale, all);
    for (auto [block, target] : llvm::enumerate(targets)) {
      SmallVector<int64_t> lanes(kLanes, 0);
      lanes[kAt] = kLanes + int64_t(block);
      k.store(shuffled(zeros, wide, lanes), k.at(target, kActivationOutlierCodes));
    }
  }

  // ---- One block, both digits ----
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

  // All lanes of each of four vectors, combined by reduceTree's tree: the first in lanes 0 .. 3 of the result, the second in
  // 4 .. 7, and so on.
  Value combined(ArrayRef<Value> vectors, llvm::function_ref<Value(Value, Value)> combine) {
    auto halves = [&](Value x, Value y) {
      Value low = shuffled(x, y, {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23});
      return combine(low, shuffled(x, y, {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31}));
    };
    Value first = halves(vectors[0], vectors[1]), second = halves(vectors[2], vectors[3]);
    Value all = combine(shuffled(first, second, {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27}),
                        shuffled(first, second, {4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31}));
    all = combine(all, shuffled(all, all, {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13}));
    return combine(all, shuffled(all, all, {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));
  }

  Value inserted(Value scalar, Value vector, int64_t lane) {
    return vector::InsertOp::create(k.b, k.loc, scalar, vector, lane);
  }

  // The sums of the block, then of each half, four lanes and one store for each kind of them with what lies beside it.
  void storeSums(ArrayRef<Value> codes, ArrayRef<Value> outliers, Value scale, Value quads, Value target) {
    auto four = VectorType::get(4, k.b.getI32Type());
    auto fourFloats = VectorType::get(4, k.b.getF32Type());
    Value halves = combined({codes[0], codes[1], outliers[0], outliers[1]}, [&](Value x, Value y) { return k.add(x, y); });
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
  if (op.getBothDigits())  // what matmuls then meet, for the count of their work
    op->getParentOfType<func::FuncOp>()->setAttr("girih.both_digits", b.getUnitAttr());
  BlockQuantizer quantizer(k, op.getBothDigits());
  int64_t depth = type.getDimSize(1), full = depth / kActivationDepth;
  Value x = k.addressOf(op.getX()), out = k.addressOf(op.getInit());
  Value xStride = k.mul(k.strideOf(op.getX(), 0), 4), outStride = k.strideOf(op.getInit(), 0);
  Value numRows = k.extentOf(op.getX(), 0), four = k.index(BlockQuantizer::kTogether);
  auto sourceOf = [&](Value row, Value number) {
    return k.at(x, k.add(k.mul(row, xStride), k.mul(number, kActivationDepth * 4)));
  };
  auto targetOf = [&](Value row, Value number) {
    return k.at(out, k.add(k.mul(row, outStride), k.mul(number, kActivationBytes)));
  };
  auto single = [&](Value row, Value number, int64_t count) {
    quantizer.emit(sourceOf(row, number), targetOf(row, number), count);
  };
  // By fours along the row, or down the rows; the last four may overlap those before, and write the same again.
  auto alongRow = [&](Value row) {
    k.loop(k.index(0), k.index(full), BlockQuantizer::kTogether, [&](Value number) {
      Value first = k.minOf(number, k.sub(k.index(full), four));
      quantizer.emitFour(sourceOf(row, first), k.index(kActivationDepth * 4), targetOf(row, first),
                         k.index(kActivationBytes));
    });
  };
  auto downRows = [&] {
    k.loop(k.index(0), numRows, BlockQuantizer::kTogether, [&](Value number) {
      Value row = k.minOf(number, k.sub(numRows, four));
      k.loop(k.index(0), k.index(full), 1, [&](Value block) {
        quantizer.emitFour(sourceOf(row, block), xStride, targetOf(row, block), outStride);
      });
    });
  };
  auto oneByOne = [&](Value row) {
    k.loop(k.index(0), k.index(full), 1, [&](Value number) { single(row, number, kActivationDepth); });
  };
  auto forRows = [&](llvm::function_ref<void(Value)> body) { k.loop(k.index(0), numRows, 1, body); };
  if (full >= BlockQuantizer::kTogether && quantizer.takesFour())
    forRows(alongRow);
  else if (full > 0 && quantizer.takesFour())
    k.when(k.less(numRows, four), [&] { forRows(oneByOne); }, downRows);
  else if (full > 0)
    forRows(oneByOne);
  if (depth % kActivationDepth != 0)
    forRows([&](Value row) { single(row, k.index(full), depth % kActivationDepth); });
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
