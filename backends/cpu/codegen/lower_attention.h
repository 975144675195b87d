// SPDX-License-Identifier: Apache-2.0
// What attention's kernels take from the thread's scratch.
#pragma once

#include "dialects/girih/dialect.h"

namespace girih::cpu {

// 0 for an op that needs none.
int64_t attentionScratch(dialect::AttentionOp op);

}  // namespace girih::cpu
