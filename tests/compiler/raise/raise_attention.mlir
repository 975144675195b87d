// RUN: girih-opt %s -girih-raise-attention -canonicalize | FileCheck %s

#scores = affine_map<(t, u, d) -> (t, u)>

// One head, softmax as one operation, mask selected: the whole formula is one operation.
// CHECK-LABEL: func.func @one_head
// CHECK: girih.attention
// CHECK-SAME: scale = 1.000000e+00
// CHECK-NOT: linalg.softmax
        func.func @one_head(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>) -> tensor<?x64xf32> {
      %c0 = arith.constant 0 : index
      %zero = arith.constant 0.0 : f32
      %hidden = arith.constant 0xFF800000 : f32
      %t = tensor.dim %q, %c0 : tensor<?x64xf32>
      %empty = tensor.empty(%t, %t) : tensor<?x?xf32>
      %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x?xf32>) -> tensor<?x?xf32>
      %s = linalg.matmul indexing_maps = [affine_map<(t, u, d) -> (t, d)>, affine_map<(t, u, d) -> (u, d)>, #scores]
          ins(%q, %k : tensor<?x64xf32>, tensor<?x64xf32>) outs(%init : tensor<?x?xf32>) -> tensor<?x?xf32>
      %masked = linalg.generic {
          indexing_maps = [affine_map<(t, u) -> (t, u)>, affine_map<(t, u) -> (t, u)>],
          iterator_types = ["parallel", "parallel"]} ins(%s : tensor<?x?xf32>) outs(%empty : tensor<?x?xf32>) {
      ^bb0(%score: f32, %out: f32):
        %query = linalg.index 0 : index
        %key = linalg.index 1 : index
        %seen = arith.cmpi sle, %key, %query : index
        %kept = arith.select %seen, %score, %hidden : f32
        linalg.yield %kept : f32
      } -> tensor<?x?xf32>
      %p = linalg.softmax dimension(1) ins(%masked : tensor<?x?xf32>) outs(%empty : tensor<?x?xf32>) -> tensor<?x?xf32>
      %empty_out = tensor.empty(%t) : tensor<?x64xf32>
      %init_out = linalg.fill ins(%zero : f32) outs(%empty_out : tensor<?x64xf32>) -> tensor<?x64xf32>
      %y = linalg.matmul ins(%p, %v : tensor<?x?xf32>, tensor<?x64xf32>) outs(%init_out : tensor<?x64xf32>)
          -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    
