// The ladder of a tiny model, rung by rung: two layers of attention between an embedding and a head that share a
// weight. The graph is at the end of this file; each run climbs one stage further, and what follows it says what is
// new there.

// RUN: girih-opt %s -girih-import | FileCheck %s --check-prefix=IMPORT
// RUN: girih-opt %s -girih-import -girih-raise | FileCheck %s --check-prefix=RAISE
// RUN: girih-opt %s -girih-import -girih-raise -girih-specialize=max-tokens=8 | FileCheck %s --check-prefix=SPECIALIZE
// RUN: girih-opt %s -girih-import -girih-raise -girih-specialize=max-tokens=8 -girih-fuse | FileCheck %s --check-prefix=FUSE
// RUN: girih-opt %s -girih-import -girih-raise -girih-specialize=max-tokens=8 -girih-fuse -girih-tile | FileCheck %s --check-prefix=TILE
// RUN: girih-opt %s -girih-import -girih-raise -girih-specialize=max-tokens=8 -girih-fuse -girih-tile -girih-allocate | FileCheck %s --check-prefix=ALLOCATE

// import: layers that are alike are one block, called with each layer's weights; attention is still what the textbook
// says, with scores of every token with every other.
// IMPORT-LABEL: func.func @main
// IMPORT: %[[Q0:.+]] = girih.weight "0.q"
// IMPORT: %[[X1:.+]] = call @block_0(%{{.+}}, %[[Q0]],
// IMPORT: %[[Q1:.+]] = girih.weight "1.q"
// IMPORT: call @block_0(%[[X1]], %[[Q1]],
// IMPORT-LABEL: func.func private @block_0
// IMPORT: linalg.generic {{.*}} outs(%{{.+}} : tensor<?x?xf32>)
// IMPORT: arith.cmpi sle
// IMPORT: linalg.softmax
// IMPORT-NOT: @layer_1

// raise: the scores are gone: their meaning was attention, causal by its mask, scaled by 1/4. Projections of one input
// are one contraction over stacked weights.
// RAISE-LABEL: func.func private @block_0
// RAISE: girih.concat_rows {{.*}} -> tensor<48x16xf32, #girih.storage<"q8_0">>
// RAISE: girih.attention ins(%{{.+}} : tensor<?x1x16xf32>) keys(
// RAISE-SAME: scale = 2.500000e-01
// RAISE-NOT: tensor<?x?xf32>

// specialize: one sequence became a ragged step of at most 8 tokens. Attention appends its keys and values to a cache
// and reads that; stored weights are multiplied as they are stored; logits are computed for the rows that are wanted.
// SPECIALIZE-LABEL: func.func @step_t8
// SPECIALIZE-SAME: (%{{.+}}: tensor<?xi32>, %{{.+}}: tensor<?xi32>, %[[ROWS:.+]]: tensor<?xi32>)
// SPECIALIZE: girih.kv_layer 0
// SPECIALIZE: girih.kv_layer 1
// SPECIALIZE: %[[LAST:.+]] = girih.gather_rows ins(%[[ROWS]],
// SPECIALIZE: call @head_t8(%[[LAST]],
// SPECIALIZE-LABEL: func.func private @block_0_t8
// SPECIALIZE: girih.qmatmul
// SPECIALIZE: %[[CACHE:.+]] = girih.kv_append
// SPECIALIZE: girih.attention ins(%{{.+}} : tensor<?x1x16xf32>) cache(%[[CACHE]]

// fuse: the calls are a loop over layers, and a weight is named by the loop's index. Every weight has the packed layout
// in which the file stores it, the three of q, k and v as one.
// FUSE-LABEL: func.func @step_t8
// FUSE: scf.for %[[LAYER:.+]] = %{{.+}} to %{{.+}} step %{{.+}} iter_args
// FUSE-DAG: girih.layer_weight %[[LAYER]] {{\[\["0.q", "0.k", "0.v"\], \["1.q", "1.k", "1.v"\]\]}} {{.*}} : !girih.packed<48 x 16,
// FUSE-DAG: girih.kv_layer 0[%[[LAYER]]]
// FUSE: girih.attention
// FUSE-NOT: call @

