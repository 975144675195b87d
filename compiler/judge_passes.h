// SPDX-License-Identifier: Apache-2.0
// PassJudge: evaluates the graph after every pass of the ladder and names the first pass that changed the
// answer.
#pragma once

#include "backends/reference/evaluator.h"
#include "runtime/base/expected.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"

#include <string>
#include <vector>

namespace girih::compiler {

// What one pass did to the answer. Differences are relative to the largest logit.
struct Verdict {
  std::string pass;
  double difference = 0;
  double bound = 0; // above it, the pass is wrong
};

// Judges with the reference (backends/reference) on 16 tokens and a model cut down to one layer of each kind;
// the judged module is its own copy. Only a pass declared as rounding (insert_kv_cache, when the cache is
// f16) may differ by more than f64 arithmetic in another order does; what it gives is then the answer for the
// passes after it. Judging ends where the graph leaves tensors for buffers, at stage `allocate`.
class PassJudge {
public:
  // `imported` is the graph that the ladder starts from. Fails as its evaluation does.
  static Expected<PassJudge> create(mlir::ModuleOp imported, reference::WeightProvider weights);

  // Runs the passes over the judged module, which goes on from where the last call left it.
  // Fails: Internal, naming the first pass that changed the answer, or that the reference cannot follow.
  Status run(mlir::PassManager &ladder);

  mlir::ModuleOp module() { return *judged; }
  // Of the passes so far, in order.
  const std::vector<Verdict> &verdicts() const { return passed; }

private:
  friend class JudgeInstrumentation;
  PassJudge() = default;
  Status judge(llvm::StringRef pass);
  Expected<reference::Tensor> answer(mlir::func::FuncOp entry, int64_t numTokens) const;

  mlir::OwningOpRef<mlir::ModuleOp> judged;
  reference::WeightProvider weights;
  reference::Tensor expected; // logits [16, V]
  std::vector<Verdict> passed;
};

// Leaves only the first of all layers that are alike (in everything but the names of their weights) in
// `@main`. Returns the number of calls it removed.
int64_t cutToOneLayerOfEachKind(mlir::ModuleOp module);

} // namespace girih::compiler
