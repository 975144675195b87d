// SPDX-License-Identifier: Apache-2.0
// Stage place: which of two backends computes what, where one of them does not take all.
#ifndef GIRIH_COMPILER_PLACE_PASSES_TD
#define GIRIH_COMPILER_PLACE_PASSES_TD

include "mlir/Pass/PassBase.td"

def SplitStep : Pass<"girih-split-step", "::mlir::ModuleOp"> {
  let summary = "cuts a step into parts that two backends run by turns";
  let description = [{
    Before: the operations of a step that its backend declines carry `girih.declined`. After: each run of operations of one
    side is a function, `@step_t1_0` and so on, with `girih.side` "own" or "rest". It takes the step's tokens, positions and
    logit rows, then the values that other parts made; it gives those that other parts read, and the last one the logits.
    Such a value has a slot, a place at the beginning of both sides' arenas, which the argument or result names by
    `girih.slot` and `girih.rows`; the first `girih.slot_bytes` of an arena are for slots. What costs nothing (views,
    constants, weights' names, the fill of a sum) is repeated where it is read. Order stays as it was.

    A loop of layers in which something is declined is cut inside: its index becomes `girih.step_extent "iteration"` (of
    `girih.iterations`), what it carries moves from slot to slot. `girih.schedule` of the module lists, for each step, what is to be done: which parts, which
    of them repeat together, and before each which slots are copied from which side to which.
    Where nothing is declined nothing changes.

    Example:
    ```mlir
    func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32>
        attributes {girih.max_tokens = 1 : i64} {
      %c0 = arith.constant 0 : index
      %n = tensor.dim %tokens, %c0 : tensor<?xi32>
      %w = girih.layer_weight %c0 [["embedding"]] {storage = "q8_0"} : !girih.packed<64 x 32, "p16:s8,f16,none,32">
      %e = tensor.empty(%n) : tensor<?x32xf32>
      %x = girih.gather_rows ins(%tokens, %w : tensor<?xi32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
          outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
      %l = tensor.empty(%n) : tensor<?x64xf32>
      %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !girih.packed<64 x 32, "p16:s8,f16,none,32">)
          outs(%l : tensor<?x64xf32>) {girih.declined} -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    // CHECK: girih.slot_bytes = 128
    // CHECK: func.func @step_t1_0
    // CHECK-SAME: girih.side = "own"
    // CHECK: girih.gather_rows
    // CHECK: func.func @step_t1_1
    // CHECK-SAME: girih.slot = 0
    // CHECK-SAME: girih.side = "rest"
    // CHECK: girih.qmatmul
    ```
  }];
  let dependentDialects = ["::girih::dialect::GirihDialect"];
}

#endif
