// SPDX-License-Identifier: Apache-2.0
// Which dimension of each tensor enumerates the tokens, and the proof that operations keep tokens apart.
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/BuiltinOps.h"

namespace girih::compiler {

// Follows the token dimension from the arguments of `@main` through all operations and calls. Every operation
// but `girih.attention` must compute the elements of a token from elements of the same token. A snapshot of
// the module.
class TokenAnalysis {
public:
  struct Refusal {
    mlir::Operation *op;
    std::string reason;
  };

  // What is known of a value.
  struct State {
    enum class Kind {
      None,  // holds nothing of any token
      Along, // tokens are enumerated by dimension `dim`
      Count, // the number of tokens, an index
      Mixed, // tokens are mixed, or enumerated twice; was refused where it came to be
    };
    Kind kind = Kind::None;
    unsigned dim = 0;
    bool operator==(const State &) const = default;
  };

  explicit TokenAnalysis(mlir::ModuleOp module);

  // Whether all operations but attention keep tokens apart.
  bool isTokenWise() const { return refused.empty(); }
  llvm::ArrayRef<Refusal> refusals() const { return refused; }

  State stateOf(mlir::Value value) const { return states.lookup(value); }

  // Operations that read the number of a token in the graph, which is its position.
  llvm::ArrayRef<mlir::linalg::IndexOp> positionReads() const { return reads; }

private:
  void visitFunction(mlir::func::FuncOp function, llvm::ArrayRef<State> arguments);
  void visit(mlir::Operation *op);
  void visitCall(mlir::func::CallOp call);
  void visitLinalg(mlir::linalg::LinalgOp op);
  void visitBody(mlir::linalg::LinalgOp op, std::optional<unsigned> tokenLoop);
  void visitReshape(mlir::Operation *op);
  void visitExtractSlice(mlir::Operation *op);
  void visitInsertSlice(mlir::Operation *op);
  void visitEmpty(mlir::Operation *op);
  void visitElementwise(mlir::Operation *op);
  bool isWholeTokens(mlir::OpFoldResult offset, mlir::OpFoldResult size, mlir::OpFoldResult stride);
  void set(mlir::Value value, State state) { states[value] = state; }
  void refuse(mlir::Operation *op, std::string reason);

  mlir::ModuleOp module;
  llvm::DenseMap<mlir::Value, State> states;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<State>> visitedWith;
  llvm::SmallVector<Refusal> refused;
  llvm::SmallVector<mlir::linalg::IndexOp> reads;
};

} // namespace girih::compiler
