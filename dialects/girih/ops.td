// SPDX-License-Identifier: Apache-2.0
// Operations of dialect `girih`.
#ifndef GIRIH_DIALECTS_GIRIH_OPS_TD
#define GIRIH_DIALECTS_GIRIH_OPS_TD

include "dialects/girih/attrs.td"
include "dialects/girih/dialect.td"
include "dialects/girih/types.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/TilingInterface.td"

class Girih_Op<string opMnemonic, list<Trait> traits = []> : Op<Girih_Dialect, opMnemonic, traits>;

// An op on tensors or, after bufferization, on memrefs, that writes all of its `init` operand.
class Girih_StructuredOp<string opMnemonic, list<Trait> traits = []>
    : Girih_Op<opMnemonic, traits # [DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  code dpsDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getInitMutable(); }
  }];
}

def Girih_Shaped : AnyTypeOf<[AnyRankedTensor, AnyStridedMemRef]>;
def Girih_Matrix : AnyTypeOf<[2DTensorOf<[F32]>, MemRefRankOf<[F32], [2]>]>;
// Activations of a matmul: f32, bf16, or blocks of 8-bit codes as `girih.quantize_rows` writes them.
def Girih_Activations : AnyTypeOf<[2DTensorOf<[F32, BF16, I8]>, MemRefRankOf<[F32, BF16, I8], [2]>]>;
def Girih_CodeMatrix : AnyTypeOf<[2DTensorOf<[I8]>, MemRefRankOf<[I8], [2]>]>;
def Girih_Heads : AnyTypeOf<[3DTensorOf<[F32]>, MemRefRankOf<[F32], [3]>]>;
def Girih_RoundedHeads : AnyTypeOf<[3DTensorOf<[F32, BF16]>, MemRefRankOf<[F32, BF16], [3]>]>;
def Girih_Parts : AnyTypeOf<[4DTensorOf<[F32]>, MemRefRankOf<[F32], [4]>]>;
def Girih_Indices : AnyTypeOf<[1DTensorOf<[I32]>, MemRefRankOf<[I32], [1]>]>;
def Girih_StoredMatrix : AnyTypeOf<[2DTensorOf<[F32]>, MemRefRankOf<[F32], [2]>, Girih_PackedType]>;

