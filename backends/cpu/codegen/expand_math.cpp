// SPDX-License-Identifier: Apache-2.0
// girih-cpu-expand-math: every function that would be a libm call becomes our own arithmetic.
#include "backends/cpu/codegen/math_functions.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/passes.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace girih::cpu {

#define GEN_PASS_DEF_EXPANDMATH
#include "backends/cpu/codegen/passes.h.inc"

namespace {

// Null when `op` is no function that we expand.
Value expand(KernelBuilder &k, Operation *op) {
  Value x = op->getNumOperands() > 0 ? op->getOperand(0) : Value();
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case<math::ExpOp>([&](auto) { return emitExp(k, x); })
      .Case<math::Exp2Op>([&](auto) { return emitExp2(k, x); })
      .Case<math::LogOp>([&](auto) { return emitLog(k, x); })
      .Case<math::TanhOp>([&](auto) { return emitTanh(k, x); })
      .Case<math::SinOp>([&](auto) { return emitSin(k, x); })
      .Case<math::CosOp>([&](auto) { return emitCos(k, x); })
      .Case<math::ErfOp>([&](auto) { return emitErf(k, x); })
      .Case<math::PowFOp>([&](auto) { return emitPow(k, x, op->getOperand(1)); })
      .Case<math::RsqrtOp>([&](auto) { return emitRsqrt(k, x); })
      .Case<math::RoundOp>([&](auto) { return emitRound(k, x); })
      .Default([](Operation *) { return Value(); });
}

// x / (e^y + c), as logistic functions have it: its parts.
struct QuotientByExp {
  Value x, c;
  arith::AddFOp sum;
  math::ExpOp exp;
};

bool isPositive(Value value) {
  if (auto broadcast = value.getDefiningOp<vector::BroadcastOp>())
    value = broadcast.getSource();
  FloatAttr constant;
  DenseElementsAttr splat;
  if (matchPattern(value, m_Constant(&splat)) && splat.isSplat())
    return splat.getSplatValue<APFloat>().convertToDouble() > 0;
  return matchPattern(value, m_Constant(&constant)) && constant.getValueAsDouble() > 0;
}

std::optional<QuotientByExp> quotientByExp(arith::DivFOp op) {
  auto type = dyn_cast<VectorType>(op.getType());
  auto sum = op.getRhs().getDefiningOp<arith::AddFOp>();
  if (!type || !type.getElementType().isF32() || type.getNumElements() != kLanes || !sum)
    return std::nullopt;
  for (auto [one, other] : {std::pair(sum.getLhs(), sum.getRhs()), std::pair(sum.getRhs(), sum.getLhs())})
    if (auto exp = one.getDefiningOp<math::ExpOp>(); exp && isPositive(other))
      return QuotientByExp{op.getLhs(), other, sum, exp};
  return std::nullopt;
}

struct ExpandMath : impl::ExpandMathBase<ExpandMath> {
  using ExpandMathBase::ExpandMathBase;

  void runOnOperation() override {
    auto numerics = getOperation()->getAttrOfType<StringAttr>("girih.numerics");
    const IsaTraits *traits = findIsa(isa);
    if (numerics && numerics.getValue() == "fast" && traits && traits->registerLanes == kLanes)
      estimateQuotients();
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa_and_nonnull<math::MathDialect>(op->getDialect()) && getElementTypeOrSelf(op->getResult(0).getType()).isF32())
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      OpBuilder b(op);
      KernelBuilder k(b, op->getLoc());
      if (Value value = expand(k, op)) {
        op->replaceAllUsesWith(ValueRange(value));
        op->erase();
      }
    }
  }

  void estimateQuotients() {
    getOperation().walk([](arith::DivFOp op) {
      std::optional<QuotientByExp> parts = quotientByExp(op);
      if (!parts)
        return;
      OpBuilder b(op);
      KernelBuilder k(b, op.getLoc());
      op.getResult().replaceAllUsesWith(emitQuotientByExp(k, parts->x, parts->exp.getOperand(), parts->c));
      op.erase();
      // The exponential would be expanded although nothing reads it.
      if (parts->sum->use_empty())
        parts->sum->erase();
      if (parts->exp->use_empty())
        parts->exp->erase();
    });
  }
};

}  // namespace

}  // namespace girih::cpu
