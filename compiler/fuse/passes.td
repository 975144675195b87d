// SPDX-License-Identifier: Apache-2.0
// Stage fuse: layers become one loop, weights get their layout, elementwise chains become one op.
#ifndef GIRIH_COMPILER_FUSE_PASSES_TD
#define GIRIH_COMPILER_FUSE_PASSES_TD

include "mlir/Pass/PassBase.td"

def RollLayers : Pass<"girih-roll-layers", "::mlir::ModuleOp"> {
  let summary = "turns runs of calls to the same blocks into loops over layers, and inlines the blocks";
  let description = [{
    Before: a step function calls outlined blocks, each taking the activations of the one before, `girih.weight`s
    and a `girih.kv_layer`. After: each run of equal calls (or of an equal sequence of calls, as where windows
    alternate) is one `scf.for` over layers that carries the activations; weights are `girih.layer_weight`s with one
    name a layer; every call is inlined and the blocks are gone. So code size and compile time do not grow with
    depth. Calls that repeat nothing are inlined as they are.

    Example:
    ```mlir
    func.func private @block_0(%x: tensor<?x4xf32>, %w: tensor<4xf32, #girih.storage<"f32">>) -> tensor<?x4xf32> {
      return %x : tensor<?x4xf32>
    }
    func.func @step_t1(%x: tensor<?x4xf32>) -> tensor<?x4xf32> attributes {girih.max_tokens = 1 : i64} {
      %w0 = girih.weight "blk.0.norm" : tensor<4xf32, #girih.storage<"f32">>
      %w1 = girih.weight "blk.1.norm" : tensor<4xf32, #girih.storage<"f32">>
      %0 = call @block_0(%x, %w0) : (tensor<?x4xf32>, tensor<4xf32, #girih.storage<"f32">>) -> tensor<?x4xf32>
      %1 = call @block_0(%0, %w1) : (tensor<?x4xf32>, tensor<4xf32, #girih.storage<"f32">>) -> tensor<?x4xf32>
      return %1 : tensor<?x4xf32>
    }
    ```
    becomes a loop of two iterations:
    ```mlir
    func.func @step_t1(%x: tensor<?x4xf32>) -> tensor<?x4xf32> attributes {girih.max_tokens = 1 : i64} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %0 = scf.for %layer = %c0 to %c2 step %c1 iter_args(%carried = %x) -> (tensor<?x4xf32>) {
        %w = girih.layer_weight %layer [["blk.0.norm"], ["blk.1.norm"]] : tensor<4xf32, #girih.storage<"f32">>
        scf.yield %carried : tensor<?x4xf32>
      }
      return %0 : tensor<?x4xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::scf::SCFDialect", "::mlir::arith::ArithDialect"];
}

def PlanLayouts : Pass<"girih-plan-layouts", "::mlir::ModuleOp"> {
  let summary = "chooses how each weight lies in the program file";
  let description = [{
    A weight that only `girih.qmatmul` and `girih.gather_rows` read gets the packed layout that its storage format
    has in the formats table; every other weight becomes a dense f32 tensor. Stacked weights (`girih.concat_rows`)
    become one `girih.layer_weight` with several names a layer. `storage` keeps the checkpoint's format, which the
    type no longer tells.

    Example:
    ```mlir
    func.func @step(%x: tensor<?x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
      %c0 = arith.constant 0 : index
      %w = girih.layer_weight %c0 [["head"]] : tensor<64x32xf32, #girih.storage<"q4_1">>
      %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, tensor<64x32xf32, #girih.storage<"q4_1">>)
          outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    ```
    reads the weight packed:
    ```mlir
    func.func @step(%x: tensor<?x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
      %c0 = arith.constant 0 : index
      %w = girih.layer_weight %c0 [["head"]] {storage = "q4_1"} : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
      %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
          outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    ```
  }];
}

def FuseElementwise : Pass<"girih-fuse-elementwise", "::mlir::ModuleOp"> {
  let summary = "makes one op of a chain of elementwise ops";
  let description = [{
    A `linalg.generic` with parallel loops only, whose result has a single use in another, is computed inside it;
    reshapes between them move out of the way. Fills of tensors that are overwritten, dead extents and equal
    expressions go. What follows a `girih.qmatmul` is left as one op that `tile` can put in its epilogue. An op of
    several results becomes one for each, so that each can be computed where it is wanted.

    Example:
    ```mlir
    #id = affine_map<(d0) -> (d0)>
    func.func @chain(%a: tensor<?xf32>, %b: tensor<?xf32>, %init: tensor<?xf32>) -> tensor<?xf32> {
      %0 = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
          ins(%a, %b : tensor<?xf32>, tensor<?xf32>) outs(%init : tensor<?xf32>) {
        ^bb0(%x: f32, %y: f32, %o: f32):
          %s = arith.addf %x, %y : f32
          linalg.yield %s : f32
      } -> tensor<?xf32>
      %1 = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
          ins(%0 : tensor<?xf32>) outs(%init : tensor<?xf32>) {
        ^bb0(%x: f32, %o: f32):
          %s = arith.mulf %x, %x : f32
          linalg.yield %s : f32
      } -> tensor<?xf32>
      return %1 : tensor<?xf32>
    }
    ```
    becomes a single `linalg.generic` that adds and multiplies.
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def NarrowLastLayer : Pass<"girih-narrow-last-layer", "::mlir::ModuleOp"> {
  let summary = "computes what follows the last layer's attention only for the rows that the head reads";
  let description = [{
    Before: a loop over layers gives the activations of all tokens, and a `girih.gather_rows` takes the rows whose logits
    are wanted. After, in steps of 128 tokens or more: the last layer stands behind the loop, and the rows are taken where
    tokens were last mixed; what follows row by row, from the attention's projection to the end of the feed-forward net,
    is computed for them alone. Keys and values are still those of all tokens.

    Example:
    ```mlir
    #id = affine_map<(d0, d1) -> (d0, d1)>
    func.func @step_t128(%rows: tensor<?xi32>, %x: tensor<?x4xf32>, %n: index, %r: index) -> tensor<?x4xf32>
        attributes {girih.max_tokens = 128 : i64} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c30 = arith.constant 30 : index
      %y = scf.for %layer = %c0 to %c30 step %c1 iter_args(%carried = %x) -> (tensor<?x4xf32>) {
        %e = tensor.empty(%n) : tensor<?x4xf32>
        %s = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
            ins(%carried : tensor<?x4xf32>) outs(%e : tensor<?x4xf32>) {
          ^bb0(%u: f32, %o: f32):
            %t = arith.addf %u, %u : f32
            linalg.yield %t : f32
        } -> tensor<?x4xf32>
        scf.yield %s : tensor<?x4xf32>
      }
      %init = tensor.empty(%r) : tensor<?x4xf32>
      %z = girih.gather_rows ins(%rows, %y : tensor<?xi32>, tensor<?x4xf32>) outs(%init : tensor<?x4xf32>)
          -> tensor<?x4xf32>
      return %z : tensor<?x4xf32>
    }
    // CHECK: %[[LAST:.*]] = arith.constant 29 : index
    // CHECK: %[[Y:.*]] = scf.for %{{.*}} = %{{.*}} to %[[LAST]]
    // CHECK: %[[ROWS:.*]] = girih.gather_rows ins(%arg0, %[[Y]]
    // CHECK: linalg.generic {{.*}} ins(%[[ROWS]]
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"];
}

def ReuseOperands : Pass<"girih-reuse-operands", "::mlir::ModuleOp"> {
  let summary = "lets an elementwise op update an operand in place";
  let description = [{
    An elementwise `linalg.generic` that writes a fresh tensor, and reads at the same place an operand that nothing
    reads afterwards, writes that operand instead. So the activations that a loop over layers carries stay in one
    buffer: the residual is added where it lies. An operand that a loop carries is preferred.

    Example:
    ```mlir
    #id = affine_map<(d0) -> (d0)>
    func.func @step_t1(%x: tensor<?xf32>, %y: tensor<?xf32>, %n: index) -> tensor<?xf32>
        attributes {girih.max_tokens = 1 : i64} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %r = scf.for %i = %c0 to %n step %c1 iter_args(%a = %x) -> tensor<?xf32> {
        %e = tensor.empty(%n) : tensor<?xf32>
        %s = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
            ins(%a, %y : tensor<?xf32>, tensor<?xf32>) outs(%e : tensor<?xf32>) {
          ^bb0(%u: f32, %v: f32, %o: f32):
            %t = arith.addf %u, %v : f32
            linalg.yield %t : f32
        } -> tensor<?xf32>
        scf.yield %s : tensor<?xf32>
      }
      return %r : tensor<?xf32>
    }
    ```
    adds into `%a`: `ins(%y) outs(%a)`.
  }];
}

#endif
