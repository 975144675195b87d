// RUN: girih-opt %s -girih-specialize="kv-element=f32 max-tokens=1,512" | FileCheck %s

// After the stage: step functions of (tokens, positions, rows), whose attention reads a cache that the step hands to
// the block, whose weights are read as stored, and whose head sees the wanted rows only.
// CHECK-NOT: @main
// CHECK: func.func @step_t1(%[[TOKENS:[a-z0-9]+]]: tensor<?xi32>, %[[POSITIONS:[a-z0-9]+]]: tensor<?xi32>, %[[ROWS:[a-z0-9]+]]: tensor<?xi32>) -> tensor<?x32xf32> attributes {girih.max_tokens = 1 : i64}
// CHECK: %[[X:.*]] = girih.gather_rows ins(%[[TOKENS]],
// CHECK: %[[KV:.*]] = girih.kv_layer 0 : <1, 8, 8, f32>
// CHECK: %[[Y:.*]] = call @block_0_t1(%[[X]], %[[KV]])
// CHECK: %[[WANTED:.*]] = girih.gather_rows ins(%[[ROWS]], %[[Y]]
// CHECK: call @head_t1(%[[WANTED]]
// CHECK: func.func private @block_0_t1
// CHECK: girih.kv_append
// CHECK: girih.attention {{.*}} cache(
// CHECK: func.func private @head_t1
// CHECK: girih.qmatmul
// CHECK: func.func @step_t512
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x32xf32> {
  %table = girih.weight "embed" : tensor<32x8xf32, #girih.storage<"q8_0">>
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %empty = tensor.empty(%t) : tensor<?x8xf32>
  %x = linalg.generic {indexing_maps = [affine_map<(t, e) -> (t)>, affine_map<(t, e) -> (t, e)>],
                       iterator_types = ["parallel", "parallel"]} ins(%tokens : tensor<?xi32>) outs(%empty : tensor<?x8xf32>) {
  ^bb0(%token: i32, %out: f32):
    %row = arith.index_cast %token : i32 to index
    %column = linalg.index 1 : index
    %element = tensor.extract %table[%row, %column] : tensor<32x8xf32, #girih.storage<"q8_0">>
    linalg.yield %element : f32
  } -> tensor<?x8xf32>
  %y = call @block_0(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %logits = call @head(%y, %table) : (tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32>
  return %logits : tensor<?x32xf32>
}
func.func private @block_0(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %q = tensor.expand_shape %x [[0], [1, 2]] output_shape [%t, 1, 8] : tensor<?x8xf32> into tensor<?x1x8xf32>
  %init = tensor.empty(%t) : tensor<?x1x8xf32>
  %o = girih.attention ins(%q : tensor<?x1x8xf32>) keys(%q, %q : tensor<?x1x8xf32>, tensor<?x1x8xf32>)
      outs(%init : tensor<?x1x8xf32>) {scale = 1.0 : f32} -> tensor<?x1x8xf32>
  %y = tensor.collapse_shape %o [[0], [1, 2]] : tensor<?x1x8xf32> into tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
func.func private @head(%x: tensor<?x8xf32>, %w: tensor<32x8xf32, #girih.storage<"q8_0">>) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %empty = tensor.empty(%t) : tensor<?x32xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = linalg.matmul indexing_maps = [affine_map<(t, n, k) -> (t, k)>, affine_map<(t, n, k) -> (n, k)>,
                                      affine_map<(t, n, k) -> (t, n)>]
      ins(%x, %w : tensor<?x8xf32>, tensor<32x8xf32, #girih.storage<"q8_0">>) outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
