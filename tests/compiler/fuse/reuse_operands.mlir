// SPDX-License-Identifier: Apache-2.0
// What a loop carries is updated in place, unless something still reads it.
// RUN: girih-opt %s -girih-reuse-operands | FileCheck %s

#id = affine_map<(d0) -> (d0)>

// CHECK-LABEL: func.func @adds_into_the_carried
// CHECK: iter_args(%[[A:.+]] = %{{.+}})
// CHECK: linalg.generic {{.*}} ins(%{{.+}} : tensor<?xf32>) outs(%[[A]] : tensor<?xf32>)
func.func @adds_into_the_carried(%x: tensor<?xf32>, %y: tensor<?xf32>, %n: index) -> tensor<?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%a = %x) -> tensor<?xf32> {
    %e = tensor.empty(%n) : tensor<?xf32>
    %s = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
        ins(%a, %y : tensor<?xf32>, tensor<?xf32>) outs(%e : tensor<?xf32>) {
      ^bb0(%u: f32, %v: f32, %o: f32):
        %t = arith.addf %u, %v : f32
        linalg.yield %t : f32
    } -> tensor<?xf32>
    scf.yield %s : tensor<?xf32>
  }
  return %r : tensor<?xf32>
}

// The carried value is read again after the sum.
// CHECK-LABEL: func.func @keeps_what_is_read_later
// CHECK: %[[E:.+]] = tensor.empty
// CHECK: linalg.generic {{.*}} outs(%[[E]] : tensor<?xf32>)
func.func @keeps_what_is_read_later(%x: tensor<?xf32>, %y: tensor<?xf32>, %n: index) -> tensor<?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%a = %x) -> tensor<?xf32> {
    %e = tensor.empty(%n) : tensor<?xf32>
    %s = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
        ins(%a, %y : tensor<?xf32>, tensor<?xf32>) outs(%e : tensor<?xf32>) {
      ^bb0(%u: f32, %v: f32, %o: f32):
        %t = arith.addf %u, %v : f32
        linalg.yield %t : f32
    } -> tensor<?xf32>
    %q = tensor.insert_slice %a into %s[0] [%n] [1] : tensor<?xf32> into tensor<?xf32>
    scf.yield %q : tensor<?xf32>
  }
  return %r : tensor<?xf32>
}
