// SPDX-License-Identifier: Apache-2.0
// Row-wise neighbours become one dispatch, unless a row of one needs another row of the other.
// RUN: girih-opt %s -girih-merge-row-dispatches | FileCheck %s

!row = memref<1x16xf32, strided<[16, 1], offset: ?>>

// The rows are halves of one buffer; the extents are the same number by two ways.
// CHECK-LABEL: func.func @merges_through_views
// CHECK: scf.forall
// CHECK: linalg.exp
// CHECK: girih.kv_append
// CHECK: girih.dispatch = "kv_append"
// CHECK-NOT: scf.forall
func.func @merges_through_views(%n: index, %x: memref<?x16xf32>, %kv: !girih.kv<1, 16, 16, f16>)
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  %y = memref.alloc(%n) : memref<?x16xf32>
  scf.forall (%i) in (%n) {
    %a = memref.subview %x[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    %b = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    linalg.exp ins(%a : !row) outs(%b : !row)
  } {girih.dispatch = "generic.rope"}
  %heads = memref.expand_shape %y [[0], [1, 2]] output_shape [%n, 1, 16] : memref<?x16xf32> into memref<?x1x16xf32>
  %m = memref.dim %heads, %c0 : memref<?x1x16xf32>
  scf.forall (%i) in (%m) {
    %k = memref.subview %heads[%i, 0, 0] [1, 1, 16] [1, 1, 1] : memref<?x1x16xf32> to memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>
    %0 = girih.kv_append %k, %k into %kv[%i] : memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>, memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>, <1, 16, 16, f16>
  } {girih.dispatch = "kv_append"}
  return
}

// The second reads all rows of what the first writes.
// CHECK-LABEL: func.func @waits_for_other_rows
// CHECK: linalg.exp
// CHECK: scf.forall
// CHECK: girih.gather_rows
func.func @waits_for_other_rows(%n: index, %x: memref<?x16xf32>, %y: memref<?x16xf32>, %z: memref<?x16xf32>,
    %rows: memref<?xi32>) attributes {girih.max_tokens = 8 : i64} {
  scf.forall (%i) in (%n) {
    %a = memref.subview %x[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    %b = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    linalg.exp ins(%a : !row) outs(%b : !row)
  }
  scf.forall (%i) in (%n) {
    %r = memref.subview %rows[%i] [1] [1] : memref<?xi32> to memref<1xi32, strided<[1], offset: ?>>
    %c = memref.subview %z[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    girih.gather_rows ins(%r, %y : memref<1xi32, strided<[1], offset: ?>>, memref<?x16xf32>) outs(%c : !row)
  }
  return
}

// The append must be complete before any query reads the cache.
// CHECK-LABEL: func.func @attends_after_the_append
// CHECK: girih.kv_append
// CHECK: scf.forall
// CHECK: girih.attention
func.func @attends_after_the_append(%n: index, %k: memref<?x1x16xf32>, %kv: !girih.kv<1, 16, 16, f16>)
    attributes {girih.max_tokens = 8 : i64} {
  %c0 = arith.constant 0 : index
  scf.forall (%i) in (%n) {
    %r = memref.subview %k[%i, 0, 0] [1, 1, 16] [1, 1, 1] : memref<?x1x16xf32> to memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>
    %0 = girih.kv_append %r, %r into %kv[%i] : memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>, memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>, <1, 16, 16, f16>
  }
  scf.forall (%i) in (%n) {
    %r = memref.subview %k[%i, 0, 0] [1, 1, 16] [1, 1, 1] : memref<?x1x16xf32> to memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>
    girih.attention ins(%r : memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>) cache(%kv[%i, %c0] : !girih.kv<1, 16, 16, f16>)
        outs(%r : memref<1x1x16xf32, strided<[16, 16, 1], offset: ?>>) {scale = 1.0 : f32, query_tile = 1 : i64}
  }
  return
}

// Different numbers of rows stay apart.
// CHECK-LABEL: func.func @other_rows
// CHECK: scf.forall
// CHECK: scf.forall
func.func @other_rows(%n: index, %m: index, %x: memref<?x16xf32>, %y: memref<?x16xf32>) attributes {girih.max_tokens = 8 : i64} {
  scf.forall (%i) in (%n) {
    %a = memref.subview %x[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    linalg.exp ins(%a : !row) outs(%a : !row)
  }
  scf.forall (%i) in (%m) {
    %b = memref.subview %y[%i, 0] [1, 16] [1, 1] : memref<?x16xf32> to !row
    linalg.exp ins(%b : !row) outs(%b : !row)
  }
  return
}
