// SPDX-License-Identifier: Apache-2.0
// Passes of the CPU target: from a scheduled step on memrefs to the LLVM dialect.
#ifndef GIRIH_BACKENDS_CPU_CODEGEN_PASSES_TD
#define GIRIH_BACKENDS_CPU_CODEGEN_PASSES_TD

include "mlir/Pass/PassBase.td"

class CpuKernelPass<string passName> : Pass<passName, "::mlir::ModuleOp"> {
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

class CpuIsaPass<string passName> : CpuKernelPass<passName> {
  let options = [Option<"isa", "isa", "std::string", "\"avx512\"", "the ISA row that kernels are made for: avx2, avx512 or amx">];
}

def LowerElementwise : CpuKernelPass<"girih-cpu-lower-elementwise"> {
  let summary = "linalg on memrefs becomes loops of 16-lane vectors";
  let description = [{
    Every linalg operation and `memref.copy` becomes a loop nest whose innermost loop, over the last iteration dimension,
    takes 16 lanes at a time, the rest of an extent masked. Operands that do not move with the inner loop are broadcast,
    those of every second element (interleaved pairs) are two loads and a shuffle, those that jump otherwise are gathered.
    A sum over the innermost dimension uses one vector accumulator, in numerics `fast` four by turns: lane l takes the
    elements l, l+16, ... in order, and one fixed tree adds the lanes, so no tile and no ISA changes a bit. Reductions
    over outer dimensions run in order through the output. A reduction whose body is no single combiner becomes a
    scalar loop nest.

    Example:
    ```mlir
    func.func @add(%x: memref<?x64xf32>, %y: memref<?x64xf32>) {
      linalg.add ins(%x, %y : memref<?x64xf32>, memref<?x64xf32>) outs(%y : memref<?x64xf32>)
      return
    }
    // CHECK: scf.for
    // CHECK: arith.addf {{.*}} : vector<16xf32>
    // CHECK-NOT: linalg
    ```
  }];
}

def ExpandMath : CpuIsaPass<"girih-cpu-expand-math"> {
  let summary = "transcendental functions become arithmetic";
  let description = [{
    `math.exp`, `exp2`, `log`, `tanh`, `sin`, `cos`, `erf`, `powf`, `rsqrt` and `round` on f32, scalar or vector,
    become our own sequences of add, mul, fma, compare and select: no libm symbol remains and every ISA gives the same
    bits. Errors stay below 2 ulp (sin, cos, erf and powf compute in f64); exp below the normal range is zero.
    In numerics `fast`, and where registers are 512 bits wide, `x / (exp(y) + c)`, a logistic function's form, is one
    sequence with an estimated reciprocal instead, to 3e-7 + 8e-8 |y| of its value.

    Example:
    ```mlir
    func.func @f(%x: vector<16xf32>) -> vector<16xf32> {
      %y = math.exp %x : vector<16xf32>
      return %y : vector<16xf32>
    }
    // CHECK: math.fma
    // CHECK-NOT: math.exp
    ```
  }];
}

def LowerQuantizeRows : CpuKernelPass<"girih-cpu-lower-quantize-rows"> {
  let summary = "rows of f32 become blocks of 8-bit codes";
  let description = [{
    `girih.quantize_rows` on memrefs becomes a loop over rows and blocks of 32 elements: the largest absolute value
    by integer maxima, sums by one fixed tree, codes rounded to nearest even. A block that holds a NaN gets the scale NaN.

    Example:
    ```mlir
    func.func @codes(%x: memref<?x576xf32>, %q: memref<?x2304xi8>) {
      girih.quantize_rows ins(%x : memref<?x576xf32>) outs(%q : memref<?x2304xi8>)
      return
    }
    // CHECK: math.roundeven
    // CHECK-NOT: girih.quantize_rows
    ```
  }];
}

def LowerQMatmul : CpuIsaPass<"girih-cpu-lower-qmatmul"> {
  let summary = "qmatmul and gather_rows become microkernels";
  let description = [{
    `girih.qmatmul` on memrefs becomes loops over tiles of `row_tile` rows x `column_tile`/16 panels: strategy "direct"
    dequantises in registers (few rows), "panel" dequantises `k_tile` x `column_tile` weights into the end of the
    thread's scratch (many rows). Each element stays one chain of fused multiply-adds over ascending k. Quantised activations (x of i8)
    multiply with the codes themselves, in exact integer sums; "panel" then takes the codes apart into scratch, and
    "bytes" has tiles make the sums of few rows. With bf16 "matrix" rounds weights to bf16, "codes" multiplies few rows with the codes and scales the sums of a group.
    In a step of several sequences the calls of few rows also fetch what the next attention reads of the KV cache.
    `girih.gather_rows` dequantises one column of a panel per row. Fails when a tile needs more registers than the ISA
    has, or more scratch than the module's `girih.scratch_bytes`.

    Example:
    ```mlir
    module attributes {girih.arena_bytes = 0 : i64, girih.scratch_bytes = 0 : i64} {
      func.func @project(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x32xf32>,
          %w: !girih.packed<64 x 32, "p16:u4,f16,f16,32">, %y: memref<?x64xf32>) {
        girih.qmatmul ins(%x, %w : memref<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
            outs(%y : memref<?x64xf32>) {strategy = "direct", row_tile = 1 : i64, column_tile = 32 : i64}
        return
      }
    }
    // CHECK: llvm.intr.prefetch
    // CHECK: math.fma {{.*}} : vector<16xf32>
    // CHECK-NOT: girih.qmatmul
    ```
  }];
}

def LowerAttention : CpuIsaPass<"girih-cpu-lower-attention"> {
  let summary = "cached attention and kv_append become microkernels";
  let description = [{
    `girih.attention` over the cache becomes loops over groups of up to `query_tile` consecutive tokens of one sequence
    that share the loads of K and V, 16 positions at a time, with a running maximum and rescaled sums per row; a row's
    result is the same bits whatever rows share its group. `girih.kv_append` rounds each value once into its slot.
    A tile of the cached form takes one kv head, or says in `girih.heads_per_group` how many query heads share one.
    The stateless form becomes plain loops: it runs where no cache could be inserted, and is not meant to be fast.

    Example:
    ```mlir
    func.func @attend(%args: !llvm.ptr, %thread: index, %threads: index, %offset: index, %q: memref<?x9x64xf32>,
        %out: memref<?x9x64xf32>) {
      %kv = girih.kv_at %offset {block_bytes = 368640 : i64} : !girih.kv<3, 64, 64, f16>
      girih.attention ins(%q : memref<?x9x64xf32>) cache(%kv : !girih.kv<3, 64, 64, f16>)
          outs(%out : memref<?x9x64xf32>) {scale = 0.125 : f32, query_tile = 2 : i64}
      return
    }
    // CHECK: math.fma
    // CHECK-NOT: girih.attention
    ```
  }];
}

def CountWork : CpuIsaPass<"girih-cpu-count-work"> {
  let summary = "the instructions of each dispatch, counted for the cost model";
  let description = [{
    Leaves `girih.work` on the module: of each dispatch the units that threads share, and of all units together the bytes
    of vector instructions (those that take longer count more), the products of tiles, the bytes loaded and stored; once
    for an entry's largest step at the start of its sequences (`first`), once with 1,024 positions in the cache
    (`later`). Loops count as often as they will run: index arithmetic, extents of buffers and the step's own tables are
    evaluated. What a loop does not change is counted before it, where LLVM puts it. Changes no operation.

    Example:
    ```mlir
    func.func @step(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<64xf32>)
        attributes {girih.max_tokens = 1 : i64} {
      %zero = arith.constant dense<0.0> : vector<16xf32>
      scf.forall (%i) = (0) to (64) step (16) {
        vector.store %zero, %x[%i] : memref<64xf32>, vector<16xf32>
      } {girih.dispatch = "clear"}
      return
    }
    // CHECK: girih.work = [{dispatch = "clear", entry = "step", first = array<f64: 4.000000e+00, 0.000000e+00, 0.000000e+00, 0.000000e+00, 2.560000e+02>
    ```
  }];
}

def Distribute : CpuKernelPass<"girih-cpu-distribute"> {
  let summary = "top-level scf.forall is split over the team";
  let description = [{
    A top-level `scf.forall` becomes a loop over this thread's share of the linearised units ("block": one range a
    thread; "cyclic": every num_threads-th unit), followed by the team's barrier; "dynamic" takes
    units of the own range one by one through a counter at byte `girih.queue` of the scratch, then of the other threads'
    ranges, so that nobody waits for a slow one, but for a range's last two (of 16 or more): whoever takes one over finds
    its rows in another core; "every" runs all units on each thread,
    into memory of its own, and needs no barrier. A nested one becomes plain loops.

    Example:
    ```mlir
    func.func @step(%args: !llvm.ptr, %thread: index, %threads: index, %n: index, %y: memref<?xf32>) {
      %zero = arith.constant 0.0 : f32
      scf.forall (%i) in (%n) {
        memref.store %zero, %y[%i] : memref<?xf32>
      } {girih.distribution = "cyclic"}
      return
    }
    // CHECK: scf.for
    // CHECK: llvm.call
    // CHECK-NOT: scf.forall
    ```
  }];
}

def LowerAddresses : CpuKernelPass<"girih-cpu-lower-addresses"> {
  let summary = "the step's buffers become addresses";
  let description = [{
    `girih.buffer_at`, `packed_at`, `kv_at` and `step_extent` read the fields of `girih_step_args` (runtime/abi/step.h),
    argument 0 of the function. "scratch" is this thread's part behind the arena.

    Example:
    ```mlir
    func.func @extent(%args: !llvm.ptr, %thread: index, %threads: index) -> index {
      %t = girih.step_extent "num_tokens"
      return %t : index
    }
    // CHECK: llvm.load
    ```
  }];
}

#endif
