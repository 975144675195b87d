// Programs that the verifiers refuse, with the rule's key and the numbers.
// RUN: girih-opt %s -split-input-file -verify-diagnostics

func.func @blocks_of_other_length(%x: tensor<?x75xf32>, %codes: tensor<?x256xi8>) -> tensor<?x256xi8> {
  // expected-error @+1 {{quantize_rows_c1: x has 75 elements a row, init 256 bytes; 32 elements take 128 bytes}}
  %q = girih.quantize_rows ins(%x : tensor<?x75xf32>) outs(%codes : tensor<?x256xi8>) -> tensor<?x256xi8>
  return %q : tensor<?x256xi8>
}

// -----

!w = !girih.packed<64 x 75, "p16:u4,f16,f16,32">
func.func @codes_of_another_depth(%x: tensor<?x128xi8>, %w: !w, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // expected-error @+1 {{qmatmul_c1: rows of x have 128 bytes, K = 75 of w needs 384}}
  %y = girih.qmatmul ins(%x, %w : tensor<?x128xi8>, !w) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

func.func @codes_meet_plain_weights(%x: tensor<?x64xi8>, %w: tensor<64x32xf32>, %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // expected-error @+1 {{qmatmul_c3: x is quantised}}
  %y = girih.qmatmul ins(%x, %w : tensor<?x64xi8>, tensor<64x32xf32>) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
