// SPDX-License-Identifier: Apache-2.0
// ShaderBuilder: writes the body of one compute shader: 32-bit words of buffers, invocations, loops, barriers.
//
// What it writes are scf, arith and math operations on i32, f32 and i1, and spirv operations where memory and built-in
// values are concerned; emit_spirv.h turns the former into the latter. All buffers are arrays of 32-bit words: no device
// needs 8- or 16-bit storage, and no two views of one buffer alias.
#pragma once

#include "backends/vulkan/image.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVOps.h"

#include <array>

namespace girih::vulkan {

// Where words lie: a binding of the image, the same binding's texels (only to be read), or memory that a workgroup's
// invocations share.
inline constexpr uint32_t kSharedMemory = kTexelBinding + kNumBindings;

class ShaderBuilder {
public:
  // Begins a spirv.module with an empty function `main`, for workgroups of that many invocations (a power of 2).
  ShaderBuilder(mlir::MLIRContext *context, int64_t invocations);
  mlir::OwningOpRef<mlir::spirv::ModuleOp> take();

  mlir::OpBuilder b;
  mlir::Location loc;
  const int64_t invocations;

  // ---- Values ----
  mlir::Value c(int64_t value); // i32
  mlir::Value f(double value);  // f32
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return y == 0 ? x : add(x, c(y)); }
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y) { return y == 1 ? x : mul(x, c(y)); }
  mlir::Value div(mlir::Value x, int64_t y); // of x >= 0
  mlir::Value rem(mlir::Value x, int64_t y); // of x >= 0
  mlir::Value div(mlir::Value x, mlir::Value y);
  mlir::Value rem(mlir::Value x, mlir::Value y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  mlir::Value shiftRight(mlir::Value x, mlir::Value bits);
  mlir::Value shiftRight(mlir::Value x, int64_t bits) { return bits == 0 ? x : shiftRight(x, c(bits)); }
  mlir::Value shiftLeft(mlir::Value x, mlir::Value bits);
  mlir::Value shiftLeft(mlir::Value x, int64_t bits) { return shiftLeft(x, c(bits)); }
  mlir::Value bitAnd(mlir::Value x, int64_t mask);
  mlir::Value less(mlir::Value x, mlir::Value y); // signed
  mlir::Value isEqual(mlir::Value x, mlir::Value y);
  mlir::Value both(mlir::Value x, mlir::Value y); // i1
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);
  mlir::Value addf(mlir::Value x, mlir::Value y);
  mlir::Value subf(mlir::Value x, mlir::Value y);
  mlir::Value mulf(mlir::Value x, mlir::Value y);
  mlir::Value divf(mlir::Value x, mlir::Value y);
  mlir::Value maxf(mlir::Value x, mlir::Value y);
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  mlir::Value exp(mlir::Value x);
  // x - n * constant, f32, rounded as written: drivers may otherwise add up the constants of several such steps, which
  // are taken apart so that each product is exact.
  mlir::Value lessMultiple(mlir::Value x, mlir::Value n, double constant);
  mlir::Value toFloat(mlir::Value integer);                // i32 -> f32, its value
  mlir::Value asFloat(mlir::Value word);                   // i32 -> f32, its bits
  mlir::Value asWord(mlir::Value value);                   // f32 -> i32, its bits
  mlir::Value halfOf(mlir::Value word, mlir::Value which); // f16 number 0 or 1 of a word, as f32
  mlir::Value asHalves(mlir::Value low); // f32 -> word with its f16 in the low half, 0 in the high one
  mlir::Value rounded(mlir::Value x, mlir::Type type); // f32 -> the nearest value of f16 or bf16, as f32
  mlir::Value ofByte(mlir::Value word);                // i32 -> the i8 in its low bits, as i32

  // ---- The workgroup ----
  mlir::Value invocation() { return lane; }
  mlir::Value group(unsigned axis) { return groups[axis]; }
  // What was written to any memory before is seen by all invocations of the workgroup after. All must come here.
  void barrier();
  // The f32 of invocation `lane` of the 8 neighbours that this one is among. All 8 must come here.
  mlir::Value ofNeighbour(mlir::Value value, int64_t lane);
  // Combines one f32 of each invocation, in one fixed order; all get the result. Begins and ends with a barrier.
  mlir::Value reduce(mlir::Value value, llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

  // ---- Memory ----
  mlir::Value load(uint32_t memory, mlir::Value word);
  // The four words from word `4 * texel` on.
  std::array<mlir::Value, kTexelWords> loadTexel(uint32_t memory, mlir::Value texel);
  static bool areTexels(uint32_t memory) { return memory >= kTexelBinding && memory < kSharedMemory; }
  void store(uint32_t memory, mlir::Value word, mlir::Value value);
  // Part number `part` of a word that has `count` of them, 2 or 4: its bits, with others' or zeros above them; and the
  // same, replaced by the low bits of an i32 while other invocations may be changing the word's other parts.
  mlir::Value loadPart(uint32_t memory, mlir::Value word, mlir::Value part, int64_t count);
  void storePart(uint32_t memory, mlir::Value word, mlir::Value part, int64_t count, mlir::Value bits);
  mlir::Value step(int64_t word) { return load(kStepBinding, c(word)); }
  mlir::Value step(mlir::Value word) { return load(stepSource, word); }
  uint32_t stepSource = kStepBinding; // or its texels
  // Push constant number `index`.
  mlir::Value pushConstant(uint32_t index);
  // `words` words of shared memory; where they begin.
  int64_t share(int64_t words);
  int64_t sharedBytes() const { return numSharedWords * 4; }
  // An array that the shader carries along; returned is a pointer for loadConstant.
  mlir::Value constantArray(mlir::DenseElementsAttr values);
  mlir::Value loadConstant(mlir::Value array, mlir::Value index);

  // ---- Control ----
  using Carry = llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value, mlir::ValueRange)>;
  llvm::SmallVector<mlir::Value> loop(mlir::Value begin, mlir::Value end, mlir::Value step,
                                      mlir::ValueRange carried, Carry body);
  void loop(mlir::Value begin, mlir::Value end, mlir::Value step, llvm::function_ref<void(mlir::Value)> body);
  void when(mlir::Value condition, llvm::function_ref<void()> then);
  // Each number below `total` by one invocation of the workgroup.
  void forEach(mlir::Value total, llvm::function_ref<void(mlir::Value)> body);

private:
  mlir::Value pointerTo(uint32_t memory, mlir::Value word);
  mlir::Value bufferVariable(uint32_t memory);
  mlir::Value bound(uint32_t memory, mlir::Type type);
  mlir::Value builtIn(mlir::spirv::BuiltIn which);

  mlir::OwningOpRef<mlir::spirv::ModuleOp> module;
  mlir::Operation *function;
  mlir::Value lane, groups[3];
  int64_t numSharedWords = 0, reduceWords = -1;
  llvm::SmallVector<mlir::Operation *> sharedUses;
};

} // namespace girih::vulkan
