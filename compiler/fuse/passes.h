// SPDX-License-Identifier: Apache-2.0
// Stage fuse: its passes, and the order they run in.
#pragma once

#include "mlir/Pass/Pass.h"

namespace girih::fuse {

#define GEN_PASS_DECL
#include "compiler/fuse/passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "compiler/fuse/passes.h.inc"

// Appends the stage to `pm`, a pass manager on modules.
void buildPipeline(mlir::OpPassManager &pm);

}  // namespace girih::fuse
