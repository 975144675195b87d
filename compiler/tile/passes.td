// SPDX-License-Identifier: Apache-2.0
// Stage tile: sizes for every memory level from #machine alone, then one parallel loop a dispatch.
#ifndef GIRIH_COMPILER_TILE_PASSES_TD
#define GIRIH_COMPILER_TILE_PASSES_TD

include "mlir/Pass/PassBase.td"

def ChooseArithmetic : Pass<"girih-choose-arithmetic", "::mlir::ModuleOp"> {
  let summary = "says for each matmul and attention in which arithmetic it multiplies";
  let description = [{
    Reads the module's `girih.numerics` ("exact", "invariant" or "fast") and `girih.machine`, the weight's layout and the
    function's `girih.max_tokens`. *exact*, or no numerics: f32, nothing changes. *invariant* and *fast*: where the
    weight's codes are integers and the machine has an i8 unit, x becomes the codes of one `girih.quantize_rows`, which
    all matmuls that read the same x share; in *fast* with `both_digits` for short prompts. *fast*, where the machine has a matrix unit of bf16 and the function's steps
    can fill its rows: x is rounded to bf16 (but to 8 bits for what the function returns, where the weight has signed codes of a byte, the machine
    a unit for them and one of its tiles has all rows), likewise once, its rows an odd number of the unit's tiles apart, and every `girih.attention` gets `operand_type = bf16`; where
    it has a unit of i16 instead, attention in steps longer than a short prompt gets `operand_type = i16`. Matmuls of codes in
    steps longer than a short prompt, but what the function returns, get `girih.rounded_scales`. The element type of x is the
    only other trace of the choice.

    Example:
    ```mlir
    module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu",
        cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#machine.level<name = "L1", size_bytes = 49152,
        bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">], units = [#machine.unit<name = "dot",
        element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">]>} {
      func.func @step_t1(%x: tensor<?x32xf32>, %w: !girih.packed<64 x 32, "p16:u4,f16,f16,32">,
          %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
        %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
            outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
        return %y : tensor<?x64xf32>
      }
    }
    // CHECK: girih.quantize_rows
    // CHECK: girih.qmatmul ins({{.*}} : tensor<?x192xi8>
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::tensor::TensorDialect"];
}

def SelectStrategy : Pass<"girih-select-strategy", "::mlir::ModuleOp"> {
  let summary = "chooses tile sizes from the machine's figures";
  let description = [{
    Reads the module's `girih.machine` and each step function's `girih.max_tokens`; writes `strategy`, `row_tile`,
    `column_tile` and `k_tile` on every `girih.qmatmul` and `query_tile` and `chunk` on every cached `girih.attention` (`chunk` from the model's positions alone:
    it is the same in every function and file). Register
    tiles maximise multiply-adds per load within the vector registers; a panel's depth keeps the dequantised panel
    within half of the level that follows L1. With x of bf16 the strategy is "matrix", its tile that of the machine's
    matrix unit twice in both directions; a step of no more rows than such a tile has meets integer codes as they are
    stored, "codes". With x of i8 and a matrix unit of bytes a step of some rows, but no more than its tile has, takes
    "bytes". Fails when the machine has no f32 unit or no level.

    Example:
    ```mlir
    module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600,
        barrier_ns = 200, levels = [#machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128,
        latency_cycles = 5, shared_by = 1, source = "test">, #machine.level<name = "L2", size_bytes = 2097152,
        bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">],
        units = [#machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4,
        registers = 32, source = "test">]>} {
      func.func @step_t1(%x: tensor<?x32xf32>, %w: !girih.packed<64 x 32, "p16:u4,f16,f16,32">,
          %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
        %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:u4,f16,f16,32">)
            outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
        return %y : tensor<?x64xf32>
      }
    }
    ```
    gives the qmatmul `strategy = "direct"` and its tiles.
  }];
}

def SplitAttention : Pass<"girih-split-attention", "::mlir::ModuleOp"> {
  let summary = "makes chunks of the cache units of work where there are few tokens";
  let description = [{
    Before: in a step of few tokens attention has a unit of work for each token and kv head, fewer than keep several
    cores busy, and each walks its whole context. After: `girih.attention_parts` has one for each chunk besides, and
    `girih.join_parts` makes the result from them, the same bits. For functions of at most 16 tokens, on a machine of
    more than one core, of a model whose number of positions is known (`girih.model`) and more than a chunk.

    Example:
    ```mlir
    module attributes {girih.model = {maxPositions = 8192 : i64}, girih.machine = #machine.description<name = "m",
        kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#machine.level<name = "L1",
        size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">],
        units = [#machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4,
        registers = 32, source = "test">]>} {
      func.func @step_t1(%q: tensor<?x9x64xf32>, %kv: !girih.kv<3, 64, 64, f16>, %init: tensor<?x9x64xf32>)
          -> tensor<?x9x64xf32> attributes {girih.max_tokens = 1 : i64} {
        %o = girih.attention ins(%q : tensor<?x9x64xf32>) cache(%kv : !girih.kv<3, 64, 64, f16>)
            outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32, chunk = 128 : i64} -> tensor<?x9x64xf32>
        return %o : tensor<?x9x64xf32>
      }
    }
    // CHECK: %[[P:.*]] = girih.attention_parts {{.*}} -> tensor<?x9x64x96xf32>
    // CHECK: girih.join_parts ins(%[[P]] : tensor<?x9x64x96xf32>)
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect", "::mlir::tensor::TensorDialect"];
}

def TileDispatches : Pass<"girih-tile-dispatches", "::mlir::ModuleOp"> {
  let summary = "makes each group of ops that meet without waiting one parallel loop";
  let description = [{
    Every compute op of a step function ends up in one `scf.forall`, whose iterations are independent units of work
    and after which the team meets. A root (the last op of a group) is tiled, and producers that only it reads are
    computed inside its tile: what follows a `girih.qmatmul` elementwise becomes its epilogue, a row's reduction
    stays with the row. `girih.dispatch` names the root; `girih.distribution` is "dynamic" where weights or the
    cache are read: iterations are long, and those of attention of unequal length.

    Example:
    ```mlir
    #id = affine_map<(d0, d1) -> (d0, d1)>
    func.func @step_t1(%a: tensor<?x32xf32>, %init: tensor<?x32xf32>) -> tensor<?x32xf32>
        attributes {girih.max_tokens = 1 : i64} {
      %0 = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
          ins(%a : tensor<?x32xf32>) outs(%init : tensor<?x32xf32>) {
        ^bb0(%x: f32, %o: f32):
          %s = arith.addf %x, %x : f32
          linalg.yield %s : f32
      } -> tensor<?x32xf32>
      return %0 : tensor<?x32xf32>
    }
    ```
    becomes `scf.forall` over rows.
  }];
  let dependentDialects = ["::mlir::scf::SCFDialect", "::mlir::affine::AffineDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def VerifyFootprints : Pass<"girih-verify-footprints", "::mlir::ModuleOp"> {
  let summary = "proves that every tile fits the memory level it was made for";
  let description = [{
    Before: sizes are chosen. After: the same module, of which holds: a panel of dequantised weights with the
    activations and sums that meet it fits the second level, a matrix unit's weights the first, and the queries and
    sums that share keys the first; `girih.machine` says how large those are. Fails at the first that does not.

    Example:
    ```mlir
    #l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">
    #l2 = #machine.level<name = "L2", size_bytes = 16384, bytes_per_cycle = 48, latency_cycles = 15, shared_by = 1, source = "test">
    #fma = #machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">
    module attributes {girih.machine = #machine.description<name = "m", kind = "cpu", cores = 1, clock_mhz = 1000, barrier_ns = 100, levels = [#l1, #l2], units = [#fma]>} {
      func.func @proved(%x: tensor<?x64xf32>, %w: !girih.packed<64 x 64, "p16:s8,f16,none,32">, %init: tensor<?x64xf32>)
          -> tensor<?x64xf32> {
        %y = girih.qmatmul ins(%x, %w : tensor<?x64xf32>, !girih.packed<64 x 64, "p16:s8,f16,none,32">)
            outs(%init : tensor<?x64xf32>) {strategy = "panel", row_tile = 4 : i64, column_tile = 32 : i64, k_tile = 64 : i64}
            -> tensor<?x64xf32>
        return %y : tensor<?x64xf32>
      }
    }
    // CHECK: k_tile = 64
    ```
  }];
}

#endif
