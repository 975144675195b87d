// SPDX-License-Identifier: Apache-2.0
// What matmuls on tiles take from the thread's scratch.
#pragma once

#include "dialects/girih/dialect.h"

namespace girih::cpu {

// How far before the end of a thread's scratch the frame of each matmul on tiles begins. Frames keep what they hold from
// unit to unit of a dispatch, so those of one dispatch lie one before the other.
using TileFrames = llvm::DenseMap<mlir::Operation *, int64_t>;
TileFrames tileFramesOf(mlir::Operation *module);

} // namespace girih::cpu
