// SPDX-License-Identifier: Apache-2.0
// Passes of stage `specialize`: from a graph of one sequence to the ragged step with a paged KV cache.
#ifndef GIRIH_COMPILER_SPECIALIZE_PASSES_TD
#define GIRIH_COMPILER_SPECIALIZE_PASSES_TD

include "mlir/Pass/PassBase.td"

def InsertKvCache : Pass<"girih-insert-kv-cache", "::mlir::ModuleOp"> {
  let summary = "gives every attention its cache, after proving that nothing else mixes tokens";
  let description = [{
    Before: a stateless graph of one sequence whose attention is raised. After: every `girih.attention` appends its
    keys and values to a cache and reads the cache, whose layer `@main` names (`girih.kv_layer`) and hands down; the
    same functions are right for a ragged step of tokens of any sequences. The proof: every tensor's token dimension
    is followed through all operations and calls; each operation other than attention must compute a token's elements
    from that token's elements only. The index of a token is its position, read from `@main`'s positions.
    Where something else mixes tokens (a softmax or sum over tokens, a shifted or sliced read, a running sum,
    attention that was not raised) nothing is changed but for the module's attributes: `girih.recompute`, and the
    reasons with their locations in `girih.notes`; such a graph runs by computing its prefix again.

    Example:
    ```mlir
    func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %x: tensor<8xf32>) -> tensor<?x1x8xf32> {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %tokens, %c0 : tensor<?xi32>
      %empty = tensor.empty(%t) : tensor<?x1x8xf32>
      %q = linalg.generic {
          indexing_maps = [affine_map<(t, h, d) -> (t)>, affine_map<(t, h, d) -> (d)>,
                           affine_map<(t, h, d) -> (t, h, d)>],
          iterator_types = ["parallel", "parallel", "parallel"]}
          ins(%tokens, %x : tensor<?xi32>, tensor<8xf32>) outs(%empty : tensor<?x1x8xf32>) {
      ^bb0(%token: i32, %element: f32, %out: f32):
        %number = arith.sitofp %token : i32 to f32
        %product = arith.mulf %number, %element : f32
        linalg.yield %product : f32
      } -> tensor<?x1x8xf32>
      %y = girih.attention ins(%q : tensor<?x1x8xf32>) keys(%q, %q : tensor<?x1x8xf32>, tensor<?x1x8xf32>)
          outs(%empty : tensor<?x1x8xf32>) {scale = 1.0 : f32} -> tensor<?x1x8xf32>
      return %y : tensor<?x1x8xf32>
    }
    // CHECK: %[[KV:.*]] = girih.kv_layer 0
    // CHECK: %[[NEXT:.*]] = girih.kv_append %[[Q:.*]], %[[Q]] into %[[KV]]
    // CHECK: girih.attention ins(%[[Q]] : tensor<?x1x8xf32>) cache(%[[NEXT]] : !girih.kv<1, 8, 8, f16>)
    ```
  }];
  let options = [Option<"kvElement", "kv-element", "std::string", /*default=*/"\"f16\"",
                        "element type of the cache: f32, f16 or int8">];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::linalg::LinalgDialect"];
}

