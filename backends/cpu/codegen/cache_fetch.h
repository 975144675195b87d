// SPDX-License-Identifier: Apache-2.0
// CacheFetch: what the next attention reads of the KV cache is fetched while matmuls multiply.
#pragma once

#include "backends/cpu/codegen/microkernels/tile_space.h"
#include "dialects/girih/dialect.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>

namespace girih::cpu {

// Matmuls of a few rows leave memory idle while they compute, and attention of as many sequences then waits for it.
// So each thread keeps a place in the cache, from where the calls of its matmuls fetch some lines for each block of
// k: from the first of its sequences on, as much as half of its second cache level holds. Attention begins anew: what
// follows it is fetched for the next layer. Nothing depends on what is fetched; a thread that another one helps has
// fetched in vain.
//
// For one module, before any of its operations is lowered.
class CacheFetch {
public:
  explicit CacheFetch(mlir::ModuleOp module);
  static int64_t scratchBytes(mlir::ModuleOp module);

  // Puts each thread's place, `cursorAt` bytes into its scratch, to its first sequence: when a step begins and when
  // attention does.
  void emitStarts(int64_t cursorAt);
  // Lets the call for `op`, which passes `numBlocks` blocks of k, fetch what comes next; nothing where no attention
  // does.
  void emitNext(KernelBuilder &k, dialect::QMatmulOp op, int64_t numBlocks, TileOperands &tile);

private:
  struct Place {
    dialect::AttentionPartsOp attention;
    dialect::KvAtOp cache;
    bool isOfNextLayer; // the one behind `cache` in each block
  };
  struct Progress {
    mlir::Value sequence, block, byte; // `byte` may lie behind the layer
    int64_t layerBytes;
  };
  std::optional<Place> placeFor(dialect::QMatmulOp op);
  mlir::Value get(KernelBuilder &k, mlir::Operation *op, int64_t word);
  void set(KernelBuilder &k, mlir::Operation *op, int64_t word, mlir::Value value);
  void emitStart(mlir::Operation *before);
  void advance(KernelBuilder &k, mlir::Operation *op, const Progress &progress);

  mlir::ModuleOp module;
  int64_t cursor = 0, mostBytes = 0;
};

} // namespace girih::cpu
