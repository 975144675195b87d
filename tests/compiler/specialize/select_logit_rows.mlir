// RUN: girih-opt %s -girih-select-logit-rows -split-input-file | FileCheck %s

// Rows are chosen in front of the head, which then computes only them.
// CHECK-LABEL: @main
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x8xf32>, %[[ROWS:[a-z0-9]+]]: tensor<?xi32>)
// CHECK: %[[KEPT:.*]] = girih.gather_rows ins(%[[ROWS]], %[[X]]
// CHECK: %[[LOGITS:.*]] = call @head(%[[KEPT]])
// CHECK: return %[[LOGITS]]
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = call @head(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
func.func private @head(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  return %x : tensor<?x8xf32>
}

// -----

// A last block with attention in it needs all tokens: the rows are chosen at the end.
// CHECK-LABEL: @main
// CHECK: %[[ALL:.*]] = call @block_0
// CHECK: %[[KEPT:.*]] = girih.gather_rows ins(%{{.*}}, %[[ALL]]
// CHECK: return %[[KEPT]]
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = call @block_0(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
func.func private @block_0(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %q = tensor.expand_shape %x [[0], [1, 2]] output_shape [%t, 1, 8] : tensor<?x8xf32> into tensor<?x1x8xf32>
  %init = tensor.empty(%t) : tensor<?x1x8xf32>
  %o = girih.attention ins(%q : tensor<?x1x8xf32>) keys(%q, %q : tensor<?x1x8xf32>, tensor<?x1x8xf32>)
      outs(%init : tensor<?x1x8xf32>) {scale = 1.0 : f32} -> tensor<?x1x8xf32>
  %y = tensor.collapse_shape %o [[0], [1, 2]] : tensor<?x1x8xf32> into tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
