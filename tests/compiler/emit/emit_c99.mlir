// SPDX-License-Identifier: Apache-2.0
// The same step for a machine whose memory only a DMA unit reaches, and for one whose loads reach it.
// RUN: sed -e 's|MEMORY||' %s | girih-emit-c99 - | FileCheck %s --check-prefixes=CHECK,NEAR
// RUN: sed -e 's|MEMORY|, dma_in = "npu_in", dma_out = "npu_out"|' %s | girih-emit-c99 - | FileCheck %s --check-prefixes=CHECK,DMA

// CHECK: #include <girih/kernel.h>
// CHECK: static const float table_scales[4] = {1.0f, -0.5f, 2.5f, 0.125f};
// CHECK-LABEL: void scaled(const girih_step_args *args, int64_t thread, int64_t threads)
// Units by turns; the piece is a row.
// CHECK: // scale.rows
// CHECK: for (int64_t [[ROW:i[0-9]+]] = thread; [[ROW]] < {{v[0-9]+}}; [[ROW]] += threads) {
// NEAR: float * [[X:w[0-9]+]] = (float *)({{m[0-9]+}});
// DMA: float [[X:w[0-9]+]][4];
// DMA-NEXT: npu_in([[X]], {{m[0-9]+}}, 1, 16, 0);
// CHECK: {{.+}} = (table_scales[{{.+}}] * [[X]][{{.+}}]);
// DMA: npu_out({{m[0-9]+}}, {{w[0-9]+}}, 1, 16, 0);
// CHECK: npu_barrier(args, thread);

// What each thread does for itself needs no meeting.
// CHECK: // scale.own
// CHECK: for (int64_t [[ROW:i[0-9]+]] = 0; [[ROW]] < 2; [[ROW]] += 1) {
// Scratch memory lies behind the arena, a piece for each thread.
// CHECK: ((girih_address)args->arena) + ((4096 + (thread * 128)) + 64)
// CHECK-NOT: npu_barrier
// CHECK: }

// A copy of every second element, between rows that lie further apart: dimensions that follow each other are one, and a piece is
// what half of the nearest memory holds. What lies between is not written.
// CHECK-LABEL: void moved(
// CHECK: for (int64_t [[ROW:i[0-9]+]] = 0; [[ROW]] < 2; [[ROW]] += 1) {
// CHECK: for (int64_t {{i[0-9]+}} = 0; {{i[0-9]+}} < 1536; {{i[0-9]+}} += 1024) {
// DMA: int32_t [[W:w[0-9]+]][1024];
// DMA-NEXT: npu_in([[W]], {{m[0-9]+|.+}}, [[N:v[0-9]+]], 4, 8);
// DMA-NEXT: npu_out({{.+}}, [[W]], [[N]], 4, 12);
// NEAR: [{{.*}}({{i[0-9]+}} * 3){{.*}}] = ((int64_t){{w[0-9]+}}[({{i[0-9]+}} * 2)]);
#machine = #machine.description<name = "npu", kind = "npu", cores = 2, clock_mhz = 500, barrier_ns = 100,
    levels = [<name = "scratchpad", size_bytes = 65536, bytes_per_cycle = 32, latency_cycles = 2, shared_by = 1, source = "made up">,
              <name = "memory", size_bytes = 1048576, bytes_per_cycle = 8, latency_cycles = 200, shared_by = 2, source = "made up"MEMORY>],
    units = [<name = "scalar", element = "f32", lanes = 1, per_cycle = 1, latency_cycles = 4, registers = 64, source = "made up">],
    barrier = "npu_barrier">
module attributes {girih.machine = #machine, girih.arena_bytes = 4096 : i64, girih.scratch_bytes = 128 : i64} {
  memref.global "private" constant @scales : memref<4xf32> = dense<[1.0, -0.5, 2.5, 0.125]>
  func.func @scaled(%arg0: !llvm.ptr, %arg1: index, %arg2: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %c64 = arith.constant 64 : index
    %t = girih.step_extent "num_tokens"
    %scales = memref.get_global @scales : memref<4xf32>
    %x = girih.buffer_at "weights"[%c64] rows %t : memref<?x4xf32>
    %y = girih.buffer_at "arena"[%c0] rows %t : memref<?x4xf32>
    scf.forall (%row) in (%t) {
      %from = memref.subview %x[%row, 0] [1, 4] [1, 1] : memref<?x4xf32> to memref<1x4xf32, strided<[4, 1], offset: ?>>
      %to = memref.subview %y[%row, 0] [1, 4] [1, 1] : memref<?x4xf32> to memref<1x4xf32, strided<[4, 1], offset: ?>>
      linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
          iterator_types = ["parallel", "parallel"]}
          ins(%scales, %from : memref<4xf32>, memref<1x4xf32, strided<[4, 1], offset: ?>>)
          outs(%to : memref<1x4xf32, strided<[4, 1], offset: ?>>) {
      ^bb0(%s: f32, %in: f32, %out: f32):
        %p = arith.mulf %s, %in : f32
        linalg.yield %p : f32
      }
    } {girih.dispatch = "scale.rows"}
    scf.forall (%row) in (2) {
      %one = arith.constant 1.0 : f32
      %own = girih.buffer_at "scratch"[%c64] : memref<4xf32>
      linalg.fill ins(%one : f32) outs(%own : memref<4xf32>)
    } {girih.dispatch = "scale.own", girih.distribution = "every"}
    return
  }
  func.func @moved(%arg0: !llvm.ptr, %arg1: index, %arg2: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %x = girih.buffer_at "weights"[%c0] : memref<2x48x32xf32, strided<[4096, 64, 2]>>
    %y = girih.buffer_at "arena"[%c0] : memref<2x48x32xf32, strided<[8192, 96, 3]>>
    scf.forall (%row) in (1) {
      memref.copy %x, %y : memref<2x48x32xf32, strided<[4096, 64, 2]>> to memref<2x48x32xf32, strided<[8192, 96, 3]>>
    } {girih.dispatch = "move"}
    return
  }
}
