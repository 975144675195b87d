// SPDX-License-Identifier: Apache-2.0
// Tiles follow from the machine: registers bound the register tile, the second level the panel's depth.
// RUN: girih-opt %s -girih-select-strategy -split-input-file -verify-diagnostics | FileCheck %s

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 2097152, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#wide = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
!w = !girih.packed<64 x 1024, "p16:u4,f16,f16,32">
module attributes {girih.machine = #machine.description<name = "wide", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1, #l2], units = [#wide]>} {
  // One row: codes are unpacked in registers.
  // CHECK-LABEL: func.func @step_t1
  // CHECK: girih.qmatmul {{.*}}k_tile = 1024 : i64, row_tile = 1 : i64, strategy = "direct"
  func.func @step_t1(%x: tensor<?x1024xf32>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x1024xf32>, !w) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
  // Many rows: a panel is dequantised once for all of them.
  // CHECK-LABEL: func.func @step_t512
  // CHECK: girih.qmatmul {{.*}}k_tile = 1024 : i64{{.*}}strategy = "panel"
  func.func @step_t512(%x: tensor<?x1024xf32>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x1024xf32>, !w) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 16384, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 65536, bytes_per_cycle = 32, latency_cycles = 15, shared_by = 1, source = "test">
#narrow = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">
!w = !girih.packed<64 x 1024, "p16:u4,f16,f16,32">
module attributes {girih.machine = #machine.description<name = "narrow", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1, #l2], units = [#narrow]>} {
  // Half the vector, half the registers, a small second level: fewer accumulators, a shallower panel.
  // CHECK-LABEL: func.func @step_t512
  // CHECK: girih.qmatmul {{.*}}column_tile = 16 : i64, k_tile = 512 : i64, row_tile = 6 : i64, strategy = "panel"
  func.func @step_t512(%x: tensor<?x1024xf32>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x1024xf32>, !w) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

// expected-error@+1 {{module has no `girih.machine` with an f32 unit and a memory level}}
module {
  func.func @step_t1() attributes {girih.max_tokens = 1 : i64} {
    return
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 2097152, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
#matrix = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 32>>
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1, #l2], units = [#fma, #matrix]>} {
  // CHECK-LABEL: func.func @matrix_unit
  // CHECK: column_tile = 32 : i64, k_tile = 512 : i64, row_tile = 32 : i64, strategy = "matrix"
  // CHECK: column_tile = 32 : i64, k_tile = 576 : i64, row_tile = 32 : i64, strategy = "matrix"
  func.func @matrix_unit(%x: tensor<?x1536xbf16>, %w: !girih.packed<576 x 1536, "p16:u4,f16,f16,32">, %z: tensor<?x14336xbf16>, %v: !girih.packed<576 x 14336, "p16:u4,f16,f16,32">, %init: tensor<?x576xf32>) -> (tensor<?x576xf32>, tensor<?x576xf32>) attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x1536xbf16>, !girih.packed<576 x 1536, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    %u = girih.qmatmul ins(%z, %v : tensor<?x14336xbf16>, !girih.packed<576 x 14336, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    return %y, %u : tensor<?x576xf32>, tensor<?x576xf32>
  }

  // Rows that outgrow half of the second level, their sums read by one operation alone: passes of half of the first level.
  // CHECK-LABEL: func.func @parts
  // CHECK: column_tile = 32 : i64, k_tile = 384 : i64, row_tile = 32 : i64, strategy = "matrix"
  func.func @parts(%x: tensor<512x5632xbf16>, %w: !girih.packed<2048 x 5632, "p16:u4,f16,f16,32">, %init: tensor<512x2048xf32>, %residual: tensor<512x2048xf32>) -> tensor<512x2048xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<512x5632xbf16>, !girih.packed<2048 x 5632, "p16:u4,f16,f16,32">) outs(%init : tensor<512x2048xf32>) -> tensor<512x2048xf32>
    %sum = linalg.add ins(%y, %residual : tensor<512x2048xf32>, tensor<512x2048xf32>) outs(%init : tensor<512x2048xf32>) -> tensor<512x2048xf32>
    return %sum : tensor<512x2048xf32>
  }

  // No more rows than a tile has: integer codes as they are stored.
  // CHECK-LABEL: func.func @few_rows
  // CHECK: column_tile = 32 : i64, k_tile = 1536 : i64, row_tile = 16 : i64, strategy = "codes"
  // CHECK: column_tile = 32 : i64, k_tile = 512 : i64, row_tile = 32 : i64, strategy = "matrix"
  func.func @few_rows(%x: tensor<?x1536xbf16>, %w: !girih.packed<576 x 1536, "p16:u4,f16,f16,32">, %v: !girih.packed<576 x 1536, "p16:bf16x2,none,none,32">, %init: tensor<?x576xf32>) -> (tensor<?x576xf32>, tensor<?x576xf32>) attributes {girih.max_tokens = 16 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x1536xbf16>, !girih.packed<576 x 1536, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    %u = girih.qmatmul ins(%x, %v : tensor<?x1536xbf16>, !girih.packed<576 x 1536, "p16:bf16x2,none,none,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    return %y, %u : tensor<?x576xf32>, tensor<?x576xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
#matrix = #machine.unit<name = "matrix", element = "i8", lanes = 1024, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 64>>
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma, #dot, #matrix]>} {
  // A tile of bytes: units of as many panels as leave each core as many units. Two scales a block do not suit it.
  // CHECK-LABEL: func.func @bytes
  // CHECK: column_tile = 32 : i64, k_tile = 1536 : i64, row_tile = 16 : i64, strategy = "bytes"
  // CHECK: column_tile = 128 : i64, k_tile = 1536 : i64, row_tile = 16 : i64, strategy = "bytes"
  // CHECK: row_tile = 8 : i64, strategy = "direct"
  func.func @bytes(%x: tensor<?x6208xi8>, %w: !girih.packed<576 x 1536, "p16:u4,f16,f16,32">, %v: !girih.packed<1536 x 1536, "p16:s8,f16,none,32">, %u: !girih.packed<576 x 1536, "p16:s8,f16*s8,none,16">, %init: tensor<?x576xf32>, %wide: tensor<?x1536xf32>) -> (tensor<?x576xf32>, tensor<?x1536xf32>, tensor<?x576xf32>) attributes {girih.max_tokens = 16 : i64} {
    %a = girih.qmatmul ins(%x, %w : tensor<?x6208xi8>, !girih.packed<576 x 1536, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    %b = girih.qmatmul ins(%x, %v : tensor<?x6208xi8>, !girih.packed<1536 x 1536, "p16:s8,f16,none,32">) outs(%wide : tensor<?x1536xf32>) -> tensor<?x1536xf32>
    %c = girih.qmatmul ins(%x, %u : tensor<?x6208xi8>, !girih.packed<576 x 1536, "p16:s8,f16*s8,none,16">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    return %a, %b, %c : tensor<?x576xf32>, tensor<?x1536xf32>, tensor<?x576xf32>
  }

  // With up to 8 rows vectors are as fast.
  // CHECK-LABEL: func.func @too_few
  // CHECK: strategy = "direct"
  func.func @too_few(%x: tensor<?x6208xi8>, %w: !girih.packed<576 x 1536, "p16:u4,f16,f16,32">, %init: tensor<?x576xf32>) -> tensor<?x576xf32> attributes {girih.max_tokens = 8 : i64} {
    %a = girih.qmatmul ins(%x, %w : tensor<?x6208xi8>, !girih.packed<576 x 1536, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) -> tensor<?x576xf32>
    return %a : tensor<?x576xf32>
  }
}
