// SPDX-License-Identifier: Apache-2.0
// A norm of one row is done by every thread into its own scratch; what would race is left to one.
// RUN: girih-opt %s -girih-repeat-cheap-dispatches -girih-plan-memory | FileCheck %s

module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600,
    barrier_ns = 200, levels = [#machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128,
    latency_cycles = 5, shared_by = 1, source = "test">], units = [#machine.unit<name = "fma", element = "f32",
    lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">]>} {

  // While a slow thread still reads %a, a fast one writes %c: they may not share memory, though %a is dead after.
  // CHECK-LABEL: func.func @reads_live_on
  // CHECK: %[[A:.+]] = girih.buffer_at "arena"[%[[OA:.+]]]
  // CHECK: %[[E:.+]] = girih.buffer_at "scratch"
  // CHECK: linalg.exp ins(%[[A]] {{.*}} outs(%[[E]]
  // CHECK: girih.distribution = "every"
  // CHECK: %[[C:.+]] = girih.buffer_at "arena"[%c64]
  // CHECK: linalg.exp ins(%[[E]] {{.*}} outs(%[[C]]
  func.func @reads_live_on(%x: memref<1x16xf32>, %y: memref<1x16xf32>) attributes {girih.max_tokens = 1 : i64} {
    %a = memref.alloc() : memref<1x16xf32>
    scf.forall (%i) in (1) {
      linalg.exp ins(%x : memref<1x16xf32>) outs(%a : memref<1x16xf32>)
    } {girih.distribution = "cyclic"}
    %e = memref.alloc() : memref<1x16xf32>
    scf.forall (%i) in (1) {
      linalg.exp ins(%a : memref<1x16xf32>) outs(%e : memref<1x16xf32>)
    }
    %c = memref.alloc() : memref<1x16xf32>
    scf.forall (%i) in (16) {
      linalg.exp ins(%e : memref<1x16xf32>) outs(%c : memref<1x16xf32>)
    } {girih.distribution = "cyclic"}
    scf.forall (%i) in (1) {
      linalg.exp ins(%c : memref<1x16xf32>) outs(%y : memref<1x16xf32>)
    }
    return
  }

  // The next dispatch updates in place what is read here.
  // CHECK-LABEL: func.func @overwritten_next
  // CHECK-NOT: girih.distribution
  func.func @overwritten_next(%x: memref<1x16xf32>) attributes {girih.max_tokens = 1 : i64} {
    %e = memref.alloc() : memref<1x16xf32>
    scf.forall (%i) in (1) {
      linalg.exp ins(%x : memref<1x16xf32>) outs(%e : memref<1x16xf32>)
    }
    scf.forall (%i) in (16) {
      linalg.add ins(%e, %x : memref<1x16xf32>, memref<1x16xf32>) outs(%x : memref<1x16xf32>)
    }
    return
  }

  // Half of %e is filled by shares, so no thread has a whole copy of its own; the same where %e is updated later.
  // CHECK-LABEL: func.func @filled_by_two
  // CHECK-NOT: girih.distribution = "every"
  func.func @filled_by_two(%x: memref<1x8xf32>, %y: memref<1x16xf32>) attributes {girih.max_tokens = 1 : i64} {
    %e = memref.alloc() : memref<1x16xf32>
    %left = memref.subview %e[0, 0] [1, 8] [1, 1] : memref<1x16xf32> to memref<1x8xf32, strided<[16, 1]>>
    %right = memref.subview %e[0, 8] [1, 8] [1, 1] : memref<1x16xf32> to memref<1x8xf32, strided<[16, 1], offset: 8>>
    scf.forall (%i) in (1) {
      linalg.exp ins(%x : memref<1x8xf32>) outs(%left : memref<1x8xf32, strided<[16, 1]>>)
    } {girih.distribution = "cyclic"}
    scf.forall (%i) in (1) {
      linalg.exp ins(%x : memref<1x8xf32>) outs(%right : memref<1x8xf32, strided<[16, 1], offset: 8>>)
    }
    scf.forall (%i) in (16) {
      linalg.exp ins(%e : memref<1x16xf32>) outs(%y : memref<1x16xf32>)
    } {girih.distribution = "cyclic"}
    return
  }

  // 512 rows are worth a meeting.
  // CHECK-LABEL: func.func @dear
  // CHECK-NOT: girih.distribution
  func.func @dear(%n: index, %x: memref<?x16xf32>, %y: memref<?x16xf32>) attributes {girih.max_tokens = 512 : i64} {
    %e = memref.alloc(%n) : memref<?x16xf32>
    scf.forall (%i) in (%n) {
      linalg.exp ins(%x : memref<?x16xf32>) outs(%e : memref<?x16xf32>)
    }
    scf.forall (%i) in (%n) {
      linalg.exp ins(%e : memref<?x16xf32>) outs(%y : memref<?x16xf32>)
    }
    return
  }
}
