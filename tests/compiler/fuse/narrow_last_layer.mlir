// What mixes tokens is computed for all of them, what follows row by row for those that are wanted; short steps stay.
//
// RUN: girih-opt %s -girih-narrow-last-layer -canonicalize -cse | FileCheck %s

#flat = affine_map<(d0, d1) -> (d0, d1)>

// CHECK-LABEL: func.func @step_t128
// CHECK: %[[X:.*]] = scf.for %{{.*}} = %c0 to %c2 step
// CHECK: %[[KV:.*]] = girih.kv_layer 2 :
// CHECK: %[[NEXT:.*]] = girih.kv_append %{{.*}} into %[[KV]]
// CHECK: girih.attention ins(%{{.*}}) cache(%[[NEXT]]
// CHECK: %[[MIXED:.*]] = tensor.collapse_shape
// CHECK-DAG: %[[ATTENDED:.*]] = girih.gather_rows ins(%arg0, %[[MIXED]]
// CHECK-DAG: %[[RESIDUAL:.*]] = girih.gather_rows ins(%arg0, %[[X]]
// CHECK: %[[Y:.*]] = girih.qmatmul ins(%[[ATTENDED]], %{{.*}})
// CHECK: linalg.generic {{.*}} ins(%[[RESIDUAL]], %[[Y]]
// CHECK-NOT: girih.gather_rows
func.func @step_t128(%rows: tensor<?xi32>, %x: tensor<?x16xf32>, %n: index, %r: index) -> tensor<?x16xf32>
    attributes {girih.max_tokens = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %y = scf.for %layer = %c0 to %c3 step %c1 iter_args(%carried = %x) -> (tensor<?x16xf32>) {
    %w = girih.layer_weight %layer [["0.o"], ["1.o"], ["2.o"]] {storage = "q8_0"} : !girih.packed<16 x 16, "p16:s8,f16,none,32">
    %kv = girih.kv_layer 0[%layer] : <2, 8, 8, f16>
    %q = tensor.expand_shape %carried [[0], [1, 2]] output_shape [%n, 2, 8] : tensor<?x16xf32> into tensor<?x2x8xf32>
    %next = girih.kv_append %q, %q into %kv : tensor<?x2x8xf32>, tensor<?x2x8xf32>, <2, 8, 8, f16>
    %e = tensor.empty(%n) : tensor<?x2x8xf32>
    %a = girih.attention ins(%q : tensor<?x2x8xf32>) cache(%next : !girih.kv<2, 8, 8, f16>) outs(%e : tensor<?x2x8xf32>)
        {scale = 1.0 : f32} -> tensor<?x2x8xf32>
    %m = tensor.collapse_shape %a [[0], [1, 2]] : tensor<?x2x8xf32> into tensor<?x16xf32>
    %f = tensor.empty(%n) : tensor<?x16xf32>
    %p = girih.qmatmul ins(%m, %w : tensor<?x16xf32>, !girih.packed<16 x 16, "p16:s8,f16,none,32">)
        outs(%f : tensor<?x16xf32>) -> tensor<?x16xf32>
    %s = linalg.generic {indexing_maps = [#flat, #flat, #flat], iterator_types = ["parallel", "parallel"]}
        ins(%carried, %p : tensor<?x16xf32>, tensor<?x16xf32>) outs(%f : tensor<?x16xf32>) {
      ^bb0(%u: f32, %v: f32, %o: f32):
        %t = arith.addf %u, %v : f32
        linalg.yield %t : f32
    } -> tensor<?x16xf32>
    scf.yield %s : tensor<?x16xf32>
  }
  %init = tensor.empty(%r) : tensor<?x16xf32>
  %z = girih.gather_rows ins(%rows, %y : tensor<?xi32>, tensor<?x16xf32>) outs(%init : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %z : tensor<?x16xf32>
}

// CHECK-LABEL: func.func @step_t8
// CHECK: %[[ALL:.*]] = scf.for %{{.*}} = %c0 to %c2 step
// CHECK: girih.gather_rows ins(%arg0, %[[ALL]]
func.func @step_t8(%rows: tensor<?xi32>, %x: tensor<?x16xf32>, %n: index, %r: index) -> tensor<?x16xf32>
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %y = scf.for %layer = %c0 to %c2 step %c1 iter_args(%carried = %x) -> (tensor<?x16xf32>) {
    %f = tensor.empty(%n) : tensor<?x16xf32>
    %s = linalg.generic {indexing_maps = [#flat, #flat], iterator_types = ["parallel", "parallel"]}
        ins(%carried : tensor<?x16xf32>) outs(%f : tensor<?x16xf32>) {
      ^bb0(%u: f32, %o: f32):
        %t = arith.addf %u, %u : f32
        linalg.yield %t : f32
    } -> tensor<?x16xf32>
    scf.yield %s : tensor<?x16xf32>
  }
  %init = tensor.empty(%r) : tensor<?x16xf32>
  %z = girih.gather_rows ins(%rows, %y : tensor<?xi32>, tensor<?x16xf32>) outs(%init : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %z : tensor<?x16xf32>
}
