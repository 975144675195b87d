// RUN: girih-opt %s -girih-insert-kv-cache -split-input-file -verify-diagnostics | FileCheck %s

// Two layers of one block: two layers of the cache, handed down as an argument.
// CHECK-LABEL: func.func @main
// CHECK: %[[KV0:.*]] = girih.kv_layer 0
// CHECK: call @block_0(%{{.*}}, %[[KV0]])
// CHECK: %[[KV1:.*]] = girih.kv_layer 1
// CHECK: call @block_0(%{{.*}}, %[[KV1]])
// CHECK: func.func private @block_0(%[[X:.*]]: tensor<?x1x8xf32>, %[[KV:.*]]: !girih.kv<1, 8, 8, f16>)
// CHECK: %[[NEXT:.*]] = girih.kv_append %[[X]], %[[X]] into %[[KV]]
// CHECK: girih.attention ins(%[[X]] : tensor<?x1x8xf32>) cache(%[[NEXT]]
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x1x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %empty = tensor.empty(%t) : tensor<?x1x8xf32>
  %x = linalg.generic {indexing_maps = [affine_map<(t, h, d) -> (t)>, affine_map<(t, h, d) -> (t, h, d)>],
      iterator_types = ["parallel", "parallel", "parallel"]} ins(%tokens : tensor<?xi32>) outs(%empty : tensor<?x1x8xf32>) {
  ^bb0(%token: i32, %out: f32):
    %number = arith.sitofp %token : i32 to f32
    linalg.yield %number : f32
  } -> tensor<?x1x8xf32>
  %y = call @block_0(%x) : (tensor<?x1x8xf32>) -> tensor<?x1x8xf32>
  %z = call @block_0(%y) : (tensor<?x1x8xf32>) -> tensor<?x1x8xf32>
  return %z : tensor<?x1x8xf32>
}
func.func private @block_0(%x: tensor<?x1x8xf32>) -> tensor<?x1x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x1x8xf32>
  %init = tensor.empty(%t) : tensor<?x1x8xf32>
  %o = girih.attention ins(%x : tensor<?x1x8xf32>) keys(%x, %x : tensor<?x1x8xf32>, tensor<?x1x8xf32>)
      outs(%init : tensor<?x1x8xf32>) {scale = 1.0 : f32} -> tensor<?x1x8xf32>
  return %o : tensor<?x1x8xf32>
}

// -----

// The number of a token in the graph is its position in the step.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[TOKENS:[a-z0-9]+]]: tensor<?xi32>, %[[POSITIONS:[a-z0-9]+]]: tensor<?xi32>)
// CHECK: linalg.generic
// CHECK-SAME: ins(%[[TOKENS]], %[[POSITIONS]]
// CHECK-NOT: linalg.index 0
// CHECK: arith.index_cast
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %empty = tensor.empty(%t) : tensor<?xf32>
  %x = linalg.generic {indexing_maps = [affine_map<(t) -> (t)>, affine_map<(t) -> (t)>], iterator_types = ["parallel"]}
      ins(%tokens : tensor<?xi32>) outs(%empty : tensor<?xf32>) {
  ^bb0(%token: i32, %out: f32):
    %at = linalg.index 0 : index
    %i = arith.index_cast %at : index to i32
    %sum = arith.addi %i, %token : i32
    %number = arith.sitofp %sum : i32 to f32
    linalg.yield %number : f32
  } -> tensor<?xf32>
  return %x : tensor<?xf32>
}

// -----

// A sum over the tokens is no step: the graph stays as it is, with the reason.
// CHECK: module attributes {girih.notes = ["{{.*}}runs without a cache: `linalg.generic` reduces over the tokens"], girih.recompute}
// CHECK-NOT: girih.kv
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<i32> {
  %empty = tensor.empty() : tensor<i32>
  // expected-remark @below {{runs without a cache: reduces over the tokens}}
  %x = linalg.generic {indexing_maps = [affine_map<(t) -> (t)>, affine_map<(t) -> ()>], iterator_types = ["reduction"]}
      ins(%tokens : tensor<?xi32>) outs(%empty : tensor<i32>) {
  ^bb0(%token: i32, %sum: i32):
    %next = arith.addi %token, %sum : i32
    linalg.yield %next : i32
  } -> tensor<i32>
  return %x : tensor<i32>
}

// -----

// Neither is a slice of the tokens,
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<1xi32> {
  // expected-remark @below {{runs without a cache: takes some of the tokens}}
  %x = tensor.extract_slice %tokens[0] [1] [1] : tensor<?xi32> to tensor<1xi32>
  return %x : tensor<1xi32>
}

// -----

// nor a convolution over them,
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %w: tensor<3xi32>, %init: tensor<?xi32>) -> tensor<?xi32> {
  // expected-remark @below {{runs without a cache: reads tokens at a computed index, so a token depends on others}}
  %x = linalg.conv_1d ins(%tokens, %w : tensor<?xi32>, tensor<3xi32>) outs(%init : tensor<?xi32>) -> tensor<?xi32>
  return %x : tensor<?xi32>
}

// -----

// nor a softmax of them.
func.func @main(%tokens: tensor<?xf32>, %positions: tensor<?xi32>, %init: tensor<?xf32>) -> tensor<?xf32> {
  // expected-remark @below {{runs without a cache: normalises over the tokens}}
  %x = linalg.softmax dimension(0) ins(%tokens : tensor<?xf32>) outs(%init : tensor<?xf32>) -> tensor<?xf32>
  return %x : tensor<?xf32>
}
