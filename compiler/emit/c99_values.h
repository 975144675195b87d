// SPDX-License-Identifier: Apache-2.0
// StepValues: what the values of a scheduled step are in C: numbers, views of memory, packed weights, caches.
#pragma once

#include "compiler/emit/c99_writer.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"
#include "runtime/weights/packed_layout.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace girih::compiler::c99 {

// A strided piece of memory. Strides are static, as the scheduled form promises; the outermost extent may not be.
struct View {
  Expr base;                           // a girih_address
  Expr offset = "0";                   // in bytes
  Expr table;                          // instead of both: a table of the text
  mlir::Type element;
  llvm::SmallVector<int64_t> strides;  // in elements
  llvm::SmallVector<Expr> extents;
};

// Elements of memory where arithmetic reaches them: an array that was filled, or memory itself.
struct Window {
  Expr name;
  int64_t stride = 1;  // between elements
  mlir::Type element;
  Expr first = "0";    // element of the array
};

struct PackedWeight {
  Expr address;
  int64_t depth;
  int64_t columns;
  weights::PackedLayout layout;
};

// What the machine says of itself that C needs.
struct Units {
  std::string dmaIn, dmaOut;  // "": loads reach memory
  std::string barrier;        // "": that of the step's arguments
  std::string multiply;       // "": no matrix unit, or one that rounds where the program must not
  machine::TileAttr tile;
  int64_t nearBytes;
};

class StepValues {
public:
  StepValues(mlir::MLIRContext *context, CWriter &out, Units units, int64_t arenaBytes, int64_t scratchBytes)
      : out(out), units(std::move(units)), context(context), arenaBytes(arenaBytes), scratchBytes(scratchBytes) {}

  // Declares what the operation gives: a number, or a view. Fails by `error` for one that has no form in C.
  void define(mlir::Operation &op);
  void setScalar(mlir::Value value, const Expr &expr) { scalars[value] = expr; }
  void setView(mlir::Value memref, const View &view) { views[memref] = view; }

  Expr scalar(mlir::Value value);
  Expr scalar(mlir::OpFoldResult value);
  View view(mlir::Value memref);
  PackedWeight packed(mlir::Value weight);
  // Of an element that lies so many elements behind the view's first.
  Expr addressOf(const View &view, const Expr &elements = "0");
  // How many elements a position lies behind the view's first.
  Expr offsetOf(const View &view, llvm::ArrayRef<Expr> position);
  Expr affine(mlir::AffineExpr expr, llvm::ArrayRef<Expr> dimensions, llvm::ArrayRef<Expr> symbols = {});
  // One operation on numbers; operands as `of` gives them.
  Expr compute(mlir::Operation &op, llvm::function_ref<Expr(mlir::Value)> of);
  // Computes it and gives it a name, where it is not one already.
  Expr declare(mlir::Operation &op, llvm::function_ref<Expr(mlir::Value)> of);

  // ---- Memory ----
  // `count` elements, at most `most`, `stride` apart from `address` on: read, or `room` for what will be written there.
  Window fetch(const Expr &address, mlir::Type element, const Expr &count, int64_t most, int64_t stride = 1);
  Window room(const Expr &address, mlir::Type element, int64_t most, int64_t stride = 1);
  // Writes the first elements of a room to its memory, where they are not there already.
  void flush(const Window &window, const Expr &address, const Expr &count, int64_t stride = 1);
  // `rows` of `count` elements, `apart` elements from each other in memory. On return `apart` is what it is in the window.
  Window fetchRows(const Expr &address, mlir::Type element, const Expr &rows, int64_t mostRows, const Expr &count,
                   int64_t mostCount, Expr &apart);
  Expr load(const Window &window, const Expr &index);
  void store(const Window &window, const Expr &index, const Expr &value);
  Expr bfloatBits(const Expr &value);
  // Number `index` of the step's small arrays.
  Expr stepNumber(llvm::StringRef array, const Expr &index);
  void barrier() {
    out.line(units.barrier.empty() ? "args->barrier(args->team, thread);" : units.barrier + "(args, thread);");
  }

  void fail(const llvm::Twine &reason) {
    if (error.empty())
      error = reason.str();
  }

  CWriter &out;
  const Units units;
  std::string error;

private:
  void defineView(mlir::Operation &op);
  View ofBuffer(dialect::BufferAtOp op);
  View ofSubview(mlir::memref::SubViewOp op);
  View reshaped(mlir::Value source, mlir::MemRefType type);
  Expr minMax(mlir::Operation &op);
  Expr longestContext();

  mlir::MLIRContext *context;
  int64_t arenaBytes, scratchBytes;
  llvm::DenseMap<mlir::Value, Expr> scalars;
  llvm::DenseMap<mlir::Value, View> views;
};

// A pointer of the step's arguments as a girih_address.
Expr stepAddress(llvm::StringRef field);
int64_t bytesOf(mlir::Type element);
llvm::StringRef nameOf(mlir::Type element);  // in C

// ---- What a unit does, one operation each ----
void lowerGeneric(StepValues &values, mlir::linalg::LinalgOp op);
void lowerCopy(StepValues &values, mlir::Value from, mlir::Value to);
void lowerGatherRows(StepValues &values, dialect::GatherRowsOp op);
void lowerQMatmul(StepValues &values, dialect::QMatmulOp op);
void lowerKvAppend(StepValues &values, dialect::KvAppendOp op);
void lowerAttention(StepValues &values, dialect::AttentionOp op);
void lowerAttentionParts(StepValues &values, dialect::AttentionPartsOp op);
void lowerJoinParts(StepValues &values, dialect::JoinPartsOp op);

}  // namespace girih::compiler::c99
