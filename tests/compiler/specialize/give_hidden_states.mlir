// RUN: girih-opt %s -girih-give-hidden-states -split-input-file | FileCheck %s

// Of two step functions the one for more tokens is copied, and its head ends where the last projection begins. What is
// scaled and capped behind that projection is no part of it.
// CHECK: module attributes {girih.hidden_size = 8 : i64}
// CHECK-NOT: @hidden_t1
// CHECK: func.func private @head_t64_hidden(%[[X:.*]]: tensor<?x8xf32>, %{{.*}}) -> tensor<?x8xf32>
// CHECK: %[[NORMED:.*]] = linalg.exp ins(%[[X]]
// CHECK-NOT: girih.qmatmul
// CHECK: return %[[NORMED]]
// CHECK: func.func @hidden_t64({{.*}}) -> tensor<?x8xf32> attributes {girih.gives = "hidden", girih.max_tokens = 64 : i64}
// CHECK: %[[HIDDEN:.*]] = call @head_t64_hidden(
// CHECK: return %[[HIDDEN]] : tensor<?x8xf32>
module {
  func.func @step_t1(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
      attributes {girih.max_tokens = 1 : i64} {
    %y = call @head_t64(%x, %w) : (tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
  func.func @step_t64(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
      attributes {girih.max_tokens = 64 : i64} {
    %y = call @head_t64(%x, %w) : (tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
  func.func private @head_t64(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32> {
    %c0 = arith.constant 0 : index
    %t = tensor.dim %x, %c0 : tensor<?x8xf32>
    %empty = tensor.empty(%t) : tensor<?x8xf32>
    %normed = linalg.exp ins(%x : tensor<?x8xf32>) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
    %init = tensor.empty(%t) : tensor<?x32xf32>
    %projected = girih.qmatmul ins(%normed, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>)
        outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
    %capped = linalg.tanh ins(%projected : tensor<?x32xf32>) outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
    return %capped : tensor<?x32xf32>
  }
}

// -----

// A head that stands in the step itself.
// CHECK: func.func @step_t8
// CHECK: func.func @hidden_t8(%[[X:.*]]: tensor<?x8xf32>, %{{.*}}) -> tensor<?x8xf32>
// CHECK-NEXT: return %[[X]]
func.func @step_t8(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %init = tensor.empty(%t) : tensor<?x32xf32>
  %y = girih.qmatmul ins(%x, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>)
      outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// The sum of two projections is no projection: nothing is added.
// CHECK-NOT: hidden
func.func @step_t8(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %init = tensor.empty(%t) : tensor<?x32xf32>
  %a = girih.qmatmul ins(%x, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>)
      outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = linalg.add ins(%a, %a : tensor<?x32xf32>, tensor<?x32xf32>) outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Without a cache the rows are chosen behind the head.
// CHECK-NOT: hidden
module attributes {girih.recompute} {
  func.func @step_t8(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
      attributes {girih.max_tokens = 8 : i64} {
    %c0 = arith.constant 0 : index
    %t = tensor.dim %x, %c0 : tensor<?x8xf32>
    %init = tensor.empty(%t) : tensor<?x32xf32>
    %y = girih.qmatmul ins(%x, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>)
        outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
}
