// SPDX-License-Identifier: Apache-2.0
// Frame: the values of one running function; and the table of ops that the reference knows.
#pragma once

#include "backends/reference/evaluator.h"

#include "mlir/IR/Operation.h"
#include "llvm/ADT/DenseMap.h"

#include <map>

namespace girih::reference {

// Not thread-safe. Regions of the function's ops run in the same frame: their values are overwritten each
// time.
class Frame {
public:
  // What all functions of one evaluation share.
  struct Shared {
    Shared(mlir::ModuleOp module, const WeightProvider &weights) : module(module), weights(weights) {}
    mlir::ModuleOp module;
    const WeightProvider &weights;
    std::map<int64_t, KvState> caches; // by layer

    // Rows of the named weights stacked, `interleave` of each in turn (0: all). Kept while they are few
    // enough: tiles ask for the same weight again and again.
    Expected<Tensor> stackedWeights(const std::vector<std::string> &names, int64_t interleave);

  private:
    std::map<std::string, Tensor> kept;
    int64_t keptElements = 0;
  };
  explicit Frame(Shared &shared) : shared(shared) {}

  const Datum &operator[](mlir::Value value) const;
  double scalar(mlir::Value value) const { return std::get<double>((*this)[value]); }
  int64_t index(mlir::Value value) const { return static_cast<int64_t>(scalar(value)); }
  const Tensor &tensor(mlir::Value value) const { return std::get<Tensor>((*this)[value]); }
  bool isTensor(mlir::Value value) const { return std::holds_alternative<Tensor>((*this)[value]); }
  void set(mlir::Value value, Datum datum) { values.insert_or_assign(value, std::move(datum)); }
  std::vector<Datum> take(mlir::ValueRange range) const;

  // Runs a block to its terminator, whose operands are the answer. Requires: as many arguments as the block
  // has.
  Expected<std::vector<Datum>> run(mlir::Block &block, std::vector<Datum> arguments);
  // Runs a function of the module in a frame of its own.
  Expected<std::vector<Datum>> call(llvm::StringRef function, std::vector<Datum> arguments);

  Shared &shared;

private:
  llvm::DenseMap<mlir::Value, Datum> values;
};

using Handler = Status (*)(Frame &frame, mlir::Operation &op);

// Rows of all parts one after the other, or `interleave` rows of each in turn.
Expected<Tensor> stackRows(const std::vector<Tensor> &parts, int64_t interleave);

// Null when the reference does not know the op.
Handler findHandler(mlir::Operation &op);

// The rooms of the table, a file each.
Handler findTensorHandler(llvm::StringRef opName);
Handler findGirihHandler(llvm::StringRef opName);
Handler findControlHandler(llvm::StringRef opName);
// Any linalg op that is loops over a region, and linalg.softmax.
Handler findLinalgHandler(mlir::Operation &op);
// One arith or math op, on scalars or element by element.
Handler findScalarHandler(mlir::Operation &op);

} // namespace girih::reference
