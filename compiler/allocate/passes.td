// SPDX-License-Identifier: Apache-2.0
// Stage allocate: tensors become buffers, buffers become offsets that are known when the program is written.
#ifndef GIRIH_COMPILER_ALLOCATE_PASSES_TD
#define GIRIH_COMPILER_ALLOCATE_PASSES_TD

include "mlir/Pass/PassBase.td"

def BindMemory : Pass<"girih-bind-memory", "::mlir::ModuleOp"> {
  let summary = "gives weights, caches, inputs and logits their addresses";
  let description = [{
    A step function on tensors becomes one on the step's arguments (`runtime/abi/step.h`):
    `(%args: !llvm.ptr, %thread: index, %threads: index)`. Token ids, positions and logit rows are read from their
    buffers, logits written to theirs. Every `girih.layer_weight` gets a 64-byte aligned offset in the weight section,
    equal ones the same; the plan is the module's `girih.weights`. Every `girih.kv_layer` gets its offset in a KV
    block; `girih.kv_block_bytes` is the size of one. In a part of a step (`girih-split-step`) the arguments and results that
    have a `girih.slot` lie there in the arena; a module that has `girih.weights` keeps to that plan.

    Example:
    ```mlir
    func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x32xf32>
        attributes {girih.max_tokens = 1 : i64} {
      %c0 = arith.constant 0 : index
      %w = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
      %n = tensor.dim %tokens, %c0 : tensor<?xi32>
      %e = tensor.empty(%n) : tensor<?x32xf32>
      %x = girih.gather_rows ins(%tokens, %w : tensor<?xi32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
          outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
      return %x : tensor<?x32xf32>
    }
    ```
    reads `girih.buffer_at "tokens"`, `girih.packed_at` and writes `girih.buffer_at "logits"`.
  }];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::memref::MemRefDialect", "::mlir::arith::ArithDialect"];
}

def BufferizeStep : Pass<"girih-bufferize-step", "::mlir::ModuleOp"> {
  let summary = "one-shot bufferization of the step functions";
  let description = [{
    Needs `girih-bind-memory`: no tensor crosses a function's border. Temporaries of a tile stay inside their
    `scf.forall`, in tensors of the tile's size; outside, a slice of an empty tensor is memory whose rows lie further
    apart. A value that is updated while it is still read is copied, by a dispatch of its own over its rows.

    Example:
    ```mlir
    func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.max_tokens = 1 : i64} {
      %c0 = arith.constant 0 : index
      %zero = arith.constant 0.0 : f32
      %n = girih.step_extent "num_logit_rows"
      %logits = girih.buffer_at "logits"[%c0] rows %n : memref<?x8xf32>
      %e = tensor.empty(%n) : tensor<?x8xf32>
      %r = scf.forall (%i) in (%n) shared_outs(%o = %e) -> tensor<?x8xf32> {
        %s = tensor.extract_slice %o[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
        %f = linalg.fill ins(%zero : f32) outs(%s : tensor<1x8xf32>) -> tensor<1x8xf32>
        scf.forall.in_parallel {
          tensor.parallel_insert_slice %f into %o[%i, 0] [1, 8] [1, 1] : tensor<1x8xf32> into tensor<?x8xf32>
        }
      }
      bufferization.materialize_in_destination %r in restrict writable %logits
          : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
      return
    }
    ```
    fills rows of `%logits` in place.
  }];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect"];
}

