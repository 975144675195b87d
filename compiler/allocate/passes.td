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
    block; `girih.kv_block_bytes` is the size of one.

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
    `scf.forall`. Fails where a copy would have to run outside of one, since every thread of the team would do it.

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
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect", "::mlir::memref::MemRefDialect"];
}

def PlanMemory : Pass<"girih-plan-memory", "::mlir::ModuleOp"> {
  let summary = "replaces allocations by offsets into one arena";
  let description = [{
    Each `memref.alloc` of a step function gets an offset: in the arena when the team shares it, so that buffers
    that live at the same time do not overlap, or in the thread's scratch when it belongs to a tile. Dynamic extents
    are bounded by `girih.max_tokens`. The largest needs of all functions are the module's `girih.arena_bytes` and
    `girih.scratch_bytes`; what kernels need of their own is added behind by their backend. No allocation is left.

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
