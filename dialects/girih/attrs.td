// SPDX-License-Identifier: Apache-2.0
// Attributes of dialect `girih`.
#ifndef GIRIH_DIALECTS_GIRIH_ATTRS_TD
#define GIRIH_DIALECTS_GIRIH_ATTRS_TD

include "dialects/girih/dialect.td"
include "mlir/IR/AttrTypeBase.td"

class Girih_Attr<string name, string attrMnemonic> : AttrDef<Girih_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Girih_StorageAttr : Girih_Attr<"Storage", "storage"> {
  let summary = "How a weight is stored in the checkpoint; the encoding of its tensor type";
  let description = [{
    The tensor's element type is always the f32 that dequantisation gives; the encoding names the stored format by
    its row in the formats table (`runtime/weights/formats.h`). Two weights of different formats have different types,
    so layers that mix formats are different blocks.

    Example:
    ```mlir
    %w = girih.weight "blk.0.attn_q.weight" : tensor<576x576xf32, #girih.storage<"q4_1">>
    ```
  }];
  let parameters = (ins StringRefParameter<"row of the formats table">:$format);
  let assemblyFormat = "`<` $format `>`";
}

#endif
