// SPDX-License-Identifier: Apache-2.0
// Passes of stage `raise`: what decomposition hid, found again.
#ifndef GIRIH_COMPILER_RAISE_PASSES_TD
#define GIRIH_COMPILER_RAISE_PASSES_TD

include "mlir/Pass/PassBase.td"

def RaiseAttention : Pass<"girih-raise-attention", "::mlir::ModuleOp"> {
  let summary = "recognises causal attention by its meaning";
  let description = [{
    Before: attention spelled with contractions, a mask and a softmax, in any way that says
    `out[t,h,:] = sum_u softmax_u(cap(scale * q[t,h,:] . k[u,g,:]) where the mask lets t see u) * v[u,g,:]`.
    After: one `girih.attention` on [T, H, D] and [T, G, D] tensors; the scores are no tensor any more.
    The value of one element is pulled back through every producer and compared with that formula; the mask is proved
    to be `u <= t`, or that and `u > t - W`, for all lengths. Free are: where scale factors stand, how the mask is
    made and applied, the steps of softmax, the layout of every operand, how kv heads are shared, unit extents.
    Left alone, with a remark at its location and the reason in the module's `girih.notes`: what looks like attention
    (a softmax times values) and is not it.

    Example:
    ```mlir
    #scores = affine_map<(t, u, d) -> (t, u)>
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
    // CHECK: girih.attention
    // CHECK-SAME: scale = 1.000000e+00
    // CHECK-NOT: linalg.softmax
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::tensor::TensorDialect"];
}

def MergeProjections : Pass<"girih-merge-projections", "::mlir::ModuleOp"> {
  let summary = "makes one contraction of the projections of one input";
  let description = [{
    Before: projections x[t, k] * w[n, k] of one input (q, k and v), each with a weight of its own. After:
    those of one storage format are one contraction with the weights stacked by `girih.concat_rows`; what each gave is
    a slice of its columns. A weight that something else reads, of another format, or that is computed later, stays;
    so do projections that meet in one elementwise op, as gate and up do: a tile of that op computes both.

    Example:
    ```mlir
    !w = tensor<4x32xf32, #girih.storage<"q8_0">>
    func.func @two(%x: tensor<?x32xf32>, %a: !w, %b: !w) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
      %c0 = arith.constant 0 : index
      %zero = arith.constant 0.0 : f32
      %t = tensor.dim %x, %c0 : tensor<?x32xf32>
      %empty = tensor.empty(%t) : tensor<?x4xf32>
      %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x4xf32>) -> tensor<?x4xf32>
      %0 = linalg.matmul indexing_maps = [affine_map<(t, n, k) -> (t, k)>, affine_map<(t, n, k) -> (n, k)>,
                                          affine_map<(t, n, k) -> (t, n)>]
          ins(%x, %a : tensor<?x32xf32>, !w) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
      %1 = linalg.matmul indexing_maps = [affine_map<(t, n, k) -> (t, k)>, affine_map<(t, n, k) -> (n, k)>,
                                          affine_map<(t, n, k) -> (t, n)>]
          ins(%x, %b : tensor<?x32xf32>, !w) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
      return %0, %1 : tensor<?x4xf32>, tensor<?x4xf32>
    }
    // CHECK: girih.concat_rows %{{.*}}, %{{.*}} interleave 0
    // CHECK: linalg.matmul
    // CHECK-NOT: linalg.matmul
    // CHECK: tensor.extract_slice %{{.*}}[0, 0]
    // CHECK: tensor.extract_slice %{{.*}}[0, 4]
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::tensor::TensorDialect"];
}

#endif
