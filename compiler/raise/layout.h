// SPDX-License-Identifier: Apache-2.0
// How a tensor's dimensions are made of variables, and the views that lead from one such layout to another.
#pragma once

#include "compiler/raise/pull_back.h"

#include "mlir/IR/Builders.h"

namespace girih::compiler {

// For each dimension the variables that it enumerates, outermost first; none for an extent of 1.
using Layout = llvm::SmallVector<llvm::SmallVector<unsigned, 2>, 4>;

// A window of a tensor and the variables that run over it.
struct Source {
  mlir::Value tensor;
  llvm::SmallVector<int64_t, 4> offsets; // constant; 0 for a dimension that is read whole
  llvm::SmallVector<int64_t, 4> sizes;   // kDynamic: all of a dynamic dimension
  Layout layout;

  bool isWhole() const;
};

// The layout of an access that reads every element at most once, in variables each used once; null for any
// other (a diagonal, a broadcast inside a dimension, a stride).
std::optional<Source> sourceOf(const PullBack &pullBack, const Expr *access);

// Whether only reshapes lead from `from` to `to`.
bool isReshape(const Layout &from, const Layout &to);

// The tensor of layout `to` that holds what `source` reads. Requires: both have the same variables.
mlir::Value relayout(mlir::OpBuilder &builder, mlir::Location loc, const PullBack &pullBack,
                     const Source &source, const Layout &to);

} // namespace girih::compiler
