// SPDX-License-Identifier: Apache-2.0
// Dialect `girih`: what upstream lacks to say a transformer.
#ifndef GIRIH_DIALECTS_GIRIH_DIALECT_TD
#define GIRIH_DIALECTS_GIRIH_DIALECT_TD

include "mlir/IR/DialectBase.td"

def Girih_Dialect : Dialect {
  let name = "girih";
  let cppNamespace = "::girih::dialect";
  let summary = "Transformer operations, stored weights and the paged KV cache";
  let description = [{
    About a dozen ops; everything else stays in linalg, tensor, scf, vector and memref. Shapes are written with the
    letters T (tokens of the step, ragged over sequences), H heads, G kv heads, D head dim, E hidden, F ffn, V vocab.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"];
}

#endif