def Girih_WeightOp : Girih_Op<"weight", [Pure]> {
  let summary = "a tensor of the checkpoint, by name";
  let description = [{
    The value of an external weight. Its bytes never enter the IR; the encoding of its type says how they are stored.

    Example:
    ```mlir
    func.func @norm_weight() -> tensor<576xf32, #girih.storage<"f32">> {
      %w = girih.weight "blk.0.attn_norm.weight" : tensor<576xf32, #girih.storage<"f32">>
      return %w : tensor<576xf32, #girih.storage<"f32">>
    }
    ```
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs AnyStaticShapeTensor:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Girih_ConcatRowsOp : Girih_Op<"concat_rows", [Pure]> {
  let summary = "stored matrices with equal K stacked into one";
  let description = [{
    Rows of all operands one after the other (`interleave` 0), or `interleave` rows of each in turn: with gate and up
    interleaved by 16, one panel of gate columns is followed by the panel of up columns that it multiplies.
    `concat_rows_c1`: equal K. `concat_rows_c2`: equal storage. `concat_rows_c3`: interleaved operands have equal N,
    a multiple of `interleave`.

    Example:
    ```mlir
    func.func @qkv(%q: tensor<64x32xf32, #girih.storage<"q8_0">>, %k: tensor<32x32xf32, #girih.storage<"q8_0">>)
        -> tensor<96x32xf32, #girih.storage<"q8_0">> {
      %w = girih.concat_rows %q, %k interleave 0 : (tensor<64x32xf32, #girih.storage<"q8_0">>,
          tensor<32x32xf32, #girih.storage<"q8_0">>) -> tensor<96x32xf32, #girih.storage<"q8_0">>
      return %w : tensor<96x32xf32, #girih.storage<"q8_0">>
    }
    ```
  }];
  let arguments = (ins Variadic<AnyStaticShapeTensor>:$parts, I64Attr:$interleave);
  let results = (outs AnyStaticShapeTensor:$result);
  let assemblyFormat = "$parts `interleave` $interleave attr-dict `:` functional-type($parts, $result)";
  let hasVerifier = 1;
}

def Girih_PackOp : Girih_Op<"pack", [Pure]> {
  let summary = "a stored weight in a kernel's layout";
  let description = [{
    Marks where a stored weight becomes a packed one. Evaluated once, by the compiler, when the program is written;
    `plan_layouts` hoists it out of the blocks.

    Example:
    ```mlir
    func.func @packed(%w: tensor<64x32xf32, #girih.storage<"q4_1">>) -> !girih.packed<64 x 32, "p16:u4,f16,f16,32"> {
      %p = girih.pack %w : tensor<64x32xf32, #girih.storage<"q4_1">> to !girih.packed<64 x 32, "p16:u4,f16,f16,32">
      return %p : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$source);
  let results = (outs Girih_PackedType:$result);
  let assemblyFormat = "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Girih_QuantizeRowsOp : Girih_StructuredOp<"quantize_rows", [
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "rows of f32 as 8-bit codes, and a second digit for outliers";
  let description = [{
    Each 32 consecutive elements of a row become one block of 128 bytes (`dialects/girih/activation_block.h`): 32
    signed codes, their scale, and sums of codes that products with unsigned weight codes need. The scale is 1/127
    of the block's largest |x|, or of 5 times its mean |x| where the largest is over 10 times it; elements beyond
    have a second code of 255 times the scale, and the 4 k around one a bit in a mask. With `both_digits` the scale
    is 1/32512 of the largest |x|, so that nearly all elements have both: 16 bits instead of 8. A row's rest of less
    than 32 is filled with zeros. Tiled by rows and by multiples of 32 elements; a block depends on nothing outside
    of it, so no tile changes a bit.
    `quantize_rows_c1`: x has K elements a row, init ceil(K / 32) * 128 bytes, or 64 more, which keep rows apart.

    Example:
    ```mlir
    func.func @codes(%x: tensor<?x576xf32>, %init: tensor<?x2304xi8>) -> tensor<?x2304xi8> {
      %q = girih.quantize_rows ins(%x : tensor<?x576xf32>) outs(%init : tensor<?x2304xi8>) -> tensor<?x2304xi8>
      return %q : tensor<?x2304xi8>
    }
    ```
  }];
  let arguments = (ins Girih_Matrix:$x, Girih_CodeMatrix:$init, UnitAttr:$both_digits);
  let results = (outs Optional<2DTensorOf<[I8]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $x `:` type($x) `)` `outs` `(` $init `:` type($init) `)` attr-dict (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration;
  let hasVerifier = 1;
}

def Girih_QMatmulOp : Girih_StructuredOp<"qmatmul", [
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "activations times a stored weight";
  let description = [{
    `out[t, n] = sum over k of x[t, k] * w[column_offset + n, k]` with w dequantised to f32. Each element is one
    chain of fused multiply-adds over ascending k from 0, so it does not depend on tiles. `init` gives the shape and
    is overwritten. The attributes are set by `select_strategy`: `strategy` "direct" dequantises in registers,
    "panel" dequantises `k_tile` x `column_tile` weights into thread scratch and reuses them for all rows.
    The element type of x says the arithmetic. *f32*: as above. *i8*, the blocks of `girih.quantize_rows`: for each
    group of k that shares a weight's scale `acc = fma(float(sum of (wcode - offset) * xcode) * wscale, xscale, acc)`
    with an exact integer sum and `acc = fma(wmin, sum of x, acc)`, after a block's groups the first again for the codes
    of outliers; over ascending k: the same bits whatever the tiles and the instruction set; "bytes", for few rows, has a
    matrix unit make the integer sums. *bf16*, for matrix units ("matrix"): the weights are rounded to
    bf16 too, products are exact, and the machine adds them in f32 in pairs of k. "codes", for few rows: the weights'
    integer codes are exact in bf16, and the machine's sum over each group is scaled, `acc = fma(sum, wscale, acc)`.
    `qmatmul_c1`: x and w agree in K; quantised x has ceil(K / 32) * 128 bytes a row, or 64 more. `qmatmul_c2`: with no column
    offset, out has N columns. `qmatmul_c3`: quantised x meets a packed weight.

    Example:
    ```mlir
    func.func @project(%x: tensor<?x32xf32>, %w: tensor<64x32xf32, #girih.storage<"q4_1">>, %init: tensor<?x64xf32>)
        -> tensor<?x64xf32> {
      %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, tensor<64x32xf32, #girih.storage<"q4_1">>)
          outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
      return %y : tensor<?x64xf32>
    }
    ```
  }];
  let arguments = (ins Girih_Activations:$x, Girih_StoredMatrix:$w, Optional<Index>:$column_offset, Girih_Matrix:$init,
    OptionalAttr<StrAttr>:$strategy, OptionalAttr<I64Attr>:$row_tile, OptionalAttr<I64Attr>:$column_tile,
    OptionalAttr<I64Attr>:$k_tile);
  let results = (outs Optional<2DTensorOf<[F32]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $x `,` $w (`[` $column_offset^ `]`)? `:` type($x) `,` type($w) `)` `outs` `(` $init `:` type($init) `)`
    attr-dict (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration;
  let hasVerifier = 1;
}

def Girih_GatherRowsOp : Girih_StructuredOp<"gather_rows", [
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "rows of a matrix, by index";
  let description = [{
    `out[t, e] = source[indices[t], e]`; a stored or packed source is dequantised to f32. An index beyond the source
    takes its nearest row: no program reads elsewhere. The embedding lookup, and the choice of the rows whose logits are wanted.

    Example:
    ```mlir
    func.func @embed(%tokens: tensor<?xi32>, %table: tensor<128x32xf32, #girih.storage<"q8_0">>,
        %init: tensor<?x32xf32>) -> tensor<?x32xf32> {
      %x = girih.gather_rows ins(%tokens, %table : tensor<?xi32>, tensor<128x32xf32, #girih.storage<"q8_0">>)
          outs(%init : tensor<?x32xf32>) -> tensor<?x32xf32>
      return %x : tensor<?x32xf32>
    }
    ```
  }];
  let arguments = (ins Girih_Indices:$indices, Girih_StoredMatrix:$source, Girih_Matrix:$init);
  let results = (outs Optional<2DTensorOf<[F32]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $indices `,` $source `:` type($indices) `,` type($source) `)` `outs` `(` $init `:` type($init) `)`
    attr-dict (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration;
  let hasVerifier = 1;
}

def Girih_AttentionOp : Girih_StructuredOp<"attention", [AttrSizedOperandSegments,
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "causal softmax attention, over given keys or over the cache";
  let description = [{
    For query token t at position p and head h of group g = h / (H / G):
    `s[u] = soft_cap(scale * sum_d q[t,h,d] * k[u,g,d])` over the keys u with `u <= p` and, with a window W,
    `u > p - W`; `soft_cap(x) = c * tanh(x / c)` when given; `out[t,h,:] = sum_u softmax(s)[u] * v[u,g,:]`.

    *Stateless form* (after raise): `key` [T, G, D] and `value` [T, G, Dv] are given, token t is at position t.
    *Cached form* (after insert_kv_cache): `kv` is given; keys are the positions of the token's own sequence in the
    cache, found through the step's block tables; positions come from the step.
    A tile starts at token `offsets[0]` of the step and at kv head `offsets[1]`; it is given the keys of all tokens.
    The cache is cut at multiples of `chunk` positions (64 divides it; 128 when absent). A chunk has one maximum, its
    weights and sums are relative to it, and chunks are joined in order, so the result does not depend on tiles, on
    who computes which chunk, or on the rest of the step. With an `operand_type` the operands of both products (q, k,
    weights, v) are rounded to it where several tokens of a sequence are computed together, and `chunk` has no part in it.
    *bf16*: weights of a row are relative to a power of 2 that follows its scores. *i16*: operands are integers of common
    scales, values' over those that rows computed together see, so that these say a result's last bits.
    `attention_c1`: G divides H. `attention_c2`: either key and value, or kv. `attention_c3`: D of q and k agree.
    `attention_c4`: a result that is not f32 is rounded once to the operand_type.

    Example:
    ```mlir
    func.func @gqa(%q: tensor<?x9x64xf32>, %k: tensor<?x3x64xf32>, %v: tensor<?x3x64xf32>, %init: tensor<?x9x64xf32>)
        -> tensor<?x9x64xf32> {
      %o = girih.attention ins(%q : tensor<?x9x64xf32>) keys(%k, %v : tensor<?x3x64xf32>, tensor<?x3x64xf32>)
          outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32} -> tensor<?x9x64xf32>
      return %o : tensor<?x9x64xf32>
    }
    ```
  }];
  let arguments = (ins Girih_Heads:$q, Optional<Girih_Heads>:$key, Optional<Girih_Heads>:$value,
    Optional<Girih_KvType>:$kv, Variadic<Index>:$offsets, Girih_RoundedHeads:$init,
    F32Attr:$scale, OptionalAttr<I64Attr>:$window, OptionalAttr<F32Attr>:$soft_cap,
    OptionalAttr<I64Attr>:$query_tile, OptionalAttr<I64Attr>:$chunk, OptionalAttr<TypeAttr>:$operand_type);
  let results = (outs Optional<3DTensorOf<[F32, BF16]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $q `:` type($q) `)` (`keys` `(` $key^ `,` $value `:` type($key) `,` type($value) `)`)?
    (`cache` `(` $kv^ (`[` $offsets^ `]`)? `:` type($kv) `)`)? `outs` `(` $init `:` type($init) `)`
    attr-dict (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration;
  let hasVerifier = 1;
}

def Girih_AttentionPartsOp : Girih_StructuredOp<"attention_parts", [
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "what each chunk of the cache gives attention";
  let description = [{
    `girih.attention` over the cache, stopped before chunks are joined, so that chunks are units of work. Part
    `init[t, h, c]` of chunk c (positions c * chunk to (c + 1) * chunk - 1) is a row of E = 32 + Dv rounded up to 16:
    element 0 the largest score, 16 .. 31 partial sums of the weights relative to it, from 32 on the weighted sum of
    values. Parts of chunks that a token does not see stay as they are. A tile takes one token, one kv head, one chunk:
    those at `offsets`. `attention_parts_c1`: a part of values of Dv has E elements.

    Example:
    ```mlir
    func.func @parts(%q: tensor<?x9x64xf32>, %kv: !girih.kv<3, 64, 64, f16>, %init: tensor<?x9x64x96xf32>)
        -> tensor<?x9x64x96xf32> {
      %p = girih.attention_parts ins(%q : tensor<?x9x64xf32>) cache(%kv : !girih.kv<3, 64, 64, f16>)
          outs(%init : tensor<?x9x64x96xf32>) {scale = 0.125 : f32, chunk = 128 : i64} -> tensor<?x9x64x96xf32>
      return %p : tensor<?x9x64x96xf32>
    }
    ```
  }];
  let arguments = (ins Girih_Heads:$q, Girih_KvType:$kv, Variadic<Index>:$offsets, Girih_Parts:$init,
    F32Attr:$scale, OptionalAttr<I64Attr>:$window, OptionalAttr<F32Attr>:$soft_cap, I64Attr:$chunk);
  let results = (outs Optional<4DTensorOf<[F32]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $q `:` type($q) `)` `cache` `(` $kv (`[` $offsets^ `]`)? `:` type($kv) `)`
    `outs` `(` $init `:` type($init) `)` attr-dict (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration # [{
    // E of a part whose values have Dv elements.
    static int64_t partElements(int64_t valueDim) { return 32 + (valueDim + 15) / 16 * 16; }
  }];
  let hasVerifier = 1;
}

def Girih_JoinPartsOp : Girih_StructuredOp<"join_parts", [
    DeclareOpInterfaceMethods<TilingInterface, ["getIterationDomain", "getLoopIteratorTypes",
      "getTiledImplementation", "getResultTilePosition", "generateResultTileValue"]>]> {
  let summary = "attention from its parts";
  let description = [{
    Joins the parts of every chunk that a token sees, the first with the second, the result with the third and so on:
    the bits of `girih.attention`. A tile starts at token `token_offset` of the step.

    Example:
    ```mlir
    func.func @join(%parts: tensor<?x9x64x96xf32>, %init: tensor<?x9x64xf32>) -> tensor<?x9x64xf32> {
      %o = girih.join_parts ins(%parts : tensor<?x9x64x96xf32>) outs(%init : tensor<?x9x64xf32>) {chunk = 128 : i64}
          -> tensor<?x9x64xf32>
      return %o : tensor<?x9x64xf32>
    }
    ```
  }];
  let arguments = (ins Girih_Parts:$parts, Optional<Index>:$token_offset, Girih_Heads:$init, I64Attr:$chunk,
    OptionalAttr<I64Attr>:$window);
  let results = (outs Optional<3DTensorOf<[F32]>>:$result);
  let assemblyFormat = [{
    `ins` `(` $parts (`[` $token_offset^ `]`)? `:` type($parts) `)` `outs` `(` $init `:` type($init) `)` attr-dict
    (`->` type($result)^)?
  }];
  let extraClassDeclaration = dpsDeclaration;
  let hasVerifier = 1;
}

def Girih_KvAppendOp : Girih_Op<"kv_append", [AllTypesMatch<["kv", "result"]>,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "stores the step's keys and values in the cache";
  let description = [{
    Stores k [T, G, D] and v [T, G, Dv] of the step's tokens at their slots, rounded once to the cache's element type.
    Writes each slot exactly once. A tile starts at token `token_offset` of the step.

    Example:
    ```mlir
    func.func @append(%k: tensor<?x3x64xf32>, %v: tensor<?x3x64xf32>, %kv: !girih.kv<3, 64, 64, f16>)
        -> !girih.kv<3, 64, 64, f16> {
      %next = girih.kv_append %k, %v into %kv : tensor<?x3x64xf32>, tensor<?x3x64xf32>, !girih.kv<3, 64, 64, f16>
      return %next : !girih.kv<3, 64, 64, f16>
    }
    ```
  }];
  let arguments = (ins Girih_Heads:$key, Girih_Heads:$value, Girih_KvType:$kv, Optional<Index>:$token_offset);
  let results = (outs Girih_KvType:$result);
  let assemblyFormat = [{
    $key `,` $value `into` $kv (`[` $token_offset^ `]`)? attr-dict `:` type($key) `,` type($value) `,` type($kv)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$key, "::mlir::Value":$value, "::mlir::Value":$kv), [{
    build($_builder, $_state, key, value, kv, ::mlir::Value());
  }]>];
  let hasVerifier = 1;
}

def Girih_LayerWeightOp : Girih_Op<"layer_weight", [Pure]> {
  let summary = "the weight that a layer of a rolled loop uses";
  let description = [{
    `names[layer]` of the checkpoint, packed or dense as the type says; the form that `girih.weight` takes once equal
    layers are one loop. Each name is a list of tensors whose rows are stacked as `girih.concat_rows` with the same
    `interleave` does; one tensor is a list of one.

    Example:
    ```mlir
    func.func @projection(%layer: index) -> tensor<64x32xf32, #girih.storage<"q4_1">> {
      %w = girih.layer_weight %layer [["blk.0.attn_q.weight"], ["blk.1.attn_q.weight"]]
          : tensor<64x32xf32, #girih.storage<"q4_1">>
      return %w : tensor<64x32xf32, #girih.storage<"q4_1">>
    }
    ```
  }];
  let arguments = (ins Index:$layer, ArrayAttr:$names, DefaultValuedAttr<I64Attr, "0">:$interleave,
    OptionalAttr<StrAttr>:$storage);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$layer $names attr-dict `:` type($result)";
}

def Girih_KvLayerOp : Girih_Op<"kv_layer", [Pure]> {
  let summary = "one layer's view of the step's cache";
  let description = [{
    The cache of layer number `layer` (or `layer + index * stride` in a rolled loop), counted over the layers that
    have one.

    Example:
    ```mlir
    func.func @first() -> !girih.kv<3, 64, 64, f16> {
      %kv = girih.kv_layer 0 : !girih.kv<3, 64, 64, f16>
      return %kv : !girih.kv<3, 64, 64, f16>
    }
    ```
  }];
  let arguments = (ins I64Attr:$layer, Optional<Index>:$index, DefaultValuedAttr<I64Attr, "1">:$stride);
  let results = (outs Girih_KvType:$result);
  let assemblyFormat = "$layer (`[` $index^ `]`)? attr-dict `:` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Type":$type, "int64_t":$layer), [{
    build($_builder, $_state, type, $_builder.getI64IntegerAttr(layer), ::mlir::Value(),
          $_builder.getI64IntegerAttr(1));
  }]>];
}

// ---- Addresses: how a scheduled step (emit) names the memory of runtime/abi/step.h. ----

def Girih_PackedAtOp : Girih_Op<"packed_at", [Pure]> {
  let summary = "a packed weight at a byte offset of the weight section";
  let description = [{
    Example:
    ```mlir
    func.func @at(%offset: index) -> !girih.packed<64 x 32, "p16:u4,f16,f16,32"> {
      %w = girih.packed_at %offset : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
      return %w : !girih.packed<64 x 32, "p16:u4,f16,f16,32">
    }
    ```
  }];
  let arguments = (ins Index:$offset_bytes);
  let results = (outs Girih_PackedType:$result);
  let assemblyFormat = "$offset_bytes attr-dict `:` type($result)";
}

def Girih_KvAtOp : Girih_Op<"kv_at", [Pure]> {
  let summary = "a layer's cache at a byte offset of each KV block";
  let description = [{
    Block b of the layer is at `kv_pool + b * block_bytes + offset`: K [G, D, 16], then V [G, 16, Dv].

    Example:
    ```mlir
    func.func @at(%offset: index) -> !girih.kv<3, 64, 64, f16> {
      %kv = girih.kv_at %offset {block_bytes = 368640 : i64} : !girih.kv<3, 64, 64, f16>
      return %kv : !girih.kv<3, 64, 64, f16>
    }
    ```
  }];
  let arguments = (ins Index:$offset_bytes, I64Attr:$block_bytes);
  let results = (outs Girih_KvType:$result);
  let assemblyFormat = "$offset_bytes attr-dict `:` type($result)";
}

def Girih_BufferAtOp : Girih_Op<"buffer_at", [Pure]> {
  let summary = "a buffer of the step by its name and a byte offset";
  let description = [{
    `space` is a pointer field of `girih_step_args`: "weights", "kv_pool", "arena", "scratch" (this thread's own part of
    the arena), "logits", "tokens", "positions", "logit_rows". `rows` is the dynamic outermost extent, if there is one.

    Example:
    ```mlir
    func.func @activations(%offset: index, %rows: index) -> memref<?x576xf32> {
      %x = girih.buffer_at "arena"[%offset] rows %rows : memref<?x576xf32>
      return %x : memref<?x576xf32>
    }
    ```
  }];
  let arguments = (ins StrAttr:$space, Index:$offset_bytes, Optional<Index>:$rows);
  let results = (outs AnyStridedMemRef:$result);
  let assemblyFormat = "$space `[` $offset_bytes `]` (`rows` $rows^)? attr-dict `:` type($result)";
}

def Girih_StepExtentOp : Girih_Op<"step_extent", [Pure]> {
  let summary = "an extent of the step that is known when it runs";
  let description = [{
    `name` is "num_tokens" (T), "num_logit_rows" (Q), both bounded by the program, "longest_context": the most
    positions that a sequence of the step has in the cache, or "iteration": how often a part of a step that repeats
    (`girih-split-step`) has run in it.

    Example:
    ```mlir
    func.func @tokens() -> index {
      %t = girih.step_extent "num_tokens"
      return %t : index
    }
    ```
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs Index:$result);
  let assemblyFormat = "$name attr-dict";
}

#endif
