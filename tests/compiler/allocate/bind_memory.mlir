// SPDX-License-Identifier: Apache-2.0
// A step function on tensors becomes one on the step's arguments; weights and caches get their offsets.
// RUN: girih-opt %s -girih-bind-memory | FileCheck %s

// The tied weight is stored once, the second one behind it at a multiple of 64 bytes.
// CHECK: module attributes {girih.kv_block_bytes = 2048 : i64, girih.kv_layers = 1 : i64, girih.weight_bytes = 2304 : i64
// CHECK-LABEL: func.func @step_t1(%{{.+}}: !llvm.ptr, %{{.+}}: index, %{{.+}}: index)
// CHECK-SAME: girih.entry
// CHECK-DAG: %[[T:.+]] = girih.step_extent "num_tokens"
// CHECK-DAG: girih.buffer_at "tokens"{{.*}} rows %[[T]] : memref<?xi32>
// CHECK-DAG: girih.packed_at
// CHECK-DAG: girih.kv_at %{{.+}} {block_bytes = 2048 : i64}
// CHECK: girih.buffer_at "logits"
// CHECK: bufferization.materialize_in_destination
func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %w = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
  %h = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
  %g = girih.layer_weight %c0 [["norm"]] {storage = "f32"} : tensor<32xf32>
  %kv = girih.kv_layer 0 : !girih.kv<1, 16, 16, f32>
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %e = tensor.empty(%n) : tensor<?x32xf32>
  %x = girih.gather_rows ins(%tokens, %w : tensor<?xi32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
      outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
  %m = tensor.dim %rows, %c0 : tensor<?xi32>
  %f = tensor.empty(%m) : tensor<?x64xf32>
  %y = girih.qmatmul ins(%x, %h : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
      outs(%f : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
