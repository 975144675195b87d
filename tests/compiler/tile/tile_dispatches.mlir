// SPDX-License-Identifier: Apache-2.0
// Every compute op ends up in one parallel loop; what follows a matmul is its epilogue.
// RUN: girih-opt %s -girih-tile-dispatches -split-input-file | FileCheck %s

#id = affine_map<(d0, d1) -> (d0, d1)>
!w = !girih.packed<128 x 32, "p16:u4,f16,f16,32">

// CHECK-LABEL: func.func @adds_in_the_epilogue
// CHECK: scf.forall (%[[N:.+]]) = (0) to (128) step (64)
// CHECK: girih.qmatmul ins(%{{.+}}, %{{.+}}[%{{.+}}] :
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK: girih.dispatch = "generic
// CHECK-NOT: scf.forall
func.func @adds_in_the_epilogue(%x: tensor<?x32xf32>, %w: !w, %r: tensor<?x128xf32>, %n: index) -> tensor<?x128xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %e = tensor.empty(%n) : tensor<?x128xf32>
  %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !w) outs(%e : tensor<?x128xf32>)
      {strategy = "direct", row_tile = 1 : i64, column_tile = 64 : i64, k_tile = 32 : i64} -> tensor<?x128xf32>
  %s = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%y, %r : tensor<?x128xf32>, tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) {
    ^bb0(%a: f32, %b: f32, %o: f32):
      %t = arith.addf %a, %b : f32
      linalg.yield %t : f32
  } -> tensor<?x128xf32>
  return %s : tensor<?x128xf32>
}

// Attention's work grows along the prompt: whoever is done first takes more of its units.
// CHECK-LABEL: func.func @appends_before_it_attends
// CHECK: scf.forall
// CHECK: girih.kv_append
// CHECK: girih.dispatch = "kv_append"
// CHECK: scf.forall
// CHECK: girih.attention
// CHECK: girih.distribution = "dynamic"
func.func @appends_before_it_attends(%q: tensor<?x4x16xf32>, %k: tensor<?x2x16xf32>, %v: tensor<?x2x16xf32>,
    %kv: !girih.kv<2, 16, 16, f16>, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 8 : i64} {
  %next = girih.kv_append %k, %v into %kv : tensor<?x2x16xf32>, tensor<?x2x16xf32>, !girih.kv<2, 16, 16, f16>
  %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%next : !girih.kv<2, 16, 16, f16>)
      outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32, query_tile = 4 : i64} -> tensor<?x4x16xf32>
  return %o : tensor<?x4x16xf32>
}

// In a long step the tokens that share a block of the cache go together.
// CHECK-LABEL: func.func @appends_blocks
// CHECK: scf.forall (%[[FIRST:.+]]) = (0) to (%[[T:.+]]) step (16)
// CHECK: %[[COUNT:.+]] = affine.min #{{.+}}(%[[FIRST]])[%[[T]]]
// CHECK: %[[K:.+]] = tensor.extract_slice %{{.+}}[%[[FIRST]], 0, 0] [%[[COUNT]], 2, 16]
// CHECK: girih.kv_append %[[K]], %{{.+}} into %{{.+}}[%[[FIRST]]]
func.func @appends_blocks(%k: tensor<?x2x16xf32>, %v: tensor<?x2x16xf32>, %kv: !girih.kv<2, 16, 16, f16>)
    -> !girih.kv<2, 16, 16, f16> attributes {girih.max_tokens = 64 : i64} {
  %next = girih.kv_append %k, %v into %kv : tensor<?x2x16xf32>, tensor<?x2x16xf32>, !girih.kv<2, 16, 16, f16>
  return %next : !girih.kv<2, 16, 16, f16>
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
!w = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 4, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma]>} {
  // Rows for a matrix unit are shared out by core, none with less than 128.
  // CHECK-LABEL: func.func @rows_of_cores
  // CHECK: %[[SHARES:.*]] = arith.divui %[[T:.*]], %c128
  // CHECK: %[[FEWER:.*]] = arith.minui %[[SHARES]], %c4
  // CHECK: %[[SOME:.*]] = arith.maxui %[[FEWER]], %c1
  // CHECK: arith.ceildivui %[[T]], %[[SOME]]
  // CHECK: %[[ROWS:.*]] = arith.muli %{{.*}}, %c32
  // CHECK: scf.forall {{.*}} step (%[[ROWS]], 32)
  func.func @rows_of_cores(%x: tensor<?x32xbf16>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xbf16>, !w) outs(%init : tensor<?x64xf32>) {column_tile = 32 : i64, k_tile = 32 : i64, row_tile = 32 : i64, strategy = "matrix"} -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

// 100 columns are no multiple of 16, so a unit has all of them: 40 rows of two such results are what 32 KiB hold.
#shared = #machine.level<name = "shared", size_bytes = 32768, bytes_per_cycle = 64, latency_cycles = 20, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 1, latency_cycles = 4, registers = 32, source = "test">
!w = !girih.packed<100 x 32, "p16:u4,f16,f16,32">
module attributes {girih.machine = #machine.description<name = "m", kind = "gpu", cores = 4, clock_mhz = 1000, barrier_ns = 1, levels = [#shared], units = [#fma]>} {
  // CHECK-LABEL: func.func @rows_of_all_columns
  // CHECK: scf.forall {{.*}} step (40)
  func.func @rows_of_all_columns(%x: tensor<?x32xf32>, %w: !w, %init: tensor<?x100xf32>) -> tensor<?x100xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !w) outs(%init : tensor<?x100xf32>) {column_tile = 16 : i64, k_tile = 32 : i64, row_tile = 4 : i64, strategy = "panel"} -> tensor<?x100xf32>
    return %y : tensor<?x100xf32>
  }
}
