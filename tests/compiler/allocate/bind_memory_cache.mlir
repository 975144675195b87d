// SPDX-License-Identifier: Apache-2.0
// The cache's layers begin at cache lines whatever their heads, and a step without a cache has one line of it.
// RUN: girih-opt %s -split-input-file -girih-bind-memory | FileCheck %s

// A layer is 16 * (5 + 6) f16 = 352 bytes.
// CHECK: module attributes {girih.kv_block_bytes = 768 : i64, girih.kv_layers = 2 : i64
// CHECK: %[[AT:.+]] = arith.constant 384 : index
// CHECK: girih.kv_at %[[AT]] {block_bytes = 768 : i64} : <1, 5, 6, f16>
func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %first = girih.kv_layer 0 : !girih.kv<1, 5, 6, f16>
  %second = girih.kv_layer 1 : !girih.kv<1, 5, 6, f16>
  %m = tensor.dim %rows, %c0 : tensor<?xi32>
  %f = tensor.empty(%m) : tensor<?x16xf32>
  %y = linalg.fill ins(%zero : f32) outs(%f : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// CHECK: module attributes {girih.kv_block_bytes = 64 : i64, girih.kv_layers = 0 : i64
func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %m = tensor.dim %rows, %c0 : tensor<?xi32>
  %f = tensor.empty(%m) : tensor<?x16xf32>
  %y = linalg.fill ins(%zero : f32) outs(%f : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// One that computes its prefix again keeps nothing.
// CHECK: girih.kv_block_bytes = 0 : i64
module attributes {girih.recompute} {
  func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32>
      attributes {girih.max_tokens = 1 : i64} {
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : f32
    %m = tensor.dim %rows, %c0 : tensor<?xi32>
    %f = tensor.empty(%m) : tensor<?x16xf32>
    %y = linalg.fill ins(%zero : f32) outs(%f : tensor<?x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}
