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
    `!girih.kv<heads, keyDim, valueDim, element>`: G kv heads, D values of a key, Dv of a value, element f32, f16 or i8.
    A block of 16 positions is K [G, D, 16], then V [G, 16, Dv], rounded up to a cache line; with i8, each key and each
    value is its codes times a scale, and K scales [G, 16] and V scales [G, 16] in f32 follow, at `scalesOffset`.
    Carries the step's block tables, slots and positions with it. A value of this type is a state: `girih.kv_append`
    takes one and gives the next.
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$keyDim, "int64_t":$valueDim, "::mlir::Type":$element);
  let assemblyFormat = "`<` $heads `,` $keyDim `,` $valueDim `,` $element `>`";
  let extraClassDeclaration = [{
    bool hasScales() const { return getElement().isInteger(8); }
    // Bytes of the codes or values of a block, rounded up to a cache line: layers and scales begin at one.
    int64_t scalesOffset() const {
      int64_t bytes = 16 * getHeads() * (getKeyDim() + getValueDim()) * (getElement().getIntOrFloatBitWidth() / 8);
      return (bytes + 63) / 64 * 64;
    }
    // Bytes of the layer in a block of 16 positions.
    int64_t blockBytes() const { return scalesOffset() + (hasScales() ? 2 * 16 * getHeads() * 4 : 0); }
  }];
}

#endif
