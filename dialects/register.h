// SPDX-License-Identifier: Apache-2.0
// The one list of dialects that Girih's IR is made of.
#pragma once

#include "mlir/IR/DialectRegistry.h"

namespace girih::dialect {

// Our dialects, the upstream ones the ladder uses, and the interfaces that its passes need.
void registerDialects(mlir::DialectRegistry &registry);

}  // namespace girih::dialect
