// SPDX-License-Identifier: Apache-2.0
// What one element of a tensor means: a scalar expression over elements of other tensors.
#pragma once

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallVector.h"

#include <deque>
#include <optional>

namespace girih::compiler {

// The scalar operations that recognition has to tell apart; all others are `Other`.
enum class ScalarOp {
  Add,
  Sub,
  Mul,
  Div,
  Max,
  Min,
  Exp,
  Exp2,
  Tanh,
  Sqrt,
  Rsqrt,
  Neg,
  And,
  Or,
  Xor,
  Pow,
  Other
};

enum class Comparison { Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual };

bool compareNumbers(Comparison comparison, double left, double right);

// The number that `op` gives; null for `Other`.
std::optional<double> foldScalar(ScalarOp op, llvm::ArrayRef<double> values);

// A node of an expression. Owned by the PullBack that made it, and never changed after.
struct Expr {
  enum class Kind {
    Constant, // `constant`; booleans are 0 and 1
    Index,    // the number `index`, affine in the variables
    Access,   // the element of `tensor` at `indices`
    Scalar,   // the scalar SSA value `tensor`, of which nothing more is known
    Apply,    // `op` of `args`
    Compare,  // `comparison` of two `args`
    Select,   // `args[0]` ? `args[1]` : `args[2]`
    Reduce,   // `op` (Add, Max, Min, Mul) of `args[0]` over all values of `variable`
  };
  Kind kind = Kind::Constant;
  ScalarOp op = ScalarOp::Other;
  Comparison comparison = Comparison::Equal;
  double constant = 0;
  mlir::AffineExpr index;
  mlir::Value tensor;
  llvm::SmallVector<mlir::AffineExpr, 4> indices;
  llvm::SmallVector<const Expr *, 3> args;
  unsigned variable = 0;
  mlir::Operation *source = nullptr; // an op this came from, for messages

  bool isConstant() const { return kind == Kind::Constant; }
  bool isAccess() const { return kind == Kind::Access; }
  bool isApply(ScalarOp wanted) const { return kind == Kind::Apply && op == wanted; }
  bool isReduce(ScalarOp wanted) const { return kind == Kind::Reduce && op == wanted; }
};

// Pulls tensors back through the operations that produce them, one step at a time and only when asked: views
// (reshapes, slices, casts), fills, constants, linalg operations of any spelling, and softmax. Anything else
// is a leaf. Variables are affine dimensions, numbered as they are made; every index expression is kept
// simplified under the variables' extents, so `(h * 64 + d) floordiv 64` is `h`. Not thread-safe.
class PullBack {
public:
  explicit PullBack(mlir::MLIRContext *context) : context(context) {}

  mlir::MLIRContext *getContext() const { return context; }

  // A fresh variable with values 0 .. extent-1 (ShapedType::kDynamic: not bounded above).
  mlir::AffineExpr newVariable(int64_t extent);
  int64_t extentOf(unsigned variable) const { return extents[variable]; }
  unsigned numVariables() const { return extents.size(); }

  // The element of `tensor` at `indices`, not yet pulled back.
  const Expr *access(mlir::Value tensor, llvm::ArrayRef<mlir::AffineExpr> indices);

  // What an access means in terms of the producer's operands; null at a leaf. Requires: an access.
  const Expr *step(const Expr *access);

  // Steps while the expression is an access and is no leaf.
  const Expr *resolve(const Expr *expr);

  // `expr` with `variable` replaced by `by`.
  const Expr *substitute(const Expr *expr, unsigned variable, mlir::AffineExpr by);

  // Whether both are the same number for all values of the variables. False may mean "not seen to be".
  bool isEqual(const Expr *left, const Expr *right);

  // Whether `variable` occurs. An access counts by its indices, a leaf tensor's producers are not asked.
  static bool dependsOn(const Expr *expr, unsigned variable);

  mlir::AffineExpr simplify(mlir::AffineExpr expr) const;

  // The operations that were stepped through.
  const llvm::SetVector<mlir::Operation *> &visited() const { return steppedThrough; }

  const Expr *constant(double value);
  const Expr *apply(ScalarOp op, llvm::ArrayRef<const Expr *> args, mlir::Operation *source);

private:
  const Expr *make(Expr expr);
  const Expr *index(mlir::AffineExpr expr);
  const Expr *scalar(mlir::Value value);
  const Expr *scalarOp(mlir::Operation *op, llvm::ArrayRef<const Expr *> args);
  const Expr *reduce(ScalarOp op, unsigned variable, const Expr *body, mlir::Operation *source);
  const Expr *stepExpandShape(mlir::Operation *op, const Expr *access);
  const Expr *stepCollapseShape(mlir::Operation *op, const Expr *access);
  const Expr *stepExtractSlice(mlir::Operation *op, const Expr *access);
  const Expr *stepConcat(mlir::Operation *op, const Expr *access);
  const Expr *stepLinalg(mlir::Operation *op, const Expr *access);
  const Expr *stepSoftmax(mlir::Operation *op, const Expr *access);
  const Expr *stepConstant(mlir::Operation *op, const Expr *access);
  const Expr *stepElementwise(mlir::Operation *op, const Expr *access);
  std::optional<std::pair<int64_t, int64_t>> boundsOf(mlir::AffineExpr expr) const;

  mlir::MLIRContext *context;
  std::deque<Expr> nodes;
  llvm::SmallVector<int64_t> extents;
  llvm::SetVector<mlir::Operation *> steppedThrough;
};

} // namespace girih::compiler
