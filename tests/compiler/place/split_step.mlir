// SPDX-License-Identifier: Apache-2.0
// A step that its backend takes in part becomes parts of two sides, and a schedule of them.
// RUN: girih-opt %s -girih-split-step -split-input-file | FileCheck %s

// What the first part makes crosses; the views between are repeated where they are read.
// CHECK: module attributes {girih.schedule = {step_t8 = [
// CHECK-SAME: copies = [], loop = 0 : i64, repetitions = 1 : i64, side = "own", symbol = "step_t8_0"
// CHECK-SAME: from = "own", from_offset = 0 : i64, row_bytes = 256 : i64, rows = "num_tokens", to = "rest", to_offset = 0 : i64
// CHECK-SAME: side = "rest", symbol = "step_t8_1"
// CHECK-SAME: girih.slot_bytes = 2048
// CHECK-LABEL: func.func @step_t8_0
// CHECK-SAME: -> (tensor<?x64xf32> {girih.rows = "num_tokens", girih.slot = 0 : i64}) attributes {girih.max_tokens = 8 : i64, girih.side = "own"}
// CHECK: girih.gather_rows
// CHECK-NOT: girih.qmatmul
// CHECK-LABEL: func.func @step_t8_1
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x64xf32> {girih.rows = "num_tokens", girih.slot = 0 : i64}) -> tensor<?x64xf32>
// CHECK-SAME: girih.side = "rest"
// CHECK: %[[S:.+]] = tensor.extract_slice %[[X]]
// CHECK: girih.qmatmul ins(%[[S]]
// CHECK-NOT: girih.declined
module {
  func.func @step_t8(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32>
      attributes {girih.max_tokens = 8 : i64} {
    %c0 = arith.constant 0 : index
    %n = tensor.dim %tokens, %c0 : tensor<?xi32>
    %w = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 64, "p16:s8,f16,none,32">
    %h = girih.layer_weight %c0 [["head"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
    %e = tensor.empty(%n) : tensor<?x64xf32>
    %x = girih.gather_rows ins(%tokens, %w : tensor<?xi32>, !girih.packed<64 x 64, "p16:s8,f16,none,32">)
        outs(%e : tensor<?x64xf32>) -> tensor<?x64xf32>
    %s = tensor.extract_slice %x[0, 32] [%n, 32] [1, 1] : tensor<?x64xf32> to tensor<?x32xf32>
    %y = girih.qmatmul ins(%s, %h : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
        outs(%e : tensor<?x64xf32>) {girih.declined} -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

// A loop is cut inside: what it carries moves to its slot before the loop and after each iteration, on both sides where
// both read it.
// CHECK: module attributes {girih.schedule = {step_t1 = [
// CHECK-SAME: symbol = "step_t1_0"
// CHECK-SAME: {copies = [{from = "own", from_offset = [[X:[0-9]+]] : i64, row_bytes = 128 : i64, rows = "num_tokens", to = "own", to_offset = [[C:[0-9]+]] : i64}, {from = "own", from_offset = [[X]] : i64, row_bytes = 128 : i64, rows = "num_tokens", to = "rest", to_offset = [[C]] : i64}], loop = 0 : i64
// CHECK-SAME: loop = 1 : i64, repetitions = 4 : i64, side = "rest", symbol = "step_t1_1"
// CHECK-SAME: from = "rest"{{[^}]*}}to = "own"
// CHECK-SAME: loop = 1 : i64, repetitions = 4 : i64, side = "own", symbol = "step_t1_2"
// CHECK-SAME: {copies = [{from = "own", from_offset = [[Y:[0-9]+]] : i64, row_bytes = 128 : i64, rows = "num_tokens", to = "own", to_offset = [[C]] : i64}, {from = "own", from_offset = [[Y]] : i64, row_bytes = 128 : i64, rows = "num_tokens", to = "rest", to_offset = [[C]] : i64}], loop = 1 : i64, repetitions = 4 : i64, side = "own", symbol = ""}
// CHECK-LABEL: func.func @step_t1_1
// CHECK: girih.step_extent "iteration" {girih.iterations = 4 : i64}
// CHECK: girih.layer_weight
// CHECK: girih.qmatmul
// CHECK-LABEL: func.func @step_t1_2
// CHECK: linalg.generic
#id = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x32xf32>
      attributes {girih.max_tokens = 1 : i64} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    %n = tensor.dim %tokens, %c0 : tensor<?xi32>
    %w = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
    %e = tensor.empty(%n) : tensor<?x32xf32>
    %x = girih.gather_rows ins(%tokens, %w : tensor<?xi32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
        outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
    %l = scf.for %layer = %c0 to %c4 step %c1 iter_args(%carried = %x) -> (tensor<?x32xf32>) {
      %m = tensor.dim %carried, %c0 : tensor<?x32xf32>
      %o = tensor.empty(%m) : tensor<?x32xf32>
      %p = girih.layer_weight %layer [["a"], ["b"], ["c"], ["d"]] {storage = "q8_0"} : !girih.packed<32 x 32, "p16:s8,f16,none,32">
      %y = girih.qmatmul ins(%carried, %p : tensor<?x32xf32>, !girih.packed<32 x 32, "p16:s8,f16,none,32">)
          outs(%o : tensor<?x32xf32>) {girih.declined} -> tensor<?x32xf32>
      %z = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
          ins(%carried, %y : tensor<?x32xf32>, tensor<?x32xf32>) outs(%o : tensor<?x32xf32>) {
      ^bb0(%a: f32, %b: f32, %old: f32):
        %sum = arith.addf %a, %b : f32
        linalg.yield %sum : f32
      } -> tensor<?x32xf32>
      scf.yield %z : tensor<?x32xf32>
    }
    %k = tensor.dim %rows, %c0 : tensor<?xi32>
    %g = tensor.empty(%k) : tensor<?x32xf32>
    %r = girih.gather_rows ins(%rows, %l : tensor<?xi32>, tensor<?x32xf32>) outs(%g : tensor<?x32xf32>) -> tensor<?x32xf32>
    return %r : tensor<?x32xf32>
  }
}

// -----

// Nothing is declined: nothing changes.
// CHECK-NOT: girih.schedule
// CHECK-LABEL: func.func @step_t1(
module {
  func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x32xf32>
      attributes {girih.max_tokens = 1 : i64} {
    %c0 = arith.constant 0 : index
    %n = tensor.dim %rows, %c0 : tensor<?xi32>
    %e = tensor.empty(%n) : tensor<?x32xf32>
    return %e : tensor<?x32xf32>
  }
}
