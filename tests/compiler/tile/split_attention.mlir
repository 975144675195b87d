// SPDX-License-Identifier: Apache-2.0
// Chunks of the cache become units of work where tokens are few; elsewhere attention stays whole.
// RUN: girih-opt %s -girih-split-attention -girih-tile-dispatches -split-input-file | FileCheck %s

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
#m = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma]>
!kv = !girih.kv<2, 16, 16, f16>
module attributes {girih.model = {maxPositions = 1000 : i64}, girih.machine = #m} {
  // CHECK-LABEL: func.func @step_t8
  // CHECK: tensor.empty({{.*}}) : tensor<?x4x8x48xf32>
  // CHECK: %[[LONGEST:.*]] = girih.step_extent "longest_context"
  // CHECK: %[[CHUNKS:.*]] = affine.min {{.*}}%[[LONGEST]]
  // CHECK: scf.forall (%[[T:.*]], %[[C:.*]], %[[G:.*]]) in (%{{.*}}, %[[CHUNKS]], 2)
  // CHECK: girih.attention_parts {{.*}} cache(%{{.*}}[%[[T]], %[[G]], %[[C]]]
  // CHECK: girih.distribution = "dynamic"
  // CHECK: scf.forall (%{{[^,]*}}) in
  // CHECK: girih.join_parts
  func.func @step_t8(%q: tensor<?x4x16xf32>, %kv: !kv, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 8 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !kv) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32, chunk = 128 : i64, window = 9 : i64} -> tensor<?x4x16xf32>
    return %o : tensor<?x4x16xf32>
  }
  // CHECK-LABEL: func.func @step_t512
  // CHECK-NOT: girih.attention_parts
  func.func @step_t512(%q: tensor<?x4x16xf32>, %kv: !kv, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 512 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !kv) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32, chunk = 128 : i64} -> tensor<?x4x16xf32>
    return %o : tensor<?x4x16xf32>
  }
}

// -----

// One core needs no more units than it has; a context of one chunk has none.
#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
#one = #machine.description<name = "m", kind = "cpu", cores = 1, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma]>
!kv = !girih.kv<2, 16, 16, f16>
module attributes {girih.model = {maxPositions = 1000 : i64}, girih.machine = #one} {
  // CHECK-LABEL: func.func @step_t1
  // CHECK-NOT: girih.attention_parts
  func.func @step_t1(%q: tensor<?x4x16xf32>, %kv: !kv, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 1 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !kv) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32, chunk = 128 : i64} -> tensor<?x4x16xf32>
    return %o : tensor<?x4x16xf32>
  }
}
