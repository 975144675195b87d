// SPDX-License-Identifier: Apache-2.0
// Transcendental functions as sequences of exactly rounded operations, the same bits on every ISA.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"

namespace girih::cpu {

// Operands are f32 scalars or vectors; so are results. Tested by tests/backends/cpu/codegen/math_functions_test.cpp.

// e^x. Below the normal range (x < -87.3) exactly 0, so exp(-inf) is 0. With `atMostOne`, x <= 0 or x = -inf and no
// NaN is promised (softmax), which saves the upper checks.
mlir::Value emitExp(KernelBuilder &k, mlir::Value x, bool atMostOne = false);
mlir::Value emitExp2(KernelBuilder &k, mlir::Value x);
// x / (e^y + c) to 3e-7 + 8e-8 |y| of its value, for c > 0 and numerics that may round: the reciprocal is a 14-bit
// estimate made better once. e^y is kept within 2^-126 and 2^126, so the quotient is never NaN without cause. 16 lanes of a
// 512-bit register.
mlir::Value emitQuotientByExp(KernelBuilder &k, mlir::Value x, mlir::Value y, mlir::Value c);
mlir::Value emitLog(KernelBuilder &k, mlir::Value x);
mlir::Value emitTanh(KernelBuilder &k, mlir::Value x);
// Computed in f64: accurate for arguments far beyond any position.
mlir::Value emitSin(KernelBuilder &k, mlir::Value x);
mlir::Value emitCos(KernelBuilder &k, mlir::Value x);
mlir::Value emitErf(KernelBuilder &k, mlir::Value x);
mlir::Value emitPow(KernelBuilder &k, mlir::Value x, mlir::Value y);
// 1 / sqrt(x), both operations exactly rounded.
mlir::Value emitRsqrt(KernelBuilder &k, mlir::Value x);
// To the nearest integer, halves away from zero.
mlir::Value emitRound(KernelBuilder &k, mlir::Value x);

}  // namespace girih::cpu
