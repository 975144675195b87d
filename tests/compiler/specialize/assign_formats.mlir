// RUN: girih-opt %s -girih-assign-formats -split-input-file | FileCheck %s

#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
!w = tensor<64x32xf32, #girih.storage<"q4_1">>

// A projection keeps its stored weight; the zeros it started from are gone.
// CHECK-LABEL: func.func @projection
// CHECK-NOT: linalg
// CHECK: girih.qmatmul ins(%arg0, %arg1 {{.*}}) outs(%arg2
func.func @projection(%x: tensor<?x32xf32>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %zero = arith.constant 0.0 : f32
  %start = linalg.fill ins(%zero : f32) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  %y = linalg.generic {indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : tensor<?x32xf32>, !w) outs(%start : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32, %sum: f32):
    %product = arith.mulf %a, %b : f32
    %next = arith.addf %sum, %product : f32
    linalg.yield %next : f32
  } -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
!w = tensor<64x32xf32, #girih.storage<"q8_0">>

// A named contraction that starts from a bias: the product, and the bias added.
// CHECK-LABEL: func.func @starts_from_bias
// CHECK: %[[Y:.*]] = girih.qmatmul
// CHECK: linalg.generic {{.*}} ins(%[[Y]], %arg2
// CHECK: arith.addf
func.func @starts_from_bias(%x: tensor<?x32xf32>, %w: !w, %bias: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %w : tensor<?x32xf32>, !w) outs(%bias : tensor<?x64xf32>)
      -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// The embedding: whole rows of a stored matrix by index.
// CHECK-LABEL: func.func @embedding
// CHECK: girih.gather_rows ins(%arg0, %arg1
// CHECK-NOT: linalg.generic
func.func @embedding(%tokens: tensor<?xi32>, %table: tensor<128x32xf32, #girih.storage<"q8_0">>, %init: tensor<?x32xf32>)
    -> tensor<?x32xf32> {
  %x = linalg.generic {indexing_maps = [affine_map<(t, e) -> (t)>, affine_map<(t, e) -> (t, e)>],
                       iterator_types = ["parallel", "parallel"]} ins(%tokens : tensor<?xi32>) outs(%init : tensor<?x32xf32>) {
  ^bb0(%token: i32, %out: f32):
    %row = arith.index_cast %token : i32 to index
    %column = linalg.index 1 : index
    %element = tensor.extract %table[%row, %column] : tensor<128x32xf32, #girih.storage<"q8_0">>
    linalg.yield %element : f32
  } -> tensor<?x32xf32>
  return %x : tensor<?x32xf32>
}

// -----

// A weight of one dimension stays an operand, and so does a product of two activations.
// CHECK-LABEL: func.func @left_alone
// CHECK: linalg.mul
// CHECK: linalg.matmul
// CHECK-NOT: girih.qmatmul
func.func @left_alone(%x: tensor<32xf32>, %w: tensor<32xf32, #girih.storage<"f32">>, %a: tensor<4x32xf32>,
                      %b: tensor<32x4xf32>, %init: tensor<32xf32>, %c: tensor<4x4xf32>) -> (tensor<32xf32>, tensor<4x4xf32>) {
  %y = linalg.mul ins(%x, %w : tensor<32xf32>, tensor<32xf32, #girih.storage<"f32">>) outs(%init : tensor<32xf32>) -> tensor<32xf32>
  %z = linalg.matmul ins(%a, %b : tensor<4x32xf32>, tensor<32x4xf32>) outs(%c : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %y, %z : tensor<32xf32>, tensor<4x4xf32>
}
