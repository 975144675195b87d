// SPDX-License-Identifier: Apache-2.0
// KernelBuilder: the few phrases that kernels are written in: index arithmetic, raw addresses, 16-lane vectors, loops.
#pragma once

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace girih::cpu {

// All kernels think in vectors of 16 lanes, whatever the machine's width: LLVM splits them, and every ISA then does
// the same operations on the same lanes in the same order.
inline constexpr int64_t kLanes = 16;

class KernelBuilder {
public:
  KernelBuilder(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}

  mlir::OpBuilder &b;
  mlir::Location loc;

  // ---- Types ----
  mlir::Type pointerType();
  mlir::VectorType lanes(mlir::Type element) { return mlir::VectorType::get(kLanes, element); }
  mlir::VectorType lanesF32() { return lanes(b.getF32Type()); }

  // ---- Constants ----
  mlir::Value index(int64_t value);
  mlir::Value constant(mlir::Type floatOrVector, double value);
  mlir::Value integer(mlir::Type intOrVector, int64_t value);
  mlir::Value constF32(double value) { return constant(b.getF32Type(), value); }
  mlir::Value lanesOf(double value) { return constant(lanesF32(), value); }
  mlir::Value splat(mlir::Value scalar);
  mlir::Value laneNumbers();  // vector<16xi32> 0..15

  // ---- Index arithmetic, folded ----
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value div(mlir::Value x, mlir::Value y);  // both non-negative
  mlir::Value rem(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return y == 0 ? x : add(x, index(y)); }
  mlir::Value mul(mlir::Value x, int64_t y) { return y == 1 ? x : mul(x, index(y)); }
  mlir::Value div(mlir::Value x, int64_t y) { return y == 1 ? x : div(x, index(y)); }
  mlir::Value less(mlir::Value x, mlir::Value y);  // signed, also of i32
  mlir::Value minOf(mlir::Value x, mlir::Value y);
  mlir::Value maxOf(mlir::Value x, mlir::Value y);
  // `position`, or the nearest that lies in [0, extent). Requires: extent > 0.
  mlir::Value within(mlir::Value position, mlir::Value extent);
  mlir::Value toIndex(mlir::Value integer);
  mlir::Value toInteger(mlir::Value index, mlir::Type type);

  // ---- Memory. Offsets are in bytes. ----
  mlir::Value at(mlir::Value pointer, mlir::Value byteOffset);
  mlir::Value at(mlir::Value pointer, int64_t byteOffset);
  mlir::Value load(mlir::Type type, mlir::Value pointer, unsigned alignment = 0);
  void store(mlir::Value value, mlir::Value pointer, unsigned alignment = 0);
  mlir::Value loadMasked(mlir::VectorType type, mlir::Value pointer, mlir::Value mask);
  void storeMasked(mlir::Value value, mlir::Value pointer, mlir::Value mask);
  void prefetch(mlir::Value pointer, int64_t level = 1);  // into that level of the caches, 1 or 2
  void fetchLines(mlir::Value pointer, int64_t bytes); // into the nearest level
  // No load is moved or reused across it; no instruction. Keeps what one phase of a kernel loads out of the next
  // phase's registers.
  void phase();
  // The same vector, computed here and not later: LLVM would put arithmetic next to its use and keep its operands in
  // registers until then. Requires: the vector fits one register, whose kind inline assembly calls `constraint`.
  mlir::Value pin(mlir::Value vector, llvm::StringRef constraint);
  // Lanes first .. first + count - 1 of a vector; vectors one after the other, as many as a power of 2.
  mlir::Value slice(mlir::Value vector, int64_t first, int64_t count);
  mlir::Value joined(llvm::ArrayRef<mlir::Value> vectors);
  // Lanes 0 .. count-1, count an index; lanes at and after it are off.
  mlir::Value maskOf(mlir::Value count);

  // A memref's address of element (0, ..., 0), its stride in elements, its extent.
  mlir::Value addressOf(mlir::Value memref);
  mlir::Value strideOf(mlir::Value memref, int64_t dimension);
  mlir::Value extentOf(mlir::Value memref, int64_t dimension);
  // Temporary memory of the enclosing function's frame, allocated once at its entry, 64-byte aligned.
  mlir::Value frameBytes(int64_t bytes);

  // ---- The step ----
  mlir::Value stepArgs();     // !llvm.ptr: argument 0 of the enclosing function
  mlir::Value threadIndex();  // argument 1
  mlir::Value numThreads();   // argument 2
  mlir::Value stepPointer(size_t fieldOffset);
  mlir::Value stepInteger(size_t fieldOffset);  // as index

  // ---- f32 arithmetic ----
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  mlir::Value addf(mlir::Value x, mlir::Value y);
  mlir::Value subf(mlir::Value x, mlir::Value y);
  mlir::Value mulf(mlir::Value x, mlir::Value y);
  mlir::Value maxf(mlir::Value x, mlir::Value y);  // exact max of non-NaN values
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);
  // Combines 16 lanes into one by the fixed tree: lane l with l+8, then l+4, l+2, l+1.
  mlir::Value reduceTree(mlir::Value vector, llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

  // ---- Control ----
  using LoopBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value, mlir::ValueRange)>;
  llvm::SmallVector<mlir::Value> loop(mlir::Value begin, mlir::Value end, int64_t step, mlir::ValueRange carried,
                                      LoopBody body);
  void loop(mlir::Value begin, mlir::Value end, int64_t step, llvm::function_ref<void(mlir::Value)> body);
  void when(mlir::Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise = nullptr);
  // `then`'s values where the condition holds, else `carried`.
  llvm::SmallVector<mlir::Value> when(mlir::Value condition, mlir::ValueRange carried,
                                      llvm::function_ref<llvm::SmallVector<mlir::Value>()> then);
  // The body for each set bit of an i32, lowest first, with the bit's number as an index; `most` may be set.
  llvm::SmallVector<mlir::Value> forBits(mlir::Value bits, int64_t most, mlir::ValueRange carried, LoopBody body);
};

}  // namespace girih::cpu
