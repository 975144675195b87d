// SPDX-License-Identifier: Apache-2.0
// AttentionWalk: attention in f32 chunk by chunk of the paged cache; how chunks are masked, weighed and joined.
#pragma once

#include "backends/cpu/codegen/microkernels/attention_rows.h"

namespace girih::cpu {

// Elements of a part (girih.attention_parts) before its sums of weights, before its values.
inline constexpr int64_t kPartSums = 16, kPartValues = 32;

// The positions of a sequence are cut into chunks at multiples of `chunk`. A chunk has one maximum; its weights and sums
// are relative to it. Chunks are joined from the first to the last. Both are fixed, so a row has the same bits whether
// one unit of work computes all of its chunks or many do, and whatever rows are beside it.
//
// Per row the kernel keeps, in the function's frame: its query, the chunk's scores, and the running maximum, 16 partial sums and output sums of the chunks joined so far.
class AttentionWalk : public AttentionRows {
public:
  // `maxRows` a multiple of 16; `queryBytes` that one row's query takes in the frame.
  AttentionWalk(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands, int64_t maxRows,
                int64_t queryBytes);
  void emit(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup) override;

  // One token's parts of one chunk, at `part` and `partStride` bytes apart for each head; nothing where the token does
  // not see the chunk. Where `readsAhead`, this thread wants the next head of the chunk next, after the last head the
  // next chunk, and after the last chunk the next token.
  void emitPart(mlir::Value token, mlir::Value group, mlir::Value cacheGroup, mlir::Value chunk, mlir::Value part,
                mlir::Value partStride, bool readsAhead);

protected:
  // The blocks of one chunk that some row sees: from a multiple of 4 on.
  struct Blocks {
    mlir::Value chunkStart;       // position
    mlir::Value firstOfChunk, first, end;
    // What the thread reads next, to be fetched meanwhile: this many blocks on, by that table; null: not known.
    mlir::Value toNext;
    Rows next;
  };
  // Where a chunk's weighted sums go: joined with the running sums, or stored as parts.
  struct PartTarget {
    mlir::Value part, stride;     // null: joined
  };

  // Fetches a block of `rows` into the second level.
  virtual void fetch(const Rows &rows, mlir::Value block) = 0;
  // The scores of a chunk's blocks, all rows: q * k without scale.
  virtual void scores(const Rows &rows, const Blocks &blocks) = 0;
  // The weighted sums of a chunk's values, handed to `target`; weights are where the scores were.
  virtual void accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) = 0;
  mlir::Value scoreSlot(mlir::Value row) { return slot(scoresAt, row, shape.chunk * 4); }
  mlir::Value chunkMaxSlot(mlir::Value row) { return slot(chunkMaxAt, row, 4); }
  mlir::Value chunkSumsSlot(mlir::Value row) { return slot(chunkSumsAt, row, kVectorBytes); }
  mlir::Value outSlot(mlir::Value row) { return slot(outAt, row, numVectors * kVectorBytes); }
  // Joins or stores the sum of one vector of values of a row.
  void deliver(mlir::Value sum, mlir::Value row, int64_t vector, const PartTarget &target);
  // Covers rows 0 .. count - 1 by tiles of `tile` rows. A count that is not constant is rounded up to whole tiles; rows
  // beyond it hold anything.
  void forRowTiles(const Rows &rows, int64_t tile, llvm::function_ref<void(mlir::Value, int64_t)> body);
  bool isOneTile(const Rows &rows, int64_t tile);

  void allocateFrame() { frame = k.frameBytes(frameSize); }

  int64_t queriesAt, scoresAt, outAt;  // sections of the frame, in bytes

private:
  void clearState(const Rows &rows);
  Blocks blocksOf(const Rows &rows, mlir::Value chunk);
  void lookAhead(const Rows &rows, mlir::Value chunk, Blocks &blocks);
  void prepareQueries(const Rows &rows);
  void softmax(const Rows &rows, const Blocks &blocks);
  // Turns the scores of a token's heads into weights relative to the chunk's maximum, and keeps it and their sums.
  void softmaxToken(const Rows &rows, const Blocks &blocks, mlir::Value token);
  mlir::Value scaled(mlir::Value scores);
  void joinMaxima(const Rows &rows);
  void finish(const Rows &rows);

  int64_t sumsAt, maxAt, chunkMaxAt, chunkSumsAt, oldFactorAt, newFactorAt;
};

// Bytes of frame that AttentionWalk itself takes.
int64_t walkFrameBytes(const AttentionShape &shape, int64_t maxRows, int64_t queryBytes);

// Joins the parts of some rows and writes their results, side by side: a row alone waits for each of its factors. `parts`
// are chunk 0's, chunks are `chunkStride` bytes apart; the rows' chunks are firstChunk .. endChunk - 1.
void emitJoinedParts(KernelBuilder &k, llvm::ArrayRef<mlir::Value> parts, mlir::Value chunkStride,
                     mlir::Value firstChunk, mlir::Value endChunk, llvm::ArrayRef<mlir::Value> out, int64_t valueDim);

}  // namespace girih::cpu
