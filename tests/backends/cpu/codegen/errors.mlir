// RUN: girih-opt %s -split-input-file -girih-cpu=isa=avx2 -verify-diagnostics

// Each message says what was seen, the rule and what to do.

module attributes {girih.scratch_bytes = 0 : i64} {
  func.func @registers(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x32xf32>,
      %w: !girih.packed<64 x 32, "p16:u4,f16,f16,32">, %y: memref<?x64xf32>) {
    // expected-error @below {{tile of 6 rows x 2 panels needs 15 vectors of 16 lanes, avx2 holds 8; reduce row_tile or column_tile}}
    girih.qmatmul ins(%x, %w : memref<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
        outs(%y : memref<?x64xf32>) {strategy = "direct", row_tile = 6 : i64, column_tile = 32 : i64}
    return
  }
}

// -----

module attributes {girih.scratch_bytes = 1024 : i64} {
  func.func @scratch(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x32xf32>,
      %w: !girih.packed<64 x 32, "p16:u4,f16,f16,32">, %y: memref<?x64xf32>) {
    // expected-error @below {{panel of 32 k x 16 columns needs 2048 bytes of scratch, the module has girih.scratch_bytes = 1024}}
    girih.qmatmul ins(%x, %w : memref<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
        outs(%y : memref<?x64xf32>) {strategy = "panel", row_tile = 6 : i64, column_tile = 16 : i64, k_tile = 32 : i64}
    return
  }
}

// -----

module {
  func.func @layout(%args: !llvm.ptr, %thread: index, %threads: index, %x: memref<?x32xf32>,
      %w: !girih.packed<64 x 32, "p16:u3,f16,f16,32">, %y: memref<?x64xf32>) {
    // expected-error @below {{weight layout:}}
    girih.qmatmul ins(%x, %w : memref<?x32xf32>, !girih.packed<64 x 32, "p16:u3,f16,f16,32">)
        outs(%y : memref<?x64xf32>)
    return
  }
}

// -----

module {
  func.func @cache(%args: !llvm.ptr, %thread: index, %threads: index, %q: memref<?x9x64xf32>,
      %kv: !girih.kv<3, 64, 64, f16>, %out: memref<?x9x64xf32>) {
    // expected-error @below {{cache does not come from girih.kv_at}}
    girih.attention ins(%q : memref<?x9x64xf32>) cache(%kv : !girih.kv<3, 64, 64, f16>)
        outs(%out : memref<?x9x64xf32>) {scale = 0.125 : f32}
    return
  }
}

// -----

module {
  func.func @space(%args: !llvm.ptr, %thread: index, %threads: index, %offset: index) {
    // expected-error @below {{space "weight" is not a buffer of the step}}
    %w = girih.buffer_at "weight"[%offset] : memref<16xf32>
    return
  }
}

// -----

module {
  func.func @distribution(%args: !llvm.ptr, %thread: index, %threads: index, %n: index) {
    // expected-error @below {{girih.distribution "blocks" is not known; block, cyclic, dynamic and every are}}
    scf.forall (%i) in (%n) {
    } {girih.distribution = "blocks"}
    return
  }
}
