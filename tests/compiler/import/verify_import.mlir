// RUN: girih-opt %s -girih-verify-import -verify-diagnostics -split-input-file

// The module that the textbook graphs have passes as it is.
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x8xf32> {
  %x = call @layer_0(%tokens) : (tensor<?xi32>) -> tensor<?x8xf32>
  return %x : tensor<?x8xf32>
}
func.func private @layer_0(%tokens: tensor<?xi32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %y = tensor.empty(%t) : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// expected-error @below {{the module has no function `main` with a body; an imported graph starts there}}
module {
}

// -----

// expected-error @below {{its first argument is the tokens, an integer tensor of rank 1, or 2 with a batch}}
func.func @main(%tokens: tensor<?xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %tokens, %c0 : tensor<?xf32>
  %y = tensor.empty(%t) : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

func.func @main(%tokens: tensor<4xi32>) -> tensor<4x8xf32> {
  // expected-note @below {{the other type}}
  %w = girih.weight "w" : tensor<4x8xf32, #girih.storage<"f32">>
  // expected-error @below {{weight "w" has type}}
  %v = girih.weight "w" : tensor<4x8xf32, #girih.storage<"f16">>
  %y = tensor.empty() : tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// An operation of a later rung of the ladder.
func.func @main(%tokens: tensor<4xi32>, %m: memref<4xf32>) -> tensor<4x8xf32> {
  %c0 = arith.constant 0 : index
  // expected-error @below {{is not part of an imported graph}}
  %x = memref.load %m[%c0] : memref<4xf32>
  %y = tensor.empty() : tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

func.func @main(%tokens: tensor<4xi32>) -> tensor<4x8xf32> {
  %y = call @a() : () -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
// expected-error @below {{function `a` calls itself; a graph has no recursion}}
func.func private @a() -> tensor<4x8xf32> {
  %y = call @b() : () -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
func.func private @b() -> tensor<4x8xf32> {
  %y = call @a() : () -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
