// SPDX-License-Identifier: Apache-2.0
// Runs of equal calls become loops over layers; every call is inlined.
// RUN: girih-opt %s -girih-roll-layers -split-input-file | FileCheck %s

#w = #girih.storage<"f32">
#id = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d1)>
func.func private @block_0(%x: tensor<?x4xf32>, %w: tensor<4xf32, #w>, %kv: !girih.kv<1, 4, 4, f32>) -> tensor<?x4xf32> {
  %k = tensor.empty() : tensor<1x1x4xf32>
  %n = girih.kv_append %k, %k into %kv : tensor<1x1x4xf32>, tensor<1x1x4xf32>, !girih.kv<1, 4, 4, f32>
  %0 = linalg.generic {indexing_maps = [#row, #id], iterator_types = ["parallel", "parallel"]}
      ins(%w : tensor<4xf32, #w>) outs(%x : tensor<?x4xf32>) {
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %b : f32
      linalg.yield %s : f32
  } -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
// Three equal calls: one loop, weights by name, caches by number.
// CHECK-LABEL: func.func @rolls_equal_calls
// CHECK: %[[N:.+]] = arith.constant 3 : index
// CHECK: scf.for %[[LAYER:.+]] = %{{.+}} to %[[N]] step %{{.+}} iter_args(%[[X:.+]] = %{{.+}})
// CHECK-DAG: girih.layer_weight %[[LAYER]] {{\[\[}}"n0"], ["n1"], ["n2"]]
// CHECK-DAG: girih.kv_layer 0[%[[LAYER]]]
// CHECK: linalg.generic
// CHECK-NOT: call @
func.func @rolls_equal_calls(%x: tensor<?x4xf32>) -> tensor<?x4xf32> attributes {girih.max_tokens = 1 : i64} {
  %w0 = girih.weight "n0" : tensor<4xf32, #w>
  %w1 = girih.weight "n1" : tensor<4xf32, #w>
  %w2 = girih.weight "n2" : tensor<4xf32, #w>
  %k0 = girih.kv_layer 0 : !girih.kv<1, 4, 4, f32>
  %k1 = girih.kv_layer 1 : !girih.kv<1, 4, 4, f32>
  %k2 = girih.kv_layer 2 : !girih.kv<1, 4, 4, f32>
  %0 = call @block_0(%x, %w0, %k0) : (tensor<?x4xf32>, tensor<4xf32, #w>, !girih.kv<1, 4, 4, f32>) -> tensor<?x4xf32>
  %1 = call @block_0(%0, %w1, %k1) : (tensor<?x4xf32>, tensor<4xf32, #w>, !girih.kv<1, 4, 4, f32>) -> tensor<?x4xf32>
  %2 = call @block_0(%1, %w2, %k2) : (tensor<?x4xf32>, tensor<4xf32, #w>, !girih.kv<1, 4, 4, f32>) -> tensor<?x4xf32>
  return %2 : tensor<?x4xf32>
}

// -----

#w = #girih.storage<"f32">
func.func private @block_0(%x: tensor<4xf32>, %w: tensor<4xf32, #w>) -> tensor<4xf32> {
  %s = arith.negf %x : tensor<4xf32>
  return %s : tensor<4xf32>
}
// The second call does not take what the first one gave: nothing is carried, nothing rolls, both are inlined.
// CHECK-LABEL: func.func @keeps_calls_that_carry_nothing
// CHECK-NOT: scf.for
// CHECK-COUNT-2: arith.negf
func.func @keeps_calls_that_carry_nothing(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %w0 = girih.weight "n0" : tensor<4xf32, #w>
  %w1 = girih.weight "n1" : tensor<4xf32, #w>
  %0 = call @block_0(%x, %w0) : (tensor<4xf32>, tensor<4xf32, #w>) -> tensor<4xf32>
  %1 = call @block_0(%y, %w1) : (tensor<4xf32>, tensor<4xf32, #w>) -> tensor<4xf32>
  %2 = arith.addf %0, %1 : tensor<4xf32>
  return %2 : tensor<4xf32>
}
