// RUN: girih-opt %s -girih-bind-memory -verify-diagnostics

// A loop has layers 0, 2 and 4; between them stand 1, which is larger, and 3: no one distance leads through them.
func.func @step_t1(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32>
    attributes {girih.max_tokens = 1 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %e = tensor.empty(%n) : tensor<?x1x16xf32>
  scf.for %i = %c0 to %c3 step %c1 {
    // expected-error @below {{layers of a loop are not evenly spaced in a block: iteration 2 is}}
    %kv = girih.kv_layer 0[%i] {stride = 2 : i64} : !girih.kv<1, 16, 16, f32>
    girih.kv_append %e, %e into %kv : tensor<?x1x16xf32>, tensor<?x1x16xf32>, !girih.kv<1, 16, 16, f32>
  }
  %wide = girih.kv_layer 1 : !girih.kv<2, 16, 16, f32>
  %narrow = girih.kv_layer 3 : !girih.kv<1, 16, 16, f32>
  %used = girih.kv_append %e, %e into %narrow : tensor<?x1x16xf32>, tensor<?x1x16xf32>, !girih.kv<1, 16, 16, f32>
  %f = tensor.empty(%n) : tensor<?x2x16xf32>
  %used2 = girih.kv_append %f, %f into %wide : tensor<?x2x16xf32>, tensor<?x2x16xf32>, !girih.kv<2, 16, 16, f32>
  %m = tensor.dim %rows, %c0 : tensor<?xi32>
  %y = tensor.empty(%m) : tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
