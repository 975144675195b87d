// SPDX-License-Identifier: Apache-2.0
// Stage allocate: its passes, and the order they run in.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::allocate {

#define GEN_PASS_DECL
#include "compiler/allocate/passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "compiler/allocate/passes.h.inc"

// Appends the stage to `pm`, a pass manager on modules.
void buildPipeline(mlir::OpPassManager &pm);

}  // namespace girih::allocate
