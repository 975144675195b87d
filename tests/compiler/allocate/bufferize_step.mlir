// SPDX-License-Identifier: Apache-2.0
// Tensors become buffers; results are computed where they are wanted; a copy is a dispatch over its rows.
// RUN: girih-opt %s -girih-bufferize-step -split-input-file | FileCheck %s

// CHECK-LABEL: func.func @step_t1
// CHECK: %[[LOGITS:.+]] = girih.buffer_at "logits"
// CHECK: scf.forall
// CHECK: %[[ROW:.+]] = memref.subview %[[LOGITS]]
// CHECK: linalg.fill {{.*}} outs(%[[ROW]]
// CHECK-NOT: tensor
func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %n = girih.step_extent "num_logit_rows"
  %logits = girih.buffer_at "logits"[%c0] rows %n : memref<?x8xf32>
  %e = tensor.empty(%n) : tensor<?x8xf32>
  %r = scf.forall (%i) in (%n) shared_outs(%o = %e) -> tensor<?x8xf32> {
    %s = tensor.extract_slice %o[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
    %f = linalg.fill ins(%zero : f32) outs(%s : tensor<1x8xf32>) -> tensor<1x8xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %f into %o[%i, 0] [1, 8] [1, 1] : tensor<1x8xf32> into tensor<?x8xf32>
    }
  }
  bufferization.materialize_in_destination %r in restrict writable %logits : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}

// -----

// Outside of a dispatch every thread would make the copy.
// CHECK-LABEL: func.func @step_t1
// CHECK: %[[ARENA:.+]] = girih.buffer_at "arena"
// CHECK: %[[LOGITS:.+]] = girih.buffer_at "logits"
// CHECK: scf.forall (%[[I:.+]]) in
// CHECK-DAG: %[[FROM:.+]] = memref.subview %[[ARENA]][%[[I]], 0] [1, 8]
// CHECK-DAG: %[[TO:.+]] = memref.subview %[[LOGITS]][%[[I]], 0] [1, 8]
// CHECK: memref.copy %[[FROM]], %[[TO]]
// CHECK: girih.dispatch = "copy"
func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %n = girih.step_extent "num_logit_rows"
  %a = girih.buffer_at "arena"[%c0] rows %n : memref<?x8xf32>
  %logits = girih.buffer_at "logits"[%c0] rows %n : memref<?x8xf32>
  %t = bufferization.to_tensor %a restrict : memref<?x8xf32> to tensor<?x8xf32>
  bufferization.materialize_in_destination %t in restrict writable %logits : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}

// -----

// Rows that lie further apart than they are long stay so; a tile's own temporary has the tile's size.
// CHECK-LABEL: func.func @step_t1
// CHECK: %[[ROWS:.*]] = memref.subview %{{.*}}[0, 0] [%{{.*}}, 8] [1, 1] : memref<?x12xf32> to memref<?x8xf32, strided<[12, 1]>>
// CHECK: scf.forall
// CHECK: memref.alloc() {{.*}}: memref<1x8xf32>
// CHECK: memref.subview %[[ROWS]]
func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %n = girih.step_extent "num_logit_rows"
  %logits = girih.buffer_at "logits"[%c0] rows %n : memref<?x8xf32>
  %whole = tensor.empty(%n) : tensor<?x12xf32>
  %padded = tensor.extract_slice %whole[0, 0] [%n, 8] [1, 1] : tensor<?x12xf32> to tensor<?x8xf32>
  %temporary = tensor.empty(%n) : tensor<?x8xf32>
  %r = scf.forall (%i) in (%n) shared_outs(%o = %padded) -> tensor<?x8xf32> {
    %t = tensor.extract_slice %temporary[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
    %f = linalg.fill ins(%zero : f32) outs(%t : tensor<1x8xf32>) -> tensor<1x8xf32>
    %s = tensor.extract_slice %o[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
    %e = linalg.exp ins(%f : tensor<1x8xf32>) outs(%s : tensor<1x8xf32>) -> tensor<1x8xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %e into %o[%i, 0] [1, 8] [1, 1] : tensor<1x8xf32> into tensor<?x8xf32>
    }
  }
  %q = scf.forall (%i) in (%n) shared_outs(%o = %temporary) -> tensor<?x8xf32> {
    %t = tensor.extract_slice %r[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
    %s = tensor.extract_slice %o[%i, 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<1x8xf32>
    %e = linalg.exp ins(%t : tensor<1x8xf32>) outs(%s : tensor<1x8xf32>) -> tensor<1x8xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %e into %o[%i, 0] [1, 8] [1, 1] : tensor<1x8xf32> into tensor<?x8xf32>
    }
  }
  bufferization.materialize_in_destination %q in restrict writable %logits
      : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}
