// SPDX-License-Identifier: Apache-2.0
// AttentionGenerator: emits softmax attention of a few consecutive tokens of one sequence over its paged cache.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include <optional>

namespace girih::cpu {

// What an attention op says, and where its operands are. Strides in bytes.
struct AttentionShape {
  int64_t headsPerGroup;      // query heads that share a kv head
  int64_t keyDim, valueDim;   // D, Dv
  int64_t numGroups;          // G of the cache, not of the tile
  int64_t blockBytes;         // distance of two KV blocks
  mlir::Type element;         // of the cache: f32 or f16
  double scale;
  std::optional<int64_t> window;
  std::optional<double> softCap;
};

struct AttentionOperands {
  mlir::Value q, out;                        // token 0, query head 0 of the tile
  mlir::Value qTokenStride, qHeadStride;     // bytes
  mlir::Value outTokenStride, outHeadStride;
  mlir::Value cache;                         // the layer's part of KV block 0
  mlir::Value firstToken;                    // of the tile, counted in the step
};

// Rows of a group are (token, head) pairs, token-major. Per row the kernel keeps, in the function's frame: 16 scores a block,
// the running maximum, 16 partial sums of exponentials, the factor of the last rescaling, and the output sums.
class AttentionGenerator {
public:
  AttentionGenerator(KernelBuilder &k, const IsaTraits &isa, const AttentionShape &shape,
                     const AttentionOperands &operands, int64_t maxTokens);

  // Attention of `numTokens` tokens of one sequence from tile token `token` on, for the query heads of kv head
  // `group` of the tile; `cacheGroup` is that head's number in the cache. Requires: numTokens <= maxTokens.
  void emit(int64_t numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup);

private:
  struct Rows {
    int64_t count;         // numTokens * headsPerGroup
    mlir::Value token, group;
  };

  void clearState(const Rows &rows);
  void scores(const Rows &rows, llvm::ArrayRef<mlir::Value> keys);
  // `firstScore`: where the block's scores start, in rows.
  void softmax(const Rows &rows, int64_t numTokens, mlir::Value blockStart, mlir::Value firstScore);
  void softmaxRow(mlir::Value row, mlir::Value firstScore, mlir::Value isSeen);
  void accumulate(const Rows &rows, mlir::Value values, mlir::Value numPositions, mlir::Value firstScore);
  void accumulateTile(mlir::Value firstRow, int64_t numRows, int64_t firstVector, int64_t numVectors,
                      mlir::Value values, mlir::Value numPositions, mlir::Value firstScore);
  void finish(const Rows &rows);
  mlir::Value loadCache(mlir::Value pointer, mlir::Value mask = {});
  mlir::Value valueMask(int64_t vector);
  mlir::Value rowAddress(mlir::Value base, mlir::Value tokenStride, mlir::Value headStride, const Rows &rows,
                         mlir::Value row);
  mlir::Value slot(int64_t section, mlir::Value row, int64_t rowBytes);
  void forRowTiles(int64_t numRows, int64_t tile, llvm::function_ref<void(mlir::Value, int64_t)> body);
  mlir::Value stepInt(size_t field, mlir::Value number);  // element of an int32 array of the step, as index

  KernelBuilder &k;
  const IsaTraits &isa;
  AttentionShape shape;
  AttentionOperands operands;
  int64_t elementBytes, numVectors;  // vectors of 16 that hold one row of V
  int64_t scoresAt, sumsAt, maxAt, factorAt, outAt;  // sections of the frame, in bytes
  mlir::Value frame;
};

// Bytes of frame for `numTokens` tokens; the caller keeps it well under a thread's stack.
int64_t attentionFrameBytes(const AttentionShape &shape, int64_t numTokens);

}  // namespace girih::cpu
