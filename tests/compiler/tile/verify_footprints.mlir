// Every tile is proved to fit the level that it was made for; where none does, the compiler says so.
// RUN: girih-opt %s -girih-verify-footprints -split-input-file -verify-diagnostics

#l1 = #machine.level<name = "L1", size_bytes = 4096, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 16384, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 1, clock_mhz = 1000, barrier_ns = 100, levels = [#l1, #l2], units = [#fma]>} {
  // 4 * (64 * 32 + 4 * 64 + 4 * 32) = 9728 bytes.
  func.func @panel_that_fits(%x: tensor<?x64xf32>, %w: !girih.packed<64 x 64, "p16:s8,f16,none,32">, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
    %y = girih.qmatmul ins(%x, %w : tensor<?x64xf32>, !girih.packed<64 x 64, "p16:s8,f16,none,32">) outs(%init : tensor<?x64xf32>)
        {strategy = "panel", row_tile = 4 : i64, column_tile = 32 : i64, k_tile = 64 : i64} -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 4096, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 8192, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 1, clock_mhz = 1000, barrier_ns = 100, levels = [#l1, #l2], units = [#fma]>} {
  func.func @panel_too_large(%x: tensor<?x64xf32>, %w: !girih.packed<64 x 64, "p16:s8,f16,none,32">, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
    // expected-error @below {{has a tile of 9728 bytes; level L2 that it is for has 8192, and no smaller tile is made}}
    %y = girih.qmatmul ins(%x, %w : tensor<?x64xf32>, !girih.packed<64 x 64, "p16:s8,f16,none,32">) outs(%init : tensor<?x64xf32>)
        {strategy = "panel", row_tile = 4 : i64, column_tile = 32 : i64, k_tile = 64 : i64} -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }

  func.func @queries_too_many(%q: tensor<?x4x64xf32>, %kv: !girih.kv<4, 64, 64, f32>, %init: tensor<?x4x64xf32>) -> tensor<?x4x64xf32> {
    // expected-error @below {{has a tile of 8192 bytes; level L1 that it is for has 4096}}
    %o = girih.attention ins(%q : tensor<?x4x64xf32>) cache(%kv : !girih.kv<4, 64, 64, f32>) outs(%init : tensor<?x4x64xf32>)
        {scale = 0.125 : f32, query_tile = 4 : i64} -> tensor<?x4x64xf32>
    return %o : tensor<?x4x64xf32>
  }

  // 16 * 4 rows of 2 * 64 + 4 * 64 bytes.
  func.func @queries_too_many_for_a_matrix_unit(%q: tensor<?x4x64xf32>, %kv: !girih.kv<4, 64, 64, f32>, %init: tensor<?x4x64xf32>)
      -> tensor<?x4x64xf32> {
    // expected-error @below {{has a tile of 24576 bytes; level L2 that it is for has 8192}}
    %o = girih.attention ins(%q : tensor<?x4x64xf32>) cache(%kv : !girih.kv<4, 64, 64, f32>) outs(%init : tensor<?x4x64xf32>)
        {operand_type = bf16, scale = 0.125 : f32, query_tile = 16 : i64} -> tensor<?x4x64xf32>
    return %o : tensor<?x4x64xf32>
  }
}
