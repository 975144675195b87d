// RUN: girih-opt %s -girih-cpu-lower-qmatmul=isa=avx512 | FileCheck %s

// Matmuls of a few sequences fetch what the attention behind them reads of the cache, as far as half of L2 holds it:
// 262,144 bytes. The place stands in 64 bytes of scratch before those of kernels.

#machine = #machine.description<name = "test", kind = "cpu", cores = 2, clock_mhz = 1000, barrier_ns = 100,
    levels = [#machine.level<name = "L1", size_bytes = 32768, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">,
              #machine.level<name = "L2", size_bytes = 524288, bytes_per_cycle = 32, latency_cycles = 14, shared_by = 1, source = "test">],
    units = [#machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">]>
!nibbles = !girih.packed<64 x 64, "p16:u4,f16,f16,32">
!kv = !girih.kv<1, 64, 64, f16>

module attributes {girih.machine = #machine, girih.arena_bytes = 0 : i64, girih.scratch_bytes = 64 : i64} {
  // One layer's part of a block is 4,096 bytes; a call passes 2 blocks of k, and fetches 4 lines with each: 512 bytes.
  // CHECK-LABEL: func.func @step_t8
  // A step begins with the thread's first sequence and all that may be fetched.
  // CHECK: arith.constant 262144 : index
  // CHECK: llvm.store
  // CHECK: scf.forall
  // CHECK: scf.if
  // CHECK: arith.constant 512 : index
  // CHECK: call @matmul_1({{.*}}%[[FOUND:[0-9]+]]#0, %[[FOUND]]#1)
  // Attention begins anew; what follows it fetches the next layer, where there is one: up to 8,192 bytes of a block.
  // CHECK: arith.constant 262144 : index
  // CHECK: scf.forall
  // CHECK: girih.attention_parts
  // CHECK: scf.forall
  // CHECK: arith.constant 4096 : index
  // CHECK: arith.constant 8192 : index
  // CHECK: scf.if
  // CHECK: call @matmul_1(
  func.func @step_t8(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x256xi8>, %w: !nibbles,
                     %y: memref<?x64xf32>, %q: memref<?x1x64xf32>, %parts: memref<?x1x4x96xf32>, %layer: index)
      attributes {girih.max_tokens = 8 : i64} {
    %c0 = arith.constant 0 : index
    %rows = memref.dim %x, %c0 : memref<?x256xi8>
    %kv = girih.kv_at %layer {block_bytes = 8192 : i64} : !kv
    scf.forall (%n) = (0) to (64) step (16) {
      %out = memref.subview %y[0, %n] [%rows, 16] [1, 1] : memref<?x64xf32> to memref<?x16xf32, strided<[64, 1], offset: ?>>
      girih.qmatmul ins(%x, %w[%n] : memref<?x256xi8>, !nibbles) outs(%out : memref<?x16xf32, strided<[64, 1], offset: ?>>)
          {strategy = "direct", row_tile = 8 : i64, column_tile = 16 : i64}
    }
    scf.forall (%t, %c, %g) in (%rows, 4, 1) {
      %query = memref.subview %q[%t, 0, 0] [1, 1, 64] [1, 1, 1] : memref<?x1x64xf32> to memref<1x1x64xf32, strided<[64, 64, 1], offset: ?>>
      %part = memref.subview %parts[%t, 0, %c, 0] [1, 1, 1, 96] [1, 1, 1, 1] : memref<?x1x4x96xf32> to memref<1x1x1x96xf32, strided<[384, 384, 96, 1], offset: ?>>
      girih.attention_parts ins(%query : memref<1x1x64xf32, strided<[64, 64, 1], offset: ?>>) cache(%kv[%t, %g, %c] : !kv)
          outs(%part : memref<1x1x1x96xf32, strided<[384, 384, 96, 1], offset: ?>>) {chunk = 128 : i64, scale = 1.250000e-01 : f32}
    }
    scf.forall (%n) = (0) to (64) step (16) {
      %out = memref.subview %y[0, %n] [%rows, 16] [1, 1] : memref<?x64xf32> to memref<?x16xf32, strided<[64, 1], offset: ?>>
      girih.qmatmul ins(%x, %w[%n] : memref<?x256xi8>, !nibbles) outs(%out : memref<?x16xf32, strided<[64, 1], offset: ?>>)
          {strategy = "direct", row_tile = 8 : i64, column_tile = 16 : i64}
    }
    return
  }

  // One token: its sequence is all threads'.
  // CHECK-LABEL: func.func @step_t1
  // CHECK-NOT: scf.if
  // CHECK: call @matmul_2(
  // CHECK: girih.attention_parts
  func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x256xi8>, %w: !nibbles,
                     %y: memref<?x64xf32>, %q: memref<1x1x64xf32, strided<[64, 64, 1], offset: ?>>,
                     %part: memref<1x1x1x96xf32, strided<[384, 384, 96, 1], offset: ?>>, %layer: index)
      attributes {girih.max_tokens = 1 : i64} {
    %c0 = arith.constant 0 : index
    %kv = girih.kv_at %layer {block_bytes = 8192 : i64} : !kv
    girih.qmatmul ins(%x, %w : memref<?x256xi8>, !nibbles) outs(%y : memref<?x64xf32>)
        {strategy = "direct", row_tile = 1 : i64, column_tile = 16 : i64}
    girih.attention_parts ins(%q : memref<1x1x64xf32, strided<[64, 64, 1], offset: ?>>) cache(%kv[%c0, %c0, %c0] : !kv)
        outs(%part : memref<1x1x1x96xf32, strided<[384, 384, 96, 1], offset: ?>>) {chunk = 128 : i64, scale = 1.250000e-01 : f32}
    return
  }
}
