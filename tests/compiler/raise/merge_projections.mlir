// RUN: girih-opt %s -girih-merge-projections -split-input-file | FileCheck %s

#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
!q = tensor<8x32xf32, #girih.storage<"q8_0">>
!k = tensor<4x32xf32, #girih.storage<"q8_0">>

// Projections of different widths: one contraction, columns one after the other.
// CHECK-LABEL: func.func @queries_and_keys
// CHECK: %[[W:.*]] = girih.concat_rows %arg1, %arg2 interleave 0
// CHECK: %[[Y:.*]] = linalg.matmul {{.*}} ins(%arg0, %[[W]] {{.*}} -> tensor<?x12xf32>
// CHECK-NOT: linalg.matmul
// CHECK: tensor.extract_slice %[[Y]][0, 0] [%{{.*}}, 8] [1, 1]
// CHECK: tensor.extract_slice %[[Y]][0, 8] [%{{.*}}, 4] [1, 1]
func.func @queries_and_keys(%x: tensor<?x32xf32>, %wq: !q, %wk: !k) -> (tensor<?x8xf32>, tensor<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %empty_q = tensor.empty(%t) : tensor<?x8xf32>
  %init_q = linalg.fill ins(%zero : f32) outs(%empty_q : tensor<?x8xf32>) -> tensor<?x8xf32>
  %q = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wq : tensor<?x32xf32>, !q) outs(%init_q : tensor<?x8xf32>) -> tensor<?x8xf32>
  %empty_k = tensor.empty(%t) : tensor<?x4xf32>
  %init_k = linalg.fill ins(%zero : f32) outs(%empty_k : tensor<?x4xf32>) -> tensor<?x4xf32>
  %k = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wk : tensor<?x32xf32>, !k) outs(%init_k : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %q, %k : tensor<?x8xf32>, tensor<?x4xf32>
}

// -----

#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
!a = tensor<4x32xf32, #girih.storage<"q8_0">>
!b = tensor<4x32xf32, #girih.storage<"q4_1">>

// Other formats, other inputs, and a weight that is read twice stay apart.
// CHECK-LABEL: func.func @apart
// CHECK-NOT: girih.concat_rows
func.func @apart(%x: tensor<?x32xf32>, %z: tensor<?x32xf32>, %wa: !a, %wb: !b, %init: tensor<?x4xf32>)
    -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %start = linalg.fill ins(%zero : f32) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
  %0 = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wa : tensor<?x32xf32>, !a) outs(%start : tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wb : tensor<?x32xf32>, !b) outs(%start : tensor<?x4xf32>) -> tensor<?x4xf32>
  %2 = linalg.matmul indexing_maps = [#x, #w, #y] ins(%z, %wa : tensor<?x32xf32>, !a) outs(%start : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %0, %1, %2 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
#id = affine_map<(t, n) -> (t, n)>
!w = tensor<8x32xf32, #girih.storage<"q8_0">>

// Gate and up meet in a product: one tile computes both, so neither is a view of a stored result.
// CHECK-LABEL: func.func @gated
// CHECK-NOT: girih.concat_rows
// CHECK: linalg.matmul
// CHECK: linalg.matmul
func.func @gated(%x: tensor<?x32xf32>, %wg: !w, %wu: !w, %init: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %start = linalg.fill ins(%zero : f32) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %g = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wg : tensor<?x32xf32>, !w) outs(%start : tensor<?x8xf32>) -> tensor<?x8xf32>
  %u = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wu : tensor<?x32xf32>, !w) outs(%start : tensor<?x8xf32>) -> tensor<?x8xf32>
  %a = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%g : tensor<?x8xf32>) outs(%init : tensor<?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %t = math.tanh %in : f32
      linalg.yield %t : f32
  } -> tensor<?x8xf32>
  %p = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a, %u : tensor<?x8xf32>, tensor<?x8xf32>) outs(%init : tensor<?x8xf32>) {
    ^bb0(%l: f32, %r: f32, %out: f32):
      %t = arith.mulf %l, %r : f32
      linalg.yield %t : f32
  } -> tensor<?x8xf32>
  return %p : tensor<?x8xf32>
}