def SpellOut : Pass<"girih-spell-out", "::mlir::ModuleOp"> {
  let summary = "spells out what has no loops of its own: concatenation and softmax";
  let description = [{
    Before: `tensor.concat` of channels or heads, as importers write a rotation. After: an empty tensor into which each
    part is inserted; a part that is a view, or that others read too, is copied by an operation of its own. A
    `linalg.softmax` that was no attention becomes its maximum, exponentials, sum and quotient. Leaves a concatenation
    along a dynamic extent.

    Example:
    ```mlir
    func.func @turned(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x8xf32> {
      %z = tensor.concat dim(1) %x, %y : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
      return %z : tensor<?x8xf32>
    }
    // CHECK: %[[LEFT:.*]] = linalg.copy ins(%arg0
    // CHECK: tensor.insert_slice %[[LEFT]] into %{{.*}}[0, 0]
    // CHECK: %[[RIGHT:.*]] = linalg.copy ins(%arg1
    // CHECK: tensor.insert_slice %[[RIGHT]] into %{{.*}}[0, 4]
    ```
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def SelectLogitRows : Pass<"girih-select-logit-rows", "::mlir::ModuleOp"> {
  let summary = "computes logits only for the tokens that are asked for";
  let description = [{
    Before: `@main` gives the logits of every token. After: `@main` has a last argument, the rows (i32) whose logits
    are wanted, and gives theirs, in that order. The rows are gathered in front of the last call when it is given
    tokens in one operand and mixes none (the head of a model), else at the end.

    Example:
    ```mlir
    func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
      %y = call @head(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    }
    func.func private @head(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
      return %x : tensor<?x8xf32>
    }
    // CHECK-LABEL: @main
    // CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x8xf32>, %[[ROWS:[a-z0-9]+]]: tensor<?xi32>)
    // CHECK: %[[KEPT:.*]] = girih.gather_rows ins(%[[ROWS]], %[[X]]
    // CHECK: call @head(%[[KEPT]])
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::tensor::TensorDialect"];
}

def AssignFormats : Pass<"girih-assign-formats", "::mlir::ModuleOp"> {
  let summary = "computes with weights as they are stored";
  let description = [{
    Before: contractions and lookups read weights as if they were f32 tensors. After: a contraction of activations
    [T, K] with a stored weight [N, K] is `girih.qmatmul`, whose kernel dequantises; a lookup of rows of a stored
    weight is `girih.gather_rows`. The stored format is kept. Weights of one dimension (norms, biases) stay operands
    of elementwise operations.

    Example:
    ```mlir
    func.func @project(%x: tensor<?x32xf32>, %w: tensor<64x32xf32, #girih.storage<"q4_1">>, %init: tensor<?x64xf32>)
        -> tensor<?x64xf32> {
      %zero = arith.constant 0.0 : f32
      %start = linalg.fill ins(%zero : f32) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
      %y = linalg.generic {
          indexing_maps = [affine_map<(t, n, k) -> (t, k)>, affine_map<(t, n, k) -> (n, k)>,
                           affine_map<(t, n, k) -> (t, n)>],
          iterator_types = ["parallel", "parallel", "reduction"]}
          ins(%x, %w : tensor<?x32xf32>, tensor<64x32xf32, #girih.storage<"q4_1">>) outs(%start : tensor<?x64xf32>) {
      ^bb0(%a: f32, %b: f32, %sum: f32):
        %product = arith.mulf %a, %b : f32
        %next = arith.addf %sum, %product : f32
        linalg.yield %next : f32
      } -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    // CHECK: girih.qmatmul ins(%{{.*}}, %{{.*}} : tensor<?x32xf32>, tensor<64x32xf32, #girih.storage<"q4_1">>)
    // CHECK-NOT: linalg.generic
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::linalg::LinalgDialect"];
}

def SplitPhases : Pass<"girih-split-phases", "::mlir::ModuleOp"> {
  let summary = "makes a step function for each number of tokens worth its own code";
  let description = [{
    Before: one `@main`. After: for each bound N of `max-tokens` a function `@step_t<N>` with the attribute
    `girih.max_tokens = N`, with its own copies of the functions it calls (`@block_0_t1`), so that later stages may
    treat a decode step and a prefill chunk differently; `@main` is gone. `girih.model` moves to the module.

    Example:
    ```mlir
    func.func @main(%tokens: tensor<?xi32>) -> tensor<?xi32> {
      %0 = call @block_0(%tokens) : (tensor<?xi32>) -> tensor<?xi32>
      return %0 : tensor<?xi32>
    }
    func.func private @block_0(%x: tensor<?xi32>) -> tensor<?xi32> {
      return %x : tensor<?xi32>
    }
    // CHECK-NOT: @main
    // CHECK: func.func @step_t1(%{{.*}}: tensor<?xi32>) -> tensor<?xi32> attributes {girih.max_tokens = 1 : i64}
    // CHECK: call @block_0_t1(
    // CHECK: func.func private @block_0_t1
    ```
  }];
  let options = [ListOption<"maxTokens", "max-tokens", "int64_t",
                            "most tokens of each step function, ascending (default: 1,8,512)">];
}

def GiveHiddenStates : Pass<"girih-give-hidden-states", "::mlir::ModuleOp"> {
  let summary = "adds a step function that gives the hidden states of the wanted rows in place of their logits";
  let description = [{
    Before: step functions whose logits are a projection by a stored weight, in the step or in the head that it calls,
    perhaps scaled or capped behind it. After: of the step function for the most tokens there is a copy `@hidden_t<N>`,
    with the attribute `girih.gives = "hidden"`, that returns what this projection reads: the activations behind the last
    norm. `girih.hidden_size` of the module is how many there are in a row. Nothing is added where something else gives
    the logits, or where a step has no cache.

    Example:
    ```mlir
    func.func @step_t8(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x8xf32>,
                       %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32> attributes {girih.max_tokens = 8 : i64} {
      %y = call @head_t8(%x, %w) : (tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    func.func private @head_t8(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32> {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %x, %c0 : tensor<?x8xf32>
      %empty = tensor.empty(%t) : tensor<?x8xf32>
      %normed = linalg.exp ins(%x : tensor<?x8xf32>) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
      %init = tensor.empty(%t) : tensor<?x32xf32>
      %y = girih.qmatmul ins(%normed, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>)
          outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    // CHECK: func.func private @head_t8_hidden({{.*}}) -> tensor<?x8xf32>
    // CHECK: %[[NORMED:.*]] = linalg.exp
    // CHECK-NOT: girih.qmatmul
    // CHECK: return %[[NORMED]]
    // CHECK: func.func @hidden_t8({{.*}}) -> tensor<?x8xf32> attributes {girih.gives = "hidden", girih.max_tokens = 8 : i64}
    // CHECK: call @head_t8_hidden(
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect"];
}

#endif
