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
  void scores(const Rows &rows, const Blocks &blocks) override;
  void accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) override;
  void scoreTile(const Blocks &blocks, mlir::Value firstBlock, llvm::ArrayRef<mlir::Value> keys,
                 llvm::ArrayRef<mlir::Value> ahead, mlir::Value firstRow, int64_t numRows);
  void accumulateTile(const Rows &rows, const Blocks &blocks, const PartTarget &target, mlir::Value firstRow,
                      int64_t numRows, int64_t firstVector, int64_t numVectors);

  int64_t elementBytes;
  int64_t blockTile, rowTile;  // scores of rowTile rows x blockTile blocks are in registers at a time
};

// Bytes of frame for `numTokens` tokens; the caller keeps it well under a thread's stack.
int64_t attentionFrameBytes(const AttentionShape &shape, int64_t numTokens);

}  // namespace girih::cpu
