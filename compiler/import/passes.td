// SPDX-License-Identifier: Apache-2.0
// Passes of stage `import`: a family's textbook graph, checked and brought to its normal form.
#ifndef GIRIH_COMPILER_IMPORT_PASSES_TD
#define GIRIH_COMPILER_IMPORT_PASSES_TD

include "mlir/Pass/PassBase.td"

def VerifyImport : Pass<"girih-verify-import", "::mlir::ModuleOp"> {
  let summary = "checks that a module is an imported graph";
  let description = [{
    Changes nothing. Fails, at the operation's location, unless
    - `@main` exists and takes the tokens as its first argument (i32 or i64, of rank 1, or 2 with a batch) and gives f32 logits;
    - every operation is one of `builtin`, `func`, `arith`, `math`, `tensor`, `linalg`, or `girih.weight`;
    - one weight name has one type everywhere, and no weight is a constant in the IR (a dense float constant of more
      than 65536 elements which is not a splat);
    - no function calls itself, directly or through others.

    Example:
    ```mlir
    func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x8xf32> {
      %c0 = arith.constant 0 : index
      %zero = arith.constant 0.0 : f32
      %t = tensor.dim %tokens, %c0 : tensor<?xi32>
      %empty = tensor.empty(%t) : tensor<?x8xf32>
      %y = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    }
    ```
  }];
}

def CanonicalizeGraph : Pass<"girih-canonicalize-graph", "::mlir::ModuleOp"> {
  let summary = "folds the layout games of importers away";
  let description = [{
    Before: any imported graph. After: a dynamic batch of `@main` is 1 (the step serves many sequences by itself, and
    a graph that is right for every batch is right for a batch of one); transposes of a contraction's operands are in
    its indexing maps; extents of 1 are gone from elementwise operations; arithmetic on whole tensors is
    `linalg.generic`, with casts of whole numbers in the body of who reads them; constants, dead code and common
    subexpressions are folded. Leaves reductions, softmax and anything that computes as it was.

    Example:
    ```mlir
    // A transposed weight becomes an indexing map of the contraction that reads it.
    func.func @project(%x: tensor<?x32xf32>, %w: tensor<64x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
      %empty = tensor.empty() : tensor<32x64xf32>
      %t = linalg.transpose ins(%w : tensor<64x32xf32>) outs(%empty : tensor<32x64xf32>) permutation = [1, 0]
      %y = linalg.matmul ins(%x, %t : tensor<?x32xf32>, tensor<32x64xf32>) outs(%init : tensor<?x64xf32>)
          -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    // CHECK: affine_map<(d0, d1, d2) -> (d1, d2)>
    // CHECK-NOT: linalg.transpose
    ```
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def OutlineBlocks : Pass<"girih-outline-blocks", "::mlir::ModuleOp"> {
  let summary = "makes one function of all layers that are alike";
  let description = [{
    Before: private functions name their weights. After: only `@main` holds `girih.weight` operations, every other
    function takes its weights as trailing arguments, and functions that became identical are one function
    `@block_<k>`; a layer is a call with other weights. Layers whose weights are stored in other formats have other
    types and stay blocks of their own. Functions without a twin keep their name.

    Example:
    ```mlir
    func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = call @layer_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
      %1 = call @layer_1(%0) : (tensor<4xf32>) -> tensor<4xf32>
      return %1 : tensor<4xf32>
    }
    func.func private @layer_0(%x: tensor<4xf32>) -> tensor<4xf32> {
      %w = girih.weight "blk.0.norm" : tensor<4xf32, #girih.storage<"f32">>
      %empty = tensor.empty() : tensor<4xf32>
      %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>)
          outs(%empty : tensor<4xf32>) -> tensor<4xf32>
      return %y : tensor<4xf32>
    }
    func.func private @layer_1(%x: tensor<4xf32>) -> tensor<4xf32> {
      %w = girih.weight "blk.1.norm" : tensor<4xf32, #girih.storage<"f32">>
      %empty = tensor.empty() : tensor<4xf32>
      %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>)
          outs(%empty : tensor<4xf32>) -> tensor<4xf32>
      return %y : tensor<4xf32>
    }
    // CHECK-LABEL: @main
    // CHECK: %[[W0:.*]] = girih.weight "blk.0.norm"
    // CHECK: %[[Y:.*]] = call @block_0(%{{.*}}, %[[W0]])
    // CHECK: %[[W1:.*]] = girih.weight "blk.1.norm"
    // CHECK: call @block_0(%[[Y]], %[[W1]])
    // CHECK: func.func private @block_0
    // CHECK-NOT: func.func private
    ```
  }];
}

#endif
