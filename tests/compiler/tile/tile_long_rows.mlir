// Rows that outgrow half of the second level pass by in parts: of k, each for several column tiles of a unit, or of rows.
//
// RUN: girih-opt %s -girih-tile-dispatches | FileCheck %s

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 2097152, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#matrix = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 32>>
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1, #l2], units = [#matrix]>} {
  // CHECK-LABEL: func.func @long
  // CHECK: scf.forall {{.*}} to (%{{.*}}, 2048) step (%{{.*}}, 512)
  func.func @long(%x: tensor<?x5632xbf16>, %w: !girih.packed<2048 x 5632, "p16:u4,f16,none,32,8">, %init: tensor<?x2048xf32>) -> tensor<?x2048xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x5632xbf16>, !girih.packed<2048 x 5632, "p16:u4,f16,none,32,8">) outs(%init : tensor<?x2048xf32>) {column_tile = 32 : i64, k_tile = 576 : i64, row_tile = 32 : i64, strategy = "matrix"} -> tensor<?x2048xf32>
    return %y : tensor<?x2048xf32>
  }
  // CHECK-LABEL: func.func @short
  // CHECK: scf.forall {{.*}} to (%{{.*}}, 2048) step (%{{.*}}, 32)
  func.func @short(%x: tensor<?x576xbf16>, %w: !girih.packed<2048 x 576, "p16:u4,f16,none,32,8">, %init: tensor<?x2048xf32>) -> tensor<?x2048xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x576xbf16>, !girih.packed<2048 x 576, "p16:u4,f16,none,32,8">) outs(%init : tensor<?x2048xf32>) {column_tile = 32 : i64, k_tile = 576 : i64, row_tile = 32 : i64, strategy = "matrix"} -> tensor<?x2048xf32>
    return %y : tensor<?x2048xf32>
  }
  // Rows of 8-bit codes, in passes over k: each core's share in equal parts of which one pass reads half of the second level,
  // in whole tiles of 6 rows, and wide units.
  // CHECK-LABEL: func.func @codes
  // CHECK: arith.constant 32 : index
  // CHECK: %[[MOST:.*]] = arith.constant 504 : index
  // CHECK: %[[PARTS:.*]] = arith.ceildivui %[[SHARE:.*]], %[[MOST]]
  // CHECK: arith.ceildivui %[[SHARE]], %
  // CHECK: scf.forall {{.*}} to (%{{.*}}, 576) step (%{{.*}}, 192)
  func.func @codes(%x: tensor<?x6208xi8>, %w: !girih.packed<576 x 1536, "p16:u4,f16,f16,32">, %init: tensor<?x576xf32>) -> tensor<?x576xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x6208xi8>, !girih.packed<576 x 1536, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) {column_tile = 32 : i64, k_tile = 512 : i64, row_tile = 6 : i64, strategy = "panel"} -> tensor<?x576xf32>
    return %y : tensor<?x576xf32>
  }
  // One pass: a unit is a tile wide.
  // CHECK-LABEL: func.func @short_codes
  // CHECK: arith.constant 128 : index
  // CHECK: scf.forall {{.*}} to (%{{.*}}, 576) step (%{{.*}}, 32)
  func.func @short_codes(%x: tensor<?x2368xi8>, %w: !girih.packed<576 x 576, "p16:u4,f16,f16,32">, %init: tensor<?x576xf32>) -> tensor<?x576xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x2368xi8>, !girih.packed<576 x 576, "p16:u4,f16,f16,32">) outs(%init : tensor<?x576xf32>) {column_tile = 32 : i64, k_tile = 576 : i64, row_tile = 6 : i64, strategy = "panel"} -> tensor<?x576xf32>
    return %y : tensor<?x576xf32>
  }
}