def MergeRowDispatches : Pass<"girih-merge-row-dispatches", "::mlir::ModuleOp"> {
  let summary = "makes one dispatch of neighbours that work row by row on the same rows";
  let description = [{
    Needs buffers. Two `scf.forall` over the same number of rows, with only views and allocations between them, become
    one when whatever memory one of them writes and the other touches is touched by unit i in row i alone. Rotations of
    queries and keys and the append to the cache are then one loop, and the team meets once after it.

    Example:
    ```mlir
    #id = affine_map<(d0, d1) -> (d0, d1)>
    func.func @step_t8(%args: !llvm.ptr, %n: index, %x: memref<?x16xf32>, %y: memref<?x16xf32>)
        attributes {girih.max_tokens = 8 : i64} {
      scf.forall (%i) in (%n) {
        %a = memref.subview %x[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to memref<1x16xf32, strided<[16, 1], offset: ?>>
        %b = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to memref<1x16xf32, strided<[16, 1], offset: ?>>
        linalg.exp ins(%a : memref<1x16xf32, strided<[16, 1], offset: ?>>) outs(%b : memref<1x16xf32, strided<[16, 1], offset: ?>>)
      }
      scf.forall (%i) in (%n) {
        %b = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to memref<1x16xf32, strided<[16, 1], offset: ?>>
        linalg.tanh ins(%b : memref<1x16xf32, strided<[16, 1], offset: ?>>) outs(%b : memref<1x16xf32, strided<[16, 1], offset: ?>>)
      }
      return
    }
    // CHECK: scf.forall
    // CHECK: linalg.exp
    // CHECK: linalg.tanh
    // CHECK-NOT: scf.forall
    ```
  }];
}

def RepeatCheapDispatches : Pass<"girih-repeat-cheap-dispatches", "::mlir::ModuleOp"> {
  let summary = "lets every thread do all of a dispatch that costs less than a meeting";
  let description = [{
    Needs buffers and `girih.machine`. A dispatch of elementwise work on few rows gets `girih.distribution` "every" when
    one thread does it in less time than all of them and a meeting take: each thread then runs all units, and none
    waits. Its results, which only later dispatches of the block may read and none may write, are marked `girih.own`: each thread has its
    own copy. The dispatch after it must write nothing that it reads.

    Example:
    ```mlir
    module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600,
        barrier_ns = 200, levels = [#machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128,
        latency_cycles = 5, shared_by = 1, source = "test">], units = [#machine.unit<name = "fma", element = "f32",
        lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">]>} {
      func.func @step_t1(%x: memref<1x16xf32>, %y: memref<1x16xf32>) attributes {girih.max_tokens = 1 : i64} {
        %e = memref.alloc() : memref<1x16xf32>
        scf.forall (%i) in (1) {
          linalg.exp ins(%x : memref<1x16xf32>) outs(%e : memref<1x16xf32>)
        }
        scf.forall (%i) in (16) {
          linalg.exp ins(%e : memref<1x16xf32>) outs(%y : memref<1x16xf32>)
        }
        return
      }
    }
    // CHECK: memref.alloc() {girih.own}
    // CHECK: girih.distribution = "every"
    // CHECK-NOT: girih.distribution
    ```
  }];
}

def PlanMemory : Pass<"girih-plan-memory", "::mlir::ModuleOp"> {
  let summary = "replaces allocations by offsets into one arena";
  let description = [{
    Each `memref.alloc` of a step function gets an offset: in the arena when the team shares it, so that buffers
    that live at the same time do not overlap, or in the thread's scratch when it belongs to a tile. Dynamic extents
    are bounded by `girih.max_tokens`. The largest needs of all functions are the module's `girih.arena_bytes` and
    `girih.scratch_bytes`; what kernels need of their own is added behind by their backend. No allocation is left. The first
    `girih.slot_bytes` of the arena, where the module states them, are those of what parts of a step share.

    Example:
    ```mlir
    func.func @step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.max_tokens = 8 : i64} {
      %t = girih.step_extent "num_tokens"
      %x = memref.alloc(%t) : memref<?x64xf32>
      %c0 = arith.constant 0 : index
      %v = memref.load %x[%c0, %c0] : memref<?x64xf32>
      return
    }
    ```
    reads `girih.buffer_at "arena"[%c0] rows %t`.
  }];
  let dependentDialects = ["::mlir::memref::MemRefDialect", "::mlir::arith::ArithDialect"];
}

#endif
