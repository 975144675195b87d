// RUN: girih-opt %s -girih-plan-memory -split-input-file -verify-diagnostics | FileCheck %s

// A buffer is free again after its last use.
// CHECK-LABEL: func.func @reuses_what_is_dead
// CHECK: %[[FIRST:.*]] = arith.constant 0 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[FIRST]]]
// CHECK: %[[SECOND:.*]] = arith.constant 64 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[SECOND]]]
// CHECK: %[[AGAIN:.*]] = arith.constant 0 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[AGAIN]]]
func.func @reuses_what_is_dead(%in: memref<16xf32>, %out: memref<16xf32>) attributes {girih.max_tokens = 8 : i64} {
  %a = memref.alloc() : memref<16xf32>
  linalg.copy ins(%in : memref<16xf32>) outs(%a : memref<16xf32>)
  %b = memref.alloc() : memref<16xf32>
  linalg.copy ins(%a : memref<16xf32>) outs(%b : memref<16xf32>)
  %c = memref.alloc() : memref<16xf32>
  linalg.copy ins(%b : memref<16xf32>) outs(%c : memref<16xf32>)
  linalg.copy ins(%c : memref<16xf32>) outs(%out : memref<16xf32>)
  return
}

// -----

// The next iteration reads what this one carries, so a temporary at the head of the body must not lie over it; and
// the loop's result is read after the loop.
// CHECK-LABEL: func.func @keeps_what_a_loop_carries
// CHECK: arith.constant 2 : index
// CHECK-NEXT: %[[STREAM:.*]] = arith.constant 0 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[STREAM]]]
// CHECK: scf.for
// CHECK: %[[HEAD:.*]] = arith.constant 64 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[HEAD]]]
// CHECK: %[[CARRIED:.*]] = arith.constant 128 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[CARRIED]]]
// CHECK: scf.yield
// CHECK: %[[AFTER:.*]] = arith.constant 64 : index
// CHECK-NEXT: girih.buffer_at "arena"[%[[AFTER]]]
func.func @keeps_what_a_loop_carries(%in: memref<16xf32>, %out: memref<16xf32>)
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %stream = memref.alloc() : memref<16xf32>
  linalg.copy ins(%in : memref<16xf32>) outs(%stream : memref<16xf32>)
  %result = scf.for %layer = %c0 to %c2 step %c1 iter_args(%x = %stream) -> (memref<16xf32>) {
    %head = memref.alloc() : memref<16xf32>
    linalg.copy ins(%x : memref<16xf32>) outs(%head : memref<16xf32>)
    %next = memref.alloc() : memref<16xf32>
    linalg.copy ins(%head : memref<16xf32>) outs(%next : memref<16xf32>)
    scf.yield %next : memref<16xf32>
  }
  %after = memref.alloc() : memref<16xf32>
  linalg.copy ins(%result : memref<16xf32>) outs(%after : memref<16xf32>)
  linalg.copy ins(%after : memref<16xf32>) outs(%out : memref<16xf32>)
  return
}

// -----

// One buffer cannot hold two iterations' values at once.
func.func @refuses_to_overwrite_what_is_still_read(%in: memref<16xf32>, %out: memref<16xf32>)
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %stream = memref.alloc() : memref<16xf32>
  %result = scf.for %layer = %c0 to %c2 step %c1 iter_args(%x = %stream) -> (memref<16xf32>) {
    // expected-error @+1 {{is written while the iteration before is still read from it; the loop needs two buffers in turn}}
    %next = memref.alloc() : memref<16xf32>
    linalg.copy ins(%in : memref<16xf32>) outs(%next : memref<16xf32>)
    linalg.copy ins(%x : memref<16xf32>) outs(%out : memref<16xf32>)
    scf.yield %next : memref<16xf32>
  }
  return
}
