// RUN: girih-opt %s -girih-spell-out | FileCheck %s

// A part that an operation computes for this place is inserted as it is; a view is copied by an operation of its own.
// CHECK-LABEL: func.func @rotated_half
// CHECK: %[[NEGATED:.*]] = linalg.negf
// CHECK: tensor.insert_slice %[[NEGATED]] into %{{.*}}[0, 0] [%{{.*}}, 4]
// CHECK: %[[COPY:.*]] = linalg.copy ins(%{{.*}} : tensor<?x4xf32>)
// CHECK: tensor.insert_slice %[[COPY]] into %{{.*}}[0, 4] [%{{.*}}, 4]
func.func @rotated_half(%x: tensor<?x8xf32>, %t: index) -> tensor<?x8xf32> {
  %first = tensor.extract_slice %x[0, 0] [%t, 4] [1, 1] : tensor<?x8xf32> to tensor<?x4xf32>
  %second = tensor.extract_slice %x[0, 4] [%t, 4] [1, 1] : tensor<?x8xf32> to tensor<?x4xf32>
  %empty = tensor.empty(%t) : tensor<?x4xf32>
  %negated = linalg.negf ins(%second : tensor<?x4xf32>) outs(%empty : tensor<?x4xf32>) -> tensor<?x4xf32>
  %y = tensor.concat dim(1) %negated, %first : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// Tokens one after the other have no place that is known.
// CHECK-LABEL: func.func @along_tokens
// CHECK: tensor.concat
func.func @along_tokens(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = tensor.concat dim(0) %x, %x : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// A softmax that was no attention is its five steps.
// CHECK-LABEL: func.func @softmax_of_channels
// CHECK-NOT: linalg.softmax
// CHECK: arith.maxnumf
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: arith.divf
func.func @softmax_of_channels(%x: tensor<?x8xf32>, %init: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = linalg.softmax dimension(1) ins(%x : tensor<?x8xf32>) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
