// SPDX-License-Identifier: Apache-2.0
// The arithmetic of single numbers: what each op of arith and math computes on doubles.
#pragma once

#include "mlir/IR/Operation.h"

#include <cstdint>

namespace girih::reference {

// Unused operands are 0.
using ScalarFunction = double (*)(double a, double b, double c);

// Null when `op` is no scalar arithmetic (or is one the reference does not know). Depends on the op's
// predicate.
ScalarFunction findScalarFunction(mlir::Operation &op);

double roundToF16(double value);
double roundToBf16(double value);

} // namespace girih::reference
