// SPDX-License-Identifier: Apache-2.0
// AttentionGenerator: attention in f32 chains of fused multiply-adds, the same bits on every ISA.
#pragma once

#include "backends/cpu/codegen/microkernels/attention_walk.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"

namespace girih::cpu {

class AttentionGenerator : public AttentionWalk {
public:
  AttentionGenerator(KernelBuilder &k, const IsaTraits &isa, const AttentionShape &shape,
                     const AttentionOperands &operands, int64_t maxTokens);

private:
  void fetch(const Rows &rows, mlir::Value block) override;
  void scores(const Rows &rows, const Blocks &blocks) override;
  void accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) override;
  void scoreTile(const Blocks &blocks, mlir::Value firstBlock, llvm::ArrayRef<mlir::Value> keys,
                 llvm::ArrayRef<mlir::Value> ahead, mlir::Value firstRow, int64_t numRows);
  void accumulateTile(const Rows &rows, const Blocks &blocks, const PartTarget &target, mlir::Value firstRow,
                      int64_t numRows, int64_t firstVector, int64_t numVectors);

  // Where many rows read the same keys and values, they are converted to f32 once for all of them.
  void stageKeys(mlir::Value source, mlir::Value target);
  void stageValues(mlir::Value source, mlir::Value target);
  mlir::Value loadStaged(mlir::Value address, mlir::Value mask = {});  // 16 elements, from there or from the cache
  mlir::Value keysOf(const Rows &rows, mlir::Value block);
  mlir::Value valuesOf(const Rows &rows, mlir::Value block);
  mlir::Value stagedValues(mlir::Value block, const Blocks &blocks);

  int64_t elementBytes;
  bool isStaged;
  int64_t stagedAt, readBytes, valueRowBytes;
  int64_t blockTile, rowTile;  // scores of rowTile rows x blockTile blocks are in registers at a time
};

// What a thread's stack has room for.
inline constexpr int64_t kMaxFrameBytes = 128 * 1024;

// Bytes of frame for `numTokens` tokens; the caller keeps it below kMaxFrameBytes.
int64_t attentionFrameBytes(const AttentionShape &shape, int64_t numTokens);

}  // namespace girih::cpu
