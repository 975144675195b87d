// SPDX-License-Identifier: Apache-2.0
// What has no form in C is named, with the entry that it is in.
// RUN: not girih-emit-c99 %s 2>&1 | FileCheck %s

// CHECK: `codes` as C99: a step has girih.quantize_rows, which has no form in C yet
module {
  func.func @codes(%arg0: !llvm.ptr, %arg1: index, %arg2: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %x = girih.buffer_at "arena"[%c0] : memref<2x32xf32>
    %q = girih.buffer_at "logits"[%c0] : memref<2x128xi8>
    scf.forall (%row) in (2) {
      girih.quantize_rows ins(%x : memref<2x32xf32>) outs(%q : memref<2x128xi8>)
    } {girih.dispatch = "quantize"}
    return
  }
}
