// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation over the innermost axis.
#pragma once

#include "models/graph_builder.h"

namespace girih::models {

// x * rsqrt(mean(x^2) + eps) * w, w being the weight of `part` in the current scope, or 1 + w where the
// config says so. x: [T, E] or [T, H, D]; the weight is as long as the innermost axis.
Value rmsNorm(GraphBuilder &g, llvm::StringRef part, Value x);

} // namespace girih::models
