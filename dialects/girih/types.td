// SPDX-License-Identifier: Apache-2.0
// Types of dialect `girih`.
#ifndef GIRIH_DIALECTS_GIRIH_TYPES_TD
#define GIRIH_DIALECTS_GIRIH_TYPES_TD

include "dialects/girih/dialect.td"
include "mlir/IR/AttrTypeBase.td"

class Girih_Type<string name, string typeMnemonic> : TypeDef<Girih_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def Girih_PackedType : Girih_Type<"Packed", "packed"> {
  let summary = "A weight in the layout that kernels read";
  let description = [{
    `!girih.packed<N x K, "layout">`: N output columns by K, packed as the layout descriptor says
    (`runtime/weights/packed_layout.h`), for instance `"p16:u4,f16,f16,32"`. Opaque to bufferization.
  }];
  let parameters = (ins "int64_t":$columns, "int64_t":$depth, StringRefParameter<"layout descriptor">:$layout);
  let assemblyFormat = "`<` $columns `x` $depth `,` $layout `>`";
}

def Girih_KvType : Girih_Type<"Kv", "kv"> {
  let summary = "One layer's view of the paged KV cache";
  let description = [{
    `!girih.kv<heads, keyDim, valueDim, element>`: G kv heads, D values of a key, Dv of a value, element f32 or f16.
    Carries the step's block tables, slots and positions with it. A value of this type is a state: `girih.kv_append`
    takes one and gives the next.
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$keyDim, "int64_t":$valueDim, "::mlir::Type":$element);
  let assemblyFormat = "`<` $heads `,` $keyDim `,` $valueDim `,` $element `>`";
}

#endif
