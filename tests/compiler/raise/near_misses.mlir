// RUN: girih-opt %s -girih-raise-attention -split-input-file -verify-diagnostics | FileCheck %s

#q = affine_map<(t, u, d) -> (t, d)>
#k = affine_map<(t, u, d) -> (u, d)>
#s = affine_map<(t, u, d) -> (t, u)>

// Every token sees every other: no causal attention, and the module says why.
// CHECK: module attributes {girih.notes = ["{{.*}}not raised to attention: no mask hides later keys, so it is not causal"]}
// CHECK-NOT: girih.attention
func.func @bidirectional(%q: tensor<?x8xf32>, %k: tensor<?x8xf32>, %v: tensor<?x8xf32>, %square: tensor<?x?xf32>,
                         %out: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %init = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %s = linalg.matmul indexing_maps = [#q, #k, #s] ins(%q, %k : tensor<?x8xf32>, tensor<?x8xf32>) outs(%init : tensor<?x?xf32>) -> tensor<?x?xf32>
  %p = linalg.softmax dimension(1) ins(%s : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %init_out = linalg.fill ins(%zero : f32) outs(%out : tensor<?x8xf32>) -> tensor<?x8xf32>
  // expected-remark @below {{not raised to attention: no mask hides later keys, so it is not causal}}
  %y = linalg.matmul ins(%p, %v : tensor<?x?xf32>, tensor<?x8xf32>) outs(%init_out : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

#q = affine_map<(t, u, d) -> (t, d)>
#k = affine_map<(t, u, d) -> (u, d)>
#s = affine_map<(t, u, d) -> (t, u)>

// A softmax over the queries is another function.
// CHECK-NOT: girih.attention
func.func @wrong_axis(%q: tensor<?x8xf32>, %k: tensor<?x8xf32>, %v: tensor<?x8xf32>, %square: tensor<?x?xf32>,
                      %out: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %init = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %s = linalg.matmul indexing_maps = [#q, #k, #s] ins(%q, %k : tensor<?x8xf32>, tensor<?x8xf32>) outs(%init : tensor<?x?xf32>) -> tensor<?x?xf32>
  %p = linalg.softmax dimension(0) ins(%s : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %init_out = linalg.fill ins(%zero : f32) outs(%out : tensor<?x8xf32>) -> tensor<?x8xf32>
  // expected-remark @below {{not raised to attention: the softmax does not normalise over the keys that the values are summed over}}
  %y = linalg.matmul ins(%p, %v : tensor<?x?xf32>, tensor<?x8xf32>) outs(%init_out : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

#q = affine_map<(t, u, d) -> (t, d)>
#k = affine_map<(t, u, d) -> (u, d)>
#s = affine_map<(t, u, d) -> (t, u)>

// No softmax at all: nothing to say about it.
// CHECK-LABEL: func.func @linear_attention
// CHECK-NOT: girih.attention
func.func @linear_attention(%q: tensor<?x8xf32>, %k: tensor<?x8xf32>, %v: tensor<?x8xf32>, %square: tensor<?x?xf32>,
                            %out: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %init = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %s = linalg.matmul indexing_maps = [#q, #k, #s] ins(%q, %k : tensor<?x8xf32>, tensor<?x8xf32>) outs(%init : tensor<?x?xf32>) -> tensor<?x?xf32>
  %init_out = linalg.fill ins(%zero : f32) outs(%out : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul ins(%s, %v : tensor<?x?xf32>, tensor<?x8xf32>) outs(%init_out : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
