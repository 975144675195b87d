// SPDX-License-Identifier: Apache-2.0
// The oracle: evaluates a module op by op in f64, by plain loops. Shares no pass and no kernel with what it
// judges.
#pragma once

#include "backends/reference/tensor.h"
#include "runtime/base/expected.h"
#include "runtime/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringRef.h"

#include <functional>
#include <string>
#include <vector>

namespace girih::reference {

// The values of a weight by its name in the checkpoint.
using WeightProvider = std::function<Expected<Tensor>(const std::string &name)>;

// Dequantizes tensors of `store`, which must outlive the provider. Nothing is kept: a weight costs eight
// bytes an element while the function that reads it runs.
WeightProvider weightsOf(const weights::WeightStore &store);

// Calls `function` of `module`. Arguments are its tensors and scalars (as rank 0) in order; an argument of
// type
// `!girih.kv` is not passed, it starts as an empty cache. Results likewise, caches left out.
//
// Every float operation is done in f64 and not rounded, with two exceptions that belong to a model's meaning:
// the arguments of sine and cosine are rounded to f32 (checkpoints are trained so), and truncf rounds to its
// result type, as a cache of f16 does. Sums run in the order of the loops. Fails: NotFound (no such function,
// or weight), Unimplemented (an op the reference does not know; it names op and location), InvalidArgument
// (extents that contradict each other, an index out of bounds).
Expected<std::vector<Tensor>> evaluate(mlir::ModuleOp module, llvm::StringRef function,
                                       std::vector<Tensor> arguments, const WeightProvider &weights);

} // namespace girih::reference
