// SPDX-License-Identifier: Apache-2.0
// A weight that only matmuls and gathers read is packed; any other one is dense f32.
// RUN: girih-opt %s -girih-plan-layouts | FileCheck %s

// CHECK-LABEL: func.func @packs_for_matmul
// CHECK: girih.layer_weight %{{.+}} {{\[\[}}"head"]] {storage = "q4_1"} : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
func.func @packs_for_matmul(%x: tensor<?x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %w = girih.weight "head" : tensor<64x32xf32, #girih.storage<"q4_1">>
  %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, tensor<64x32xf32, #girih.storage<"q4_1">>)
      outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// Stacked weights are one weight of two names.
// CHECK-LABEL: func.func @folds_stacked_weights
// CHECK: girih.layer_weight %{{.+}} {{\[\[}}"q", "k"]] {storage = "q8_0"} : !girih.packed<48 x 32, "p16:s8,f16,none,32">
// CHECK-NOT: girih.concat_rows
func.func @folds_stacked_weights(%x: tensor<?x32xf32>, %init: tensor<?x48xf32>) -> tensor<?x48xf32> {
  %q = girih.weight "q" : tensor<32x32xf32, #girih.storage<"q8_0">>
  %k = girih.weight "k" : tensor<16x32xf32, #girih.storage<"q8_0">>
  %w = girih.concat_rows %q, %k interleave 0 : (tensor<32x32xf32, #girih.storage<"q8_0">>,
      tensor<16x32xf32, #girih.storage<"q8_0">>) -> tensor<48x32xf32, #girih.storage<"q8_0">>
  %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, tensor<48x32xf32, #girih.storage<"q8_0">>)
      outs(%init : tensor<?x48xf32>) -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// CHECK-LABEL: func.func @leaves_vectors_dense
// CHECK: girih.layer_weight %{{.+}} {{\[\[}}"norm"]] {storage = "f16"} : tensor<32xf32>
func.func @leaves_vectors_dense() -> f32 {
  %c0 = arith.constant 0 : index
  %w = girih.weight "norm" : tensor<32xf32, #girih.storage<"f16">>
  %v = tensor.extract %w[%c0] : tensor<32xf32, #girih.storage<"f16">>
  return %v : f32
}
