// RUN: girih-opt %s -girih-outline-blocks -split-input-file | FileCheck %s

// Two layers alike but for weight names become one block, and @main names the weights.
// CHECK-LABEL: func.func @main
// CHECK: %[[W0:.*]] = girih.weight "blk.0.norm"
// CHECK: %[[Y:.*]] = call @block_0(%{{.*}}, %[[W0]])
// CHECK: %[[W1:.*]] = girih.weight "blk.1.norm"
// CHECK: call @block_0(%[[Y]], %[[W1]])
// CHECK: func.func private @block_0
// CHECK-NOT: func.func private
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @layer_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = call @layer_1(%0) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
func.func private @layer_0(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.0.norm" : tensor<4xf32, #girih.storage<"f32">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @layer_1(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.1.norm" : tensor<4xf32, #girih.storage<"f32">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// A layer stored in another format has another type and stays a block of its own, under its own name.
// CHECK-LABEL: func.func @main
// CHECK: call @layer_0
// CHECK: call @layer_1
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @layer_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = call @layer_1(%0) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
func.func private @layer_0(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.0.norm" : tensor<4xf32, #girih.storage<"f32">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @layer_1(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.1.norm" : tensor<4xf32, #girih.storage<"bf16">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"bf16">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// Twins that call twins are merged too, callees first.
// CHECK-LABEL: func.func @main
// CHECK: call @[[OUTER:block_[0-9]+]](
// CHECK: call @[[OUTER]](
// CHECK: func.func private @{{block_[0-9]+}}
// CHECK: func.func private @{{block_[0-9]+}}
// CHECK-NOT: func.func private
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @layer_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = call @layer_1(%0) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
func.func private @layer_0(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = call @norm_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @layer_1(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = call @norm_1(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @norm_0(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.0.norm" : tensor<4xf32, #girih.storage<"f32">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func private @norm_1(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = girih.weight "blk.1.norm" : tensor<4xf32, #girih.storage<"f32">>
  %empty = tensor.empty() : tensor<4xf32>
  %y = linalg.mul ins(%x, %w : tensor<4xf32>, tensor<4xf32, #girih.storage<"f32">>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
