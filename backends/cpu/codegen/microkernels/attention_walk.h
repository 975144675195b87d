// SPDX-License-Identifier: Apache-2.0
// AttentionWalk: what every attention kernel does alike: rows, masks, chunks of the paged cache, and joining chunks.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "dialects/girih/dialect.h"

#include <optional>

namespace girih::cpu {

// What an attention op says.
struct AttentionShape {
  dialect::KvType kv;
  int64_t headsPerGroup;  // query heads that share a kv head
  int64_t blockBytes;     // distance of two KV blocks
  int64_t chunk;          // positions; a multiple of 64
  double scale;
  std::optional<int64_t> window;
  std::optional<double> softCap;

  int64_t keyDim() const { return kv.getKeyDim(); }
  int64_t valueDim() const { return kv.getValueDim(); }
  int64_t elementBytes() const { return kv.getElement().getIntOrFloatBitWidth() / 8; }
  int64_t keyBytes() const;  // of one kv head in a block
};

// Where an op's operands are. Strides in bytes.
struct AttentionOperands {
  mlir::Value q, out;                     // token 0, query head 0 of the tile; `out` is null for parts
  mlir::Value qTokenStride, qHeadStride;
  mlir::Value outTokenStride, outHeadStride;
  mlir::Value cache;                      // the layer's part of KV block 0
  mlir::Value firstToken;                 // of the tile, counted in the step
};

// Elements of a part (girih.attention_parts) before its sums of weights, before its values.
inline constexpr int64_t kPartSums = 16, kPartValues = 32;

// The positions of a sequence are cut into chunks at multiples of `chunk`. A chunk has one maximum; its weights and sums
// are relative to it. Chunks are joined from the first to the last. Both are fixed, so a row has the same bits whether
// one unit of work computes all of its chunks or many do, and whatever rows are beside it.
//
// Rows of a group are (token, head) pairs, token-major. Per row the kernel keeps, in the function's frame: its query, the
// chunk's scores, and the running maximum, 16 partial sums and output sums of the chunks joined so far.
class AttentionWalk {
public:
  // `maxRows` a multiple of 16; `queryBytes` that one row's query takes in the frame.
  AttentionWalk(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands, int64_t maxRows,
                int64_t queryBytes);
  virtual ~AttentionWalk() = default;

  // Attention of `numTokens` tokens of one sequence from tile token `token` on, for the query heads of kv head
  // `group` of the tile; `cacheGroup` is that head's number in the cache. A constant number gets code of its own.
  // Requires: numTokens <= maxTokens.
  void emit(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup);

  // One token's parts of one chunk, at `part` and `partStride` bytes apart for each head; nothing where the token does
  // not see the chunk. Where `readsAhead`, the next chunk of the same head is wanted next by this thread.
  void emitPart(mlir::Value token, mlir::Value group, mlir::Value cacheGroup, mlir::Value chunk, mlir::Value part,
                mlir::Value partStride, bool readsAhead);

protected:
  struct Rows {
    mlir::Value numTokens, count; // count = numTokens * headsPerGroup
    mlir::Value token, group, cacheGroup;
    mlir::Value table;            // the sequence's block table
    mlir::Value firstBlock, endBlock, endPosition;  // what the rows together see
  };
  // The blocks of one chunk that some row sees: from a multiple of 4 on.
  struct Blocks {
    mlir::Value chunkStart;       // position
    mlir::Value firstOfChunk, first, end;
    bool readsAhead = false;
  };
  // Where a chunk's weighted sums go: joined with the running sums, or stored as parts.
  struct PartTarget {
    mlir::Value part, stride;     // null: joined
  };

  // The scores of a chunk's blocks, all rows: q * k without scale.
  virtual void scores(const Rows &rows, const Blocks &blocks) = 0;
  // The weighted sums of a chunk's values, handed to `target`; weights are where the scores were.
  virtual void accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) = 0;
  virtual void prepareQueries(const Rows &rows);
  // Turns the scores of a token's heads into weights relative to the chunk's maximum, and keeps it and their sums.
  virtual void softmaxToken(const Rows &rows, const Blocks &blocks, mlir::Value token);