// tile: each group of operations that need not wait for each other is one parallel loop over tiles; sizes follow from
// the caches and registers of the machine below. The residual is added where its matmul's tile is computed.
// TILE-LABEL: func.func @step_t8
// TILE: scf.for
// TILE: scf.forall {{.*}} to (48) step (16)
// TILE: girih.qmatmul {{.*}}strategy = "direct"
// TILE: girih.dispatch = "kv_append"
// TILE: girih.attention {{.*}}query_tile = 8
// TILE: girih.dispatch = "attention"
// TILE: girih.qmatmul
// TILE-NEXT: tensor.extract_slice
// TILE-NEXT: linalg.add
// TILE: girih.dispatch = "add"

// allocate: nothing has a value of its own any more: activations lie in one arena whose size is known, weights and
// caches at offsets (a table where layers differ), and a tile's temporaries in its thread's scratch.
// ALLOCATE: module attributes {girih.arena_bytes = {{[0-9]+}} : i64
// ALLOCATE-SAME: girih.kv_block_bytes = 2048 : i64, girih.kv_layers = 2 : i64
// ALLOCATE: memref.global "private" constant @offsets{{.*}} : memref<2xi64> = dense
// ALLOCATE-LABEL: func.func @step_t8
// ALLOCATE-SAME: (%{{.+}}: !llvm.ptr, %{{.+}}: index, %{{.+}}: index)
// ALLOCATE: girih.buffer_at "arena"
// ALLOCATE: girih.packed_at
// ALLOCATE: girih.kv_at
// ALLOCATE: girih.buffer_at "scratch"
// ALLOCATE: girih.buffer_at "logits"
// ALLOCATE-NOT: tensor<

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">
#l2 = #machine.level<name = "L2", size_bytes = 2097152, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">

#rows = affine_map<(t, n, k) -> (t, k)>
#columns = affine_map<(t, n, k) -> (n, k)>
#out = affine_map<(t, n, k) -> (t, n)>
#id = affine_map<(t, n) -> (t, n)>
!w = tensor<16x16xf32, #girih.storage<"q8_0">>
!x = tensor<?x16xf32>

