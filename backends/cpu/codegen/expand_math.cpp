// SPDX-License-Identifier: Apache-2.0
// girih-cpu-expand-math: every function that would be a libm call becomes our own arithmetic.
#include "backends/cpu/codegen/math_functions.h"
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

struct ExpandMath : impl::ExpandMathBase<ExpandMath> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa_and_nonnull<math::MathDialect>(op->getDialect()) &&
          getElementTypeOrSelf(op->getResult(0).getType()).isF32())
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
};

} // namespace

} // namespace girih::cpu
