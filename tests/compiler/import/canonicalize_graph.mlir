// RUN: girih-opt %s -girih-canonicalize-graph -split-input-file | FileCheck %s

// A transposed weight becomes an indexing map of the contraction that reads it, also through a generic transpose.
// CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-LABEL: func.func @transposed_weight
// CHECK-NOT: transpose
// CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]]
// CHECK-SAME: ins(%{{.*}}, %arg1
func.func @transposed_weight(%x: tensor<?x32xf32>, %w: tensor<64x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %empty = tensor.empty() : tensor<32x64xf32>
  %t = linalg.transpose ins(%w : tensor<64x32xf32>) outs(%empty : tensor<32x64xf32>) permutation = [1, 0]
  %y = linalg.matmul ins(%x, %t : tensor<?x32xf32>, tensor<32x64xf32>) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// A transpose that something else reads stays for it.
// CHECK-LABEL: func.func @transpose_returned
// CHECK: linalg.transpose
func.func @transpose_returned(%w: tensor<64x32xf32>) -> tensor<32x64xf32> {
  %empty = tensor.empty() : tensor<32x64xf32>
  %t = linalg.transpose ins(%w : tensor<64x32xf32>) outs(%empty : tensor<32x64xf32>) permutation = [1, 0]
  return %t : tensor<32x64xf32>
}

// -----

// A dynamic batch is one sequence, ids are i32 and widened by who reads them, and no operation keeps the extent of 1.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[TOKENS:.*]]: tensor<?xi32>) -> tensor<?x8xf32>
// CHECK-NOT: tensor<1x
// CHECK: linalg.generic {{.*}} ins(%[[TOKENS]] : tensor<?xi32>) outs(%{{.*}} : tensor<?x8xf32>)
// CHECK: arith.extui %{{.*}} : i32 to i64
// CHECK-NOT: tensor<1x
func.func @main(%tokens: tensor<?x?xi64>) -> tensor<?x?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %b = tensor.dim %tokens, %c0 : tensor<?x?xi64>
  %s = tensor.dim %tokens, %c1 : tensor<?x?xi64>
  %empty = tensor.empty(%b, %s) : tensor<?x?x8xf32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(b, s, e) -> (b, s)>, affine_map<(b, s, e) -> (b, s, e)>],
      iterator_types = ["parallel", "parallel", "parallel"]} ins(%tokens : tensor<?x?xi64>) outs(%empty : tensor<?x?x8xf32>) {
  ^bb0(%token: i64, %out: f32):
    %number = arith.sitofp %token : i64 to f32
    linalg.yield %number : f32
  } -> tensor<?x?x8xf32>
  return %y : tensor<?x?x8xf32>
}

// -----

// Arithmetic on whole tensors gets a destination.
// CHECK-LABEL: func.func @arithmetic_on_tensors
// CHECK: linalg.generic {{.*}} ins(%arg0, %arg1 :
// CHECK-NEXT: ^bb0
// CHECK-NEXT: arith.mulf
func.func @arithmetic_on_tensors(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  %z = arith.mulf %x, %y : tensor<?xf32>
  return %z : tensor<?xf32>
}

// A number written everywhere is a fill, however it was spelled: later stages look for the zero that a sum starts from.
// CHECK-LABEL: func.func @fill_as_generic
// CHECK: linalg.fill
func.func @fill_as_generic(%init: tensor<?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  %zeros = linalg.generic {indexing_maps = [affine_map<(d) -> ()>, affine_map<(d) -> (d)>], iterator_types = ["parallel"]}
      ins(%zero : f32) outs(%init : tensor<?xf32>) {
  ^bb0(%number: f32, %out: f32):
    linalg.yield %number : f32
  } -> tensor<?xf32>
  return %zeros : tensor<?xf32>
}

// -----

// A shape of known numbers is a reshape of dimensions; what an exporter asserts of extents has no code.
// CHECK-LABEL: func.func @main
// CHECK-NOT: cf.assert
// CHECK-NOT: tensor.reshape
// CHECK: linalg.fill {{.*}} -> tensor<?x8xf32>
func.func @main(%tokens: tensor<?x?xi64>) -> tensor<?x?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %b = tensor.dim %tokens, %c0 : tensor<?x?xi64>
  %s = tensor.dim %tokens, %c1 : tensor<?x?xi64>
  %some = arith.cmpi sgt, %s, %c0 : index
  cf.assert %some, "expected tokens"
  %one = arith.constant 1.0 : f32
  %empty = tensor.empty(%b, %s) : tensor<?x?x2x4xf32>
  %heads = linalg.fill ins(%one : f32) outs(%empty : tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32>
  %batch = arith.index_cast %b : index to i64
  %length = arith.index_cast %s : index to i64
  %eight = arith.constant 8 : i64
  %shape = tensor.from_elements %batch, %length, %eight : tensor<3xi64>
  %y = tensor.reshape %heads(%shape) : (tensor<?x?x2x4xf32>, tensor<3xi64>) -> tensor<?x?x8xf32>
  return %y : tensor<?x?x8xf32>
}