module attributes {girih.machine = #machine.description<name = "small", kind = "cpu", cores = 2, clock_mhz = 2000, barrier_ns = 200, levels = [#l1, #l2], units = [#fma]>} {
  func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x32xf32> {
    %x0 = call @embed(%tokens) : (tensor<?xi32>) -> !x
    %x1 = call @layer_0(%x0) : (!x) -> !x
    %x2 = call @layer_1(%x1) : (!x) -> !x
    %logits = call @head(%x2) : (!x) -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
  func.func private @layer_0(%x: !x) -> !x {
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : f32
    %t = tensor.dim %x, %c0 : !x
    %empty = tensor.empty(%t) : !x
    %square = tensor.empty(%t, %t) : tensor<?x?xf32>
    %w_q = girih.weight "0.q" : !w
    %w_k = girih.weight "0.k" : !w
    %w_v = girih.weight "0.v" : !w
    %w_o = girih.weight "0.o" : !w
    %q_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %q = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_q : !x, !w) outs(%q_init : !x) -> !x
    %k_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %k = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_k : !x, !w) outs(%k_init : !x) -> !x
    %v_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %v = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_v : !x, !w) outs(%v_init : !x) -> !x
    %s_init = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
    %s = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%q, %k : !x, !x) outs(%s_init : tensor<?x?xf32>) -> tensor<?x?xf32>
    %m = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]} ins(%s : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) {
    ^bb0(%score: f32, %unused: f32):
      %query = linalg.index 0 : index
      %key = linalg.index 1 : index
      %seen = arith.cmpi sle, %key, %query : index
      %scale = arith.constant 0.25 : f32
      %scaled = arith.mulf %score, %scale : f32
      %hidden = arith.constant 0xFF800000 : f32
      %kept = arith.select %seen, %scaled, %hidden : f32
      linalg.yield %kept : f32
    } -> tensor<?x?xf32>
    %p = linalg.softmax dimension(1) ins(%m : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
    %a_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %a = linalg.matmul ins(%p, %v : tensor<?x?xf32>, !x) outs(%a_init : !x) -> !x
    %y_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %y = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%a, %w_o : !x, !w) outs(%y_init : !x) -> !x
    %sum = linalg.add ins(%x, %y : !x, !x) outs(%empty : !x) -> !x
    return %sum : !x
  }
  func.func private @layer_1(%x: !x) -> !x {
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : f32
    %t = tensor.dim %x, %c0 : !x
    %empty = tensor.empty(%t) : !x
    %square = tensor.empty(%t, %t) : tensor<?x?xf32>
    %w_q = girih.weight "1.q" : !w
    %w_k = girih.weight "1.k" : !w
    %w_v = girih.weight "1.v" : !w
    %w_o = girih.weight "1.o" : !w
    %q_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %q = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_q : !x, !w) outs(%q_init : !x) -> !x
    %k_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %k = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_k : !x, !w) outs(%k_init : !x) -> !x
    %v_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %v = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w_v : !x, !w) outs(%v_init : !x) -> !x
    %s_init = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
    %s = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%q, %k : !x, !x) outs(%s_init : tensor<?x?xf32>) -> tensor<?x?xf32>
    %m = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]} ins(%s : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) {
    ^bb0(%score: f32, %unused: f32):
      %query = linalg.index 0 : index
      %key = linalg.index 1 : index
      %seen = arith.cmpi sle, %key, %query : index
      %scale = arith.constant 0.25 : f32
      %scaled = arith.mulf %score, %scale : f32
      %hidden = arith.constant 0xFF800000 : f32
      %kept = arith.select %seen, %scaled, %hidden : f32
      linalg.yield %kept : f32
    } -> tensor<?x?xf32>
    %p = linalg.softmax dimension(1) ins(%m : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
    %a_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %a = linalg.matmul ins(%p, %v : tensor<?x?xf32>, !x) outs(%a_init : !x) -> !x
    %y_init = linalg.fill ins(%zero : f32) outs(%empty : !x) -> !x
    %y = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%a, %w_o : !x, !w) outs(%y_init : !x) -> !x
    %sum = linalg.add ins(%x, %y : !x, !x) outs(%empty : !x) -> !x
    return %sum : !x
  }
  func.func private @embed(%tokens: tensor<?xi32>) -> !x {
    %c0 = arith.constant 0 : index
    %t = tensor.dim %tokens, %c0 : tensor<?xi32>
    %table = girih.weight "embed" : tensor<32x16xf32, #girih.storage<"q8_0">>
    %empty = tensor.empty(%t) : !x
    %x = linalg.generic {indexing_maps = [affine_map<(t, n) -> (t)>, #id], iterator_types = ["parallel", "parallel"]} ins(%tokens : tensor<?xi32>) outs(%empty : !x) {
    ^bb0(%token: i32, %unused: f32):
      %row = arith.index_cast %token : i32 to index
      %column = linalg.index 1 : index
      %element = tensor.extract %table[%row, %column] : tensor<32x16xf32, #girih.storage<"q8_0">>
      linalg.yield %element : f32
    } -> !x
    return %x : !x
  }
  func.func private @head(%x: !x) -> tensor<?x32xf32> {
    %c0 = arith.constant 0 : index
    %zero = arith.constant 0.0 : f32
    %t = tensor.dim %x, %c0 : !x
    %w = girih.weight "embed" : tensor<32x16xf32, #girih.storage<"q8_0">>
    %empty = tensor.empty(%t) : tensor<?x32xf32>
    %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x32xf32>) -> tensor<?x32xf32>
    %logits = linalg.matmul indexing_maps = [#rows, #columns, #out] ins(%x, %w : !x, tensor<32x16xf32, #girih.storage<"q8_0">>) outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
}
