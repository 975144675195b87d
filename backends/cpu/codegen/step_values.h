// SPDX-License-Identifier: Apache-2.0
// StepValues: what the scalars of a lowered step are when it runs on a given batch, without running it.
#pragma once

#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"

#include <cstdint>
#include <limits>

namespace girih::cpu {

// A batch of equally long pieces of sequences, as `girih bench --kernels` feeds it.
struct StepBatchShape {
  int64_t numTokens = 1, numSequences = 1;
  int64_t contextTokens = 0;  // positions that each sequence has in the cache already
};

// Evaluates index arithmetic, extents of buffers and loads from the step's own tables (positions, sequence starts, ...)
// on demand, in doubles, so that a loop may be looked at in its middle. What depends on anything else is NaN.
class StepValues {
public:
  explicit StepValues(StepBatchShape batch) : batch(batch) {}

  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  struct Scalar {
    enum Kind { Number, StepArgs, Field } kind = Number;
    double number = kUnknown;  // of a pointer: its offset in bytes
    int64_t field = 0;         // of a pointer read from the step: where in girih_step_args it lies
  };

  void bind(mlir::Value value, Scalar scalar) { bound[value] = scalar; }
  void bind(mlir::Value value, double number) { bound[value] = {Scalar::Number, number, 0}; }
  Scalar evaluate(mlir::Value value);
  double number(mlir::Value value);
  double number(mlir::OpFoldResult value);

private:
  Scalar evaluateOp(mlir::Operation *op, unsigned result);
  Scalar loaded(mlir::Value address);
  double arithmetic(mlir::Operation *op);
  double extent(mlir::Value memref, int64_t dimension);

  StepBatchShape batch;
  llvm::DenseMap<mlir::Value, Scalar> bound;
};

}  // namespace girih::cpu