  mlir::Value blockAddress(const Rows &rows, mlir::Value number);
  mlir::Value loadCache(mlir::Value pointer, mlir::Value mask = {});  // 16 elements as f32
  // The scales of a block's 16 keys, or values; only where the cache has scales.
  mlir::Value scalesOf(const Rows &rows, mlir::Value block, bool ofValues);
  mlir::Value slot(int64_t section, mlir::Value row, int64_t rowBytes);
  mlir::Value scoreSlot(mlir::Value row) { return slot(scoresAt, row, shape.chunk * 4); }
  mlir::Value chunkMaxSlot(mlir::Value row) { return slot(chunkMaxAt, row, 4); }
  mlir::Value chunkSumsSlot(mlir::Value row) { return slot(chunkSumsAt, row, kVectorBytes); }
  mlir::Value queryAddress(const Rows &rows, mlir::Value row);
  mlir::Value positionOf(const Rows &rows, mlir::Value token);
  // The positions of a block that a token at position `own` sees.
  mlir::Value seenLanes(mlir::Value own, mlir::Value block);
  mlir::Value outSlot(mlir::Value row) { return slot(outAt, row, numVectors * kVectorBytes); }
  // Joins or stores the sum of one vector of values of a row.
  void deliver(mlir::Value sum, mlir::Value row, int64_t vector, const PartTarget &target);
  int64_t section(int64_t bytes);  // of the frame; its offset
  // Covers rows 0 .. count - 1 by tiles of `tile` rows. A count that is not constant is rounded up to whole tiles; rows
  // beyond it hold anything.
  void forRowTiles(const Rows &rows, int64_t tile, llvm::function_ref<void(mlir::Value, int64_t)> body);
  bool isOneTile(const Rows &rows, int64_t tile);
  mlir::Value stepInt(size_t field, mlir::Value number);  // element of an int32 array of the step, as index

  static constexpr int64_t kVectorBytes = kLanes * 4;
  KernelBuilder &k;
  AttentionShape shape;
  AttentionOperands operands;
  int64_t numVectors;  // vectors of 16 that hold one row of V
  int64_t maxRows;
  int64_t queriesAt, scoresAt, outAt;  // sections of the frame, in bytes

private:
  Rows rowsOf(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup);
  void clearState(const Rows &rows);
  Blocks blocksOf(const Rows &rows, mlir::Value chunk);
  void softmax(const Rows &rows, const Blocks &blocks);
  mlir::Value scaled(mlir::Value scores);
  void joinMaxima(const Rows &rows);
  void finish(const Rows &rows);
  mlir::Value rowAddress(mlir::Value base, mlir::Value tokenStride, mlir::Value headStride, const Rows &rows,
                         mlir::Value row);

  int64_t frameSize = 0;
  int64_t sumsAt, maxAt, chunkMaxAt, chunkSumsAt, oldFactorAt, newFactorAt;

protected:
  mlir::Value frame;
  void allocateFrame() { frame = k.frameBytes(frameSize); }
};

// Bytes of frame that AttentionWalk itself takes.
int64_t walkFrameBytes(const AttentionShape &shape, int64_t maxRows, int64_t queryBytes);

// Joins the parts of one row and writes its result. `parts` is chunk 0's, chunks are `chunkStride` bytes apart; the row's
// chunks are firstChunk .. endChunk - 1.
void emitJoinedParts(KernelBuilder &k, mlir::Value parts, mlir::Value chunkStride, mlir::Value firstChunk,
                     mlir::Value endChunk, mlir::Value out, int64_t valueDim);

// The first chunk that a token at `position` sees.
mlir::Value firstSeen(KernelBuilder &k, mlir::Value position, std::optional<int64_t> window);

}  // namespace girih::cpu
