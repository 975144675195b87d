// SPDX-License-Identifier: Apache-2.0
// GraphBuilder: writes the textbook graph of a model, one function a layer, in linalg, tensor, arith and
// math.
#pragma once

#include "models/config.h"
#include "models/tensor_names.h"
#include "runtime/weights/weight_store.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <string>
#include <unordered_set>

namespace girih::models {

using mlir::Value;

// A tensor read by a structured op, and which of the op's loops index its axes: {x, {0, 2}} is x[i0, i2].
struct Operand {
  Value tensor;
  llvm::SmallVector<int64_t, 4> loops;
};

// Builds one module. Not thread-safe. A weight that is missing or has another shape does not stop the
// building: the first such failure is kept in status(), so that families read like the paper. Invariant: the
// only dynamic extent of any tensor is T, the tokens of the sequence, always outermost unless said.
class GraphBuilder {
public:
  GraphBuilder(mlir::MLIRContext *context, const weights::WeightStore &store, const ModelConfig &config);

  // ---- Functions and places ----
  // Starts `func.func private @name`; T is read from the first argument's outermost axis. `modulePath` is the
  // checkpoint's name of what the function computes, in Hugging Face's words: "model.layers.3".
  llvm::SmallVector<Value> beginFunction(llvm::StringRef name, llvm::StringRef modulePath,
                                         llvm::ArrayRef<mlir::Type> arguments,
                                         llvm::ArrayRef<mlir::Type> results);
  void endFunction(mlir::ValueRange results);
  // Adds the public @main that calls all others: tokens[T], positions[T] -> logits[T, V].
  void buildMain(int64_t numLayers);
  // While it lives, ops and weights belong to the named part of the module path: "self_attn.q_proj".
  class Scope {
  public:
    Scope(GraphBuilder &builder, llvm::StringRef part);
    ~Scope();
    Scope(const Scope &) = delete;

  private:
    GraphBuilder &builder;
    size_t outerLength;
  };

  // ---- Weights ----
  // The weight of the current scope with this suffix ("weight", "bias"), as it is stored.
  Value weight(llvm::StringRef suffix, llvm::ArrayRef<int64_t> shape);
  // By its full Hugging Face name.
  Value weightNamed(llvm::StringRef fullName, llvm::ArrayRef<int64_t> shape);

  // ---- Tensors. kT stands for the dynamic extent. ----
  static constexpr int64_t kT = mlir::ShapedType::kDynamic;
  mlir::RankedTensorType f32Tensor(llvm::ArrayRef<int64_t> shape);
  Value numTokens() const { return tokenCount; }
  Value emptyTensor(llvm::ArrayRef<int64_t> shape);
  Value filled(llvm::ArrayRef<int64_t> shape, float value);
  // Splits or joins axes: `groups[i]` are the axes of the larger shape that make axis i of the smaller one.
  Value expand(Value source, llvm::ArrayRef<int64_t> shape,
               llvm::ArrayRef<mlir::ReassociationIndices> groups);
  Value collapse(Value source, llvm::ArrayRef<mlir::ReassociationIndices> groups);
  Value transpose(Value source, llvm::ArrayRef<int64_t> permutation);
  Value broadcast(Value source, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> addedAxes);
  // source[.., begin : begin + extent, ..] on `axis`; other axes whole. With `dropAxis`, extent 1 disappears.
  Value sliceAxis(Value source, int64_t axis, int64_t begin, int64_t extent, bool dropAxis = false);
  // The inverse: writes `part` into `target`.
  Value insertAxis(Value part, Value target, int64_t axis, int64_t begin, int64_t extent);

  // ---- Structured ops ----
  using Body = llvm::function_ref<Value(mlir::ImplicitLocOpBuilder &, mlir::ValueRange)>;
  using Bodies = llvm::function_ref<llvm::SmallVector<Value>(mlir::ImplicitLocOpBuilder &, mlir::ValueRange)>;
  // One result element for each point of `shape`, all loops parallel.
  Value map(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> shape, Body body);
  // Several results of one shape from one body.
  llvm::SmallVector<Value> mapMany(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> shape,
                                   size_t numResults, Bodies body);
  // Combines over the innermost axis from `initial`; the body gets (element, accumulated).
  Value reduceInnermost(Value source, float initial, Body body);
  // out = sum over the loops absent from `resultLoops` of a * b.
  Value contract(const Operand &a, const Operand &b, llvm::ArrayRef<int64_t> resultLoops,
                 llvm::ArrayRef<int64_t> resultShape, int64_t numLoops);
  static Value constant(mlir::ImplicitLocOpBuilder &b, double value); // f32, rounded once

  const ModelConfig &config() const { return modelConfig; }
  mlir::OpBuilder &ops() { return builder; }
  mlir::Location location();
  mlir::ModuleOp module() { return *moduleOp; }
  mlir::OwningOpRef<mlir::ModuleOp> takeModule() { return std::move(moduleOp); }
  // Names of the tensors the graph reads, as the checkpoint spells them.
  const std::unordered_set<std::string> &usedTensors() const { return used; }
  Status takeStatus() { return std::move(firstFailure); }

private:
  void fail(Status status);
  Value buildGeneric(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> resultLoops, Value init,
                     int64_t numLoops, Body body);

  mlir::OpBuilder builder;
  const weights::WeightStore &store;
  const ModelConfig &modelConfig;
  mlir::OwningOpRef<mlir::ModuleOp> moduleOp;
  std::string path; // of the current scope
  Value tokenCount;
  std::unordered_set<std::string> used;
  Status firstFailure;
};

} // namespace girih::models
