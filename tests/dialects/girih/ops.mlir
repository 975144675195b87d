// RUN: girih-opt %s | girih-opt | FileCheck %s

// Weights are names with a storage format; attention keeps its attributes through a round trip.
// CHECK-LABEL: @weight_and_attention
func.func @weight_and_attention(%q: tensor<?x9x64xf32>, %k: tensor<?x3x64xf32>, %v: tensor<?x3x64xf32>,
                                %init: tensor<?x9x64xf32>) -> tensor<?x9x64xf32> {
  // CHECK: girih.weight "blk.0.attn_norm.weight" : tensor<576xf32, #girih.storage<"f32">>
  %w = girih.weight "blk.0.attn_norm.weight" : tensor<576xf32, #girih.storage<"f32">>
  // CHECK: girih.attention ins(%{{.*}} : tensor<?x9x64xf32>) keys(%{{.*}}, %{{.*}} : tensor<?x3x64xf32>, tensor<?x3x64xf32>)
  // CHECK-SAME: scale = 1.250000e-01 : f32, window = 16 : i64
  %o = girih.attention ins(%q : tensor<?x9x64xf32>) keys(%k, %v : tensor<?x3x64xf32>, tensor<?x3x64xf32>)
      outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32, window = 16 : i64} -> tensor<?x9x64xf32>
  return %o : tensor<?x9x64xf32>
}

// The cached form reads its keys from a state that kv_append gives.
// CHECK-LABEL: @cached_attention
func.func @cached_attention(%q: tensor<?x9x64xf32>, %k: tensor<?x3x64xf32>, %v: tensor<?x3x64xf32>,
                            %init: tensor<?x9x64xf32>) -> tensor<?x9x64xf32> {
  // CHECK: %[[KV:.*]] = girih.kv_layer 2
  %kv = girih.kv_layer 2 : !girih.kv<3, 64, 64, f16>
  // CHECK: %[[NEXT:.*]] = girih.kv_append %{{.*}}, %{{.*}} into %[[KV]]
  %next = girih.kv_append %k, %v into %kv : tensor<?x3x64xf32>, tensor<?x3x64xf32>, !girih.kv<3, 64, 64, f16>
  // CHECK: girih.attention ins(%{{.*}}) cache(%[[NEXT]] : !girih.kv<3, 64, 64, f16>)
  %o = girih.attention ins(%q : tensor<?x9x64xf32>) cache(%next : !girih.kv<3, 64, 64, f16>)
      outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32} -> tensor<?x9x64xf32>
  return %o : tensor<?x9x64xf32>
}

// Rows of 75 elements are three blocks of 128 bytes; a matmul reads them whole.
// CHECK-LABEL: @quantised_rows
func.func @quantised_rows(%x: tensor<?x75xf32>, %w: !girih.packed<64 x 75, "p16:u4,f16,f16,32">,
                          %codes: tensor<?x384xi8>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // CHECK: %[[Q:.*]] = girih.quantize_rows ins(%{{.*}} : tensor<?x75xf32>) outs(%{{.*}} : tensor<?x384xi8>) -> tensor<?x384xi8>
  %q = girih.quantize_rows ins(%x : tensor<?x75xf32>) outs(%codes : tensor<?x384xi8>) -> tensor<?x384xi8>
  // CHECK: girih.qmatmul ins(%[[Q]], %{{.*}} : tensor<?x384xi8>, !girih.packed<64 x 75, "p16:u4,f16,f16,32">)
  %y = girih.qmatmul ins(%q, %w : tensor<?x384xi8>, !girih.packed<64 x 75, "p16:u4,f16,f16,32">)
      outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
