// SPDX-License-Identifier: Apache-2.0
// Dialect `machine`: a machine as data.
#ifndef GIRIH_DIALECTS_MACHINE_DIALECT_TD
#define GIRIH_DIALECTS_MACHINE_DIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"

def Machine_Dialect : Dialect {
  let name = "machine";
  let cppNamespace = "::girih::machine";
  let summary = "A machine described by its memory levels and compute units; attributes only";
  let description = [{
    The only thing that tiling, fusion and the cost model may ask. Every figure says where it comes from.
  }];
  let useDefaultAttributePrinterParser = 1;
}

class Machine_Attr<string name, string attrMnemonic> : AttrDef<Machine_Dialect, name> {
  let mnemonic = attrMnemonic;
  let assemblyFormat = "`<` struct(params) `>`";
}

def Machine_LevelAttr : Machine_Attr<"Level", "level"> {
  let summary = "one memory level";
  let description = [{
    `size_bytes` as one unit sees it; `bytes_per_cycle` that one unit can read from it; `shared_by` units. A level that
    no load or store reaches names the builtins that move rows of bytes from and to it (`runtime/abi/kernel.h`).

    Example:
    ```mlir
    #l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1,
        source = "CPUID leaf 4">
    #memory = #machine.level<name = "memory", size_bytes = 4294967296, bytes_per_cycle = 8, latency_cycles = 200,
        shared_by = 2, source = "datasheet", dma_in = "npu_dma_in", dma_out = "npu_dma_out">
    ```
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$size_bytes, "int64_t":$bytes_per_cycle,
    "int64_t":$latency_cycles, "int64_t":$shared_by, StringRefParameter<>:$source,
    OptionalParameter<"::mlir::StringAttr">:$dma_in, OptionalParameter<"::mlir::StringAttr">:$dma_out);
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "int64_t":$size_bytes, "int64_t":$bytes_per_cycle,
    "int64_t":$latency_cycles, "int64_t":$shared_by, "::llvm::StringRef":$source), [{
    return $_get($_ctxt, name, size_bytes, bytes_per_cycle, latency_cycles, shared_by, source, ::mlir::StringAttr(),
                 ::mlir::StringAttr());
  }]>];
}

def Machine_TileAttr : Machine_Attr<"Tile", "tile"> {
  let summary = "what one instruction of a matrix unit multiplies";
  let description = [{
    One instruction adds a `rows` x `depth` matrix times a `depth` x `columns` matrix to a `rows` x `columns` matrix.

    Example:
    ```mlir
    #tile = #machine.tile<rows = 16, columns = 16, depth = 32>
    ```
  }];
  let parameters = (ins "int64_t":$rows, "int64_t":$columns, "int64_t":$depth);
}

def Machine_UnitAttr : Machine_Attr<"Unit", "unit"> {
  let summary = "a kind of compute unit of one core";
  let description = [{
    `per_cycle` instructions of `lanes` elements of `element` can start each cycle, one multiply and one add each;
    results take `latency_cycles`; `registers` of that width exist. A unit that multiplies matrices has a `tile`: then
    `lanes` multiply-adds of one tile start each cycle, and a register holds a tile. `builtin` is its name in kernels
    that are handed over as C.

    Example:
    ```mlir
    #fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32,
        source = "CPUID avx512f">
    #matrix = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52,
        registers = 8, source = "CPUID amx-bf16", tile = <rows = 16, columns = 16, depth = 32>>
    ```
  }];
  let parameters = (ins StringRefParameter<>:$name, StringRefParameter<>:$element, "int64_t":$lanes,
    "int64_t":$per_cycle, "int64_t":$latency_cycles, "int64_t":$registers, StringRefParameter<>:$source,
    OptionalParameter<"TileAttr">:$tile, OptionalParameter<"::mlir::StringAttr">:$builtin);
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "::llvm::StringRef":$element, "int64_t":$lanes,
    "int64_t":$per_cycle, "int64_t":$latency_cycles, "int64_t":$registers, "::llvm::StringRef":$source,
    CArg<"TileAttr", "TileAttr()">:$tile), [{
    return $_get($_ctxt, name, element, lanes, per_cycle, latency_cycles, registers, source, tile, ::mlir::StringAttr());
  }]>];
}

def Machine_DescriptionAttr : Machine_Attr<"Description", "description"> {
  let summary = "a whole machine";
  let description = [{
    `levels` from the nearest to the farthest; `barrier` is the name of the cores' barrier in kernels that are handed
    over as C. JSON both ways: dialects/machine/json.h.

    Example:
    ```mlir
    #m = #machine.description<name = "x86-64 avx2", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200,
        levels = [#machine.level<name = "L1", size_bytes = 32768, bytes_per_cycle = 64, latency_cycles = 5,
            shared_by = 1, source = "CPUID leaf 4">],
        units = [#machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4,
            registers = 16, source = "CPUID avx2">]>
    ```
  }];
  let parameters = (ins StringRefParameter<>:$name, StringRefParameter<>:$kind, "int64_t":$cores,
    "int64_t":$clock_mhz, "int64_t":$barrier_ns, ArrayRefParameter<"LevelAttr">:$levels,
    ArrayRefParameter<"UnitAttr">:$units, OptionalParameter<"::mlir::StringAttr">:$barrier);
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "::llvm::StringRef":$kind, "int64_t":$cores,
    "int64_t":$clock_mhz, "int64_t":$barrier_ns, "::llvm::ArrayRef<LevelAttr>":$levels,
    "::llvm::ArrayRef<UnitAttr>":$units), [{
    return $_get($_ctxt, name, kind, cores, clock_mhz, barrier_ns, levels, units, ::mlir::StringAttr());
  }]>];
  let assemblyFormat = [{
    `<` `name` `=` $name `,` `kind` `=` $kind `,` `cores` `=` $cores `,` `clock_mhz` `=` $clock_mhz `,`
    `barrier_ns` `=` $barrier_ns `,` `levels` `=` `[` $levels `]` `,` `units` `=` `[` $units `]`
    (`,` `barrier` `=` $barrier^)? `>`
  }];
  let extraClassDeclaration = [{
    // The vector unit with most lanes for `element` ("f32"), or null.
    UnitAttr unitFor(llvm::StringRef element) const;
    // The unit that multiplies tiles of `element` ("bf16"), or null.
    UnitAttr matrixUnitFor(llvm::StringRef element) const;
    // The level by name, or null.
    LevelAttr level(llvm::StringRef name) const;
  }];
}

#endif
