// RUN: girih-opt %s -girih-cpu=isa=avx512 | FileCheck %s
// RUN: girih-opt %s -girih-cpu=isa=avx2 | FileCheck %s --check-prefix=AVX2

// A step of one dispatch, down to the LLVM dialect: a share of the units, a call of the microkernel, the barrier; and the
// kernel, a function of its own.

// CHECK-LABEL: llvm.func @girih_step_t1(%{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: i64)
// CHECK: llvm.udiv
// CHECK: llvm.call @[[KERNEL:matmul_[0-9]+]](
// CHECK: llvm.call %{{.*}}(%{{.*}}, %{{.*}}) : !llvm.ptr, (!llvm.ptr, i64) -> ()
// CHECK: llvm.func @[[KERNEL]](
// CHECK: llvm.intr.prefetch
// CHECK: llvm.call_intrinsic "llvm.x86.avx512.permvar.sf.512"
// CHECK: llvm.intr.fma({{.*}}) : (vector<16xf32>, vector<16xf32>, vector<16xf32>) -> vector<16xf32>
// CHECK-NOT: builtin.unrealized_conversion_cast

// AVX2 has no table lookup of 16 lanes: it masks and converts, to the same values.
// AVX2-NOT: permvar
// AVX2: llvm.and {{.*}} : vector<16xi32>
// AVX2: llvm.sitofp {{.*}} : vector<16xi32> to vector<16xf32>

module attributes {girih.arena_bytes = 4096 : i64, girih.scratch_bytes = 0 : i64} {
  func.func @girih_step_t1(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %c1024 = arith.constant 1024 : index
    %t = girih.step_extent "num_tokens"
    %x = girih.buffer_at "arena"[%c0] rows %t : memref<?x32xf32>
    %y = girih.buffer_at "arena"[%c1024] rows %t : memref<?x64xf32>
    %w = girih.packed_at %c0 : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
    scf.forall (%i) = (0) to (64) step (16) {
      %out = memref.subview %y[0, %i] [%t, 16] [1, 1] : memref<?x64xf32> to memref<?x16xf32, strided<[64, 1], offset: ?>>
      girih.qmatmul ins(%x, %w[%i] : memref<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
          outs(%out : memref<?x16xf32, strided<[64, 1], offset: ?>>)
          {strategy = "direct", row_tile = 1 : i64, column_tile = 16 : i64}
    } {girih.dispatch = "project", girih.distribution = "block"}
    return
  }
}
