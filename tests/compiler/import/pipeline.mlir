// RUN: girih-opt %s -girih-import | FileCheck %s

// After the stage: like layers are one block, @main names all weights, and the transposed weight is read as it lies.
// CHECK-LABEL: func.func @main
// CHECK: girih.weight "blk.0.w"
// CHECK: call @block_0
// CHECK: girih.weight "blk.1.w"
// CHECK: call @block_0
// CHECK: func.func private @block_0(%{{.*}}: tensor<?x8xf32>, %[[W:.*]]: tensor<8x8xf32, #girih.storage<"f32">>)
// CHECK-NOT: girih.weight
// CHECK-NOT: transpose
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[W]] :
!w = tensor<8x8xf32, #girih.storage<"f32">>
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %empty = tensor.empty(%t) : tensor<?x8xf32>
  %one = arith.constant 1.0 : f32
  %x = linalg.fill ins(%one : f32) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
  %0 = call @layer_0(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = call @layer_1(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %1 : tensor<?x8xf32>
}
func.func private @layer_0(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %w = girih.weight "blk.0.w" : !w
  %other = tensor.empty() : tensor<8x8xf32>
  %wt = linalg.transpose ins(%w : !w) outs(%other : tensor<8x8xf32>) permutation = [1, 0]
  %y = linalg.matmul ins(%x, %wt : tensor<?x8xf32>, tensor<8x8xf32>) outs(%x : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
func.func private @layer_1(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %w = girih.weight "blk.1.w" : !w
  %other = tensor.empty() : tensor<8x8xf32>
  %wt = linalg.transpose ins(%w : !w) outs(%other : tensor<8x8xf32>) permutation = [1, 0]
  %y = linalg.matmul ins(%x, %wt : tensor<?x8xf32>, tensor<8x8xf32>) outs(%x : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
