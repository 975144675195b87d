// SPDX-License-Identifier: Apache-2.0
// Every compute op ends up in one parallel loop; what follows a matmul is its epilogue.
// RUN: girih-opt %s -girih-tile-dispatches | FileCheck %s

#id = affine_map<(d0, d1) -> (d0, d1)>
!w = !girih.packed<128 x 32, "p16:u4,f16,f16,32">

// CHECK-LABEL: func.func @adds_in_the_epilogue
// CHECK: scf.forall (%[[N:.+]]) = (0) to (128) step (64)
// CHECK: girih.qmatmul ins(%{{.+}}, %{{.+}}[%{{.+}}] :
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK: girih.dispatch = "generic
// CHECK-NOT: scf.forall
func.func @adds_in_the_epilogue(%x: tensor<?x32xf32>, %w: !w, %r: tensor<?x128xf32>, %n: index) -> tensor<?x128xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %e = tensor.empty(%n) : tensor<?x128xf32>
  %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !w) outs(%e : tensor<?x128xf32>)
      {strategy = "direct", row_tile = 1 : i64, column_tile = 64 : i64, k_tile = 32 : i64} -> tensor<?x128xf32>
  %s = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%y, %r : tensor<?x128xf32>, tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) {
    ^bb0(%a: f32, %b: f32, %o: f32):
      %t = arith.addf %a, %b : f32
      linalg.yield %t : f32
  } -> tensor<?x128xf32>
  return %s : tensor<?x128xf32>
}

// Attention's work grows along the prompt: its units are dealt out in turn.
// CHECK-LABEL: func.func @appends_before_it_attends
// CHECK: scf.forall
// CHECK: girih.kv_append
// CHECK: girih.dispatch = "kv_append"
// CHECK: scf.forall
// CHECK: girih.attention
// CHECK: girih.distribution = "cyclic"
func.func @appends_before_it_attends(%q: tensor<?x4x16xf32>, %k: tensor<?x2x16xf32>, %v: tensor<?x2x16xf32>,
    %kv: !girih.kv<2, 16, 16, f16>, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 8 : i64} {
  %next = girih.kv_append %k, %v into %kv : tensor<?x2x16xf32>, tensor<?x2x16xf32>, !girih.kv<2, 16, 16, f16>
  %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%next : !girih.kv<2, 16, 16, f16>)
      outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32, query_tile = 4 : i64} -> tensor<?x4x16xf32>
  return %o : tensor<?x4x16xf32>
}
