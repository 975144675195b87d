// SPDX-License-Identifier: Apache-2.0
// AttentionRows: what every attention kernel says alike: which rows it computes, and where they, the paged cache and the
// frame lie.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
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
  mlir::Type outElement;                  // f32, or what results are rounded to
};

// Rows of a group are (token, head) pairs, token-major; what a kernel keeps of each is in its frame.
class AttentionRows {
public:
  virtual ~AttentionRows() = default;

  // Attention of `numTokens` tokens of one sequence from tile token `token` on, for the query heads of kv head
  // `group` of the tile; `cacheGroup` is that head's number in the cache. A constant number gets code of its own.
  // Requires: numTokens <= maxTokens.
  virtual void emit(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup) = 0;

protected:
  AttentionRows(KernelBuilder &k, const AttentionShape &shape, const AttentionOperands &operands, int64_t maxRows);

  struct Rows {
    mlir::Value numTokens, count; // count = numTokens * headsPerGroup
    mlir::Value token, group, cacheGroup;
    mlir::Value table;            // the sequence's block table
    mlir::Value firstBlock, endBlock, endPosition;  // what the rows together see
  };
  Rows rowsOf(mlir::Value numTokens, mlir::Value token, mlir::Value group, mlir::Value cacheGroup);

  mlir::Value blockAddress(const Rows &rows, mlir::Value number);
  mlir::Value loadCache(mlir::Value pointer, mlir::Value mask = {});  // 16 elements as f32
  // The scales of a block's 16 keys, or values; only where the cache has scales.
  mlir::Value scalesAddress(const Rows &rows, mlir::Value block, bool ofValues);
  mlir::Value scalesOf(const Rows &rows, mlir::Value block, bool ofValues);
  mlir::Value queryAddress(const Rows &rows, mlir::Value row);
  mlir::Value outAddress(const Rows &rows, mlir::Value row);
  mlir::Value positionOf(const Rows &rows, mlir::Value token);
  // The positions of a block that a token at position `own` sees.
  mlir::Value seenLanes(mlir::Value own, mlir::Value block);
  mlir::Value stepInt(size_t field, mlir::Value number);  // element of an int32 array of the step, as index

  int64_t section(int64_t bytes);  // of the frame; its offset
  mlir::Value slot(int64_t section, mlir::Value row, int64_t rowBytes);

  static constexpr int64_t kVectorBytes = kLanes * 4;
  KernelBuilder &k;
  AttentionShape shape;
  AttentionOperands operands;
  int64_t numVectors;  // vectors of 16 that hold one row of V
  int64_t maxRows;
  int64_t frameSize = 0;
  mlir::Value frame;

private:
  mlir::Value rowAddress(mlir::Value base, mlir::Value tokenStride, mlir::Value headStride, const Rows &rows,
                         mlir::Value row);
};

// Null where all 16 values of a vector exist in a row of `extent`.
mlir::Value tailMask(KernelBuilder &k, int64_t vector, int64_t extent);

// Writes a row's result: its weighted values over the sum of its weights.
void storeQuotient(KernelBuilder &k, mlir::Value out, mlir::Type element, int64_t valueDim, mlir::Value sums,
                   llvm::function_ref<mlir::Value(int64_t)> valueOf);

// Writes vector number `vector` of a row of `valueDim` results, rounded to `element`.
void storeResult(KernelBuilder &k, mlir::Value value, mlir::Value out, mlir::Type element, int64_t vector,
                 int64_t valueDim);

// The first position that a token at `position` sees.
mlir::Value firstSeen(KernelBuilder &k, mlir::Value position, std::optional<int64_t> window);

}  // namespace girih::cpu
