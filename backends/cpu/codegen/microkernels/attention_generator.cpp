// SPDX-License-Identifier: Apache-2.0
// AttentionGenerator: implementation. K is read as [D][16 positions], V as [16 positions][Dv].
#include "backends/cpu/codegen/microkernels/attention_generator.h"

#include "runtime/abi/step.h"

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kLargestRowTile = 6, kMostBlockTile = 4;

}  // namespace

// Whole vectors of rows, and room for a last tile of them.
static int64_t maxRowsOf(const AttentionShape &shape, int64_t maxTokens) {
  return llvm::alignTo(maxTokens * shape.headsPerGroup + (maxTokens > 1 ? kLargestRowTile - 1 : 0), kLanes);
}

// What a chunk's values, or its keys some blocks at a time, take in f32; 0 where they are f32, or read only once, or the
// frame has no room.
static int64_t stagedBytesOf(const AttentionShape &shape, int64_t numTokens, int64_t walkBytes) {
  if (numTokens == 1 || shape.kv.getElement().isF32())
    return 0;
  int64_t valueBytes = shape.chunk * llvm::alignTo(shape.valueDim(), kLanes) * 4;
  int64_t keyBytes = kMostBlockTile * kPositions * shape.keyDim() * 4, bytes = std::max(valueBytes, keyBytes);
  return walkBytes + bytes > kMaxFrameBytes ? 0 : bytes;
}

int64_t attentionFrameBytes(const AttentionShape &shape, int64_t numTokens) {
  int64_t bytes = walkFrameBytes(shape, maxRowsOf(shape, numTokens), shape.keyDim() * 4);
  return bytes + stagedBytesOf(shape, numTokens, bytes);
}

AttentionGenerator::AttentionGenerator(KernelBuilder &k, const IsaTraits &isa, const AttentionShape &shape,
                                       const AttentionOperands &operands, int64_t maxTokens)
    : AttentionWalk(k, shape, operands, maxRowsOf(shape, maxTokens), shape.keyDim() * 4),
      elementBytes(shape.elementBytes()) {
  blockTile = isa.laneVectors() >= 32 ? kMostBlockTile : 2;
  rowTile = std::clamp<int64_t>((isa.laneVectors() - blockTile - 2) / blockTile, 1, kLargestRowTile);
  int64_t bytes = attentionFrameBytes(shape, maxTokens) - walkFrameBytes(shape, maxRows, shape.keyDim() * 4);
  isStaged = bytes > 0;
  stagedAt = section(bytes);
  readBytes = isStaged ? 4 : elementBytes;
  valueRowBytes = isStaged ? numVectors * kVectorBytes : shape.valueDim() * elementBytes;
  allocateFrame();
}

// ---- Keys and values in f32 for all tiles of rows ----
Value AttentionGenerator::loadStaged(Value address, Value mask) {
  return isStaged ? k.load(k.lanesF32(), address) : loadCache(address, mask);
}

void AttentionGenerator::stageKeys(Value source, Value target) {
  k.loop(k.index(0), k.index(shape.keyDim()), 1, [&](Value depth) {
    k.store(loadCache(k.at(source, k.mul(depth, kPositions * elementBytes))), k.at(target, k.mul(depth, kVectorBytes)));
  });
}

// Slots after the last position may hold anything; nobody reads them.
void AttentionGenerator::stageValues(Value source, Value target) {
  k.loop(k.index(0), k.index(kPositions), 1, [&](Value position) {
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      Value from = k.at(k.at(source, k.mul(position, shape.valueDim() * elementBytes)), vector * kLanes * elementBytes);
      Value to = k.at(k.at(target, k.mul(position, numVectors * kVectorBytes)), vector * kVectorBytes);
      k.store(loadCache(from, tailMask(k, vector, shape.valueDim())), to);
    }
  });
}

Value AttentionGenerator::keysOf(const Rows &rows, Value block) {
  return k.at(blockAddress(rows, block), k.mul(rows.cacheGroup, shape.keyBytes()));
}

Value AttentionGenerator::valuesOf(const Rows &rows, Value block) {
  return k.at(k.at(blockAddress(rows, block), shape.kv.getHeads() * shape.keyBytes()),
              k.mul(rows.cacheGroup, shape.valueDim() * elementBytes * kPositions));
}

void AttentionGenerator::fetch(const Rows &rows, Value block) {
  Value keys = keysOf(rows, block), values = valuesOf(rows, block);
  for (int64_t line = 0; line < shape.keyBytes(); line += kLineBytes)
    k.prefetch(k.at(keys, line), 2);
  for (int64_t line = 0; line < shape.valueDim() * elementBytes * kPositions; line += kLineBytes)
    k.prefetch(k.at(values, line), 2);
}

Value AttentionGenerator::stagedValues(Value block, const Blocks &blocks) {
  return k.at(k.at(frame, stagedAt), k.mul(k.sub(block, blocks.firstOfChunk), kPositions * valueRowBytes));
}

// scores[row][u] = sum over ascending d of q[row, d] * K[d][u]. A few blocks at a time: one row alone is a single chain
// of dependent multiply-adds for each block, and would wait for each of them.
void AttentionGenerator::scores(const Rows &rows, const Blocks &blocks) {
  k.loop(blocks.first, blocks.end, blockTile, [&](Value first) {
    SmallVector<Value> keys, ahead;
    for (int64_t block = 0; block < blockTile; ++block) {
      keys.push_back(keysOf(rows, k.add(first, block)));
      if (isStaged) {
        Value target = k.at(frame, stagedAt + block * shape.keyDim() * kVectorBytes);
        stageKeys(keys.back(), target);
        keys.back() = target;
      }
      if (blocks.toNext && isOneTile(rows, rowTile))
        ahead.push_back(keysOf(blocks.next, k.add(k.add(first, block), blocks.toNext)));
    }
    forRowTiles(rows, rowTile, [&](Value firstRow, int64_t numRows) {
      scoreTile(blocks, first, keys, ahead, firstRow, numRows);
    });
  });
}

void AttentionGenerator::scoreTile(const Blocks &blocks, Value firstBlock, ArrayRef<Value> keys, ArrayRef<Value> ahead,
                                   Value firstRow, int64_t numRows) {
  int64_t numBlocks = static_cast<int64_t>(keys.size()), lineDepth = kLineBytes / (kPositions * readBytes);
  int64_t unroll = std::max<int64_t>(2, lineDepth);  // a whole line of each key
  Value queries = slot(queriesAt, firstRow, shape.keyDim() * 4);
  SmallVector<Value> sums(numRows * numBlocks, k.lanesOf(0));
  auto step = [&](Value depth, int64_t count, SmallVector<Value> &sums) {
    for (int64_t inner = 0; inner < count; ++inner) {
      SmallVector<Value> loaded;
      auto at = [&](Value key) {
        return k.at(k.at(key, k.mul(depth, kPositions * readBytes)), inner * kPositions * readBytes);
      };
      for (Value key : keys)
        loaded.push_back(loadStaged(at(key)));
      for (Value key : ahead)
        if (inner % std::max<int64_t>(lineDepth, 1) == 0)
          k.prefetch(at(key), 2);
      for (int64_t row = 0; row < numRows; ++row) {
        Value address = k.at(k.at(queries, k.mul(depth, 4)), (row * shape.keyDim() + inner) * 4);
        Value value = k.splat(k.load(k.b.getF32Type(), address));
        for (int64_t block = 0; block < numBlocks; ++block)
          sums[block * numRows + row] = k.fma(value, loaded[block], sums[block * numRows + row]);
      }
    }
  };
  int64_t rolled = shape.keyDim() / unroll * unroll;
  if (rolled > 0) {
    sums = k.loop(k.index(0), k.index(rolled), unroll, sums, [&](Value depth, ValueRange carried) {
      SmallVector<Value> inner(carried);
      step(depth, unroll, inner);
      return inner;
    });
  }
  if (rolled != shape.keyDim())
    step(k.index(rolled), shape.keyDim() - rolled, sums);
  Value column = k.mul(k.sub(firstBlock, blocks.firstOfChunk), kVectorBytes);
  for (int64_t block = 0; block < numBlocks; ++block)
    for (int64_t row = 0; row < numRows; ++row)
      k.store(sums[block * numRows + row],
              k.at(k.at(scoreSlot(k.add(firstRow, row)), column), block * kVectorBytes));
}

// The chunk's sum over ascending u of weights[row][u] * V[u].
void AttentionGenerator::accumulate(const Rows &rows, const Blocks &blocks, const PartTarget &target) {
  if (isStaged)
    k.loop(blocks.first, blocks.end, 1, [&](Value block) {
      stageValues(valuesOf(rows, block), stagedValues(block, blocks));
    });
  int64_t columns = std::min<int64_t>(numVectors, blockTile);
  for (int64_t first = 0; first < numVectors; first += columns) {
    int64_t count = std::min(columns, numVectors - first);
    forRowTiles(rows, rowTile, [&](Value firstRow, int64_t numRows) {
      accumulateTile(rows, blocks, target, firstRow, numRows, first, count);
    });
  }
}

void AttentionGenerator::accumulateTile(const Rows &rows, const Blocks &blocks, const PartTarget &target, Value firstRow,
                                        int64_t numRows, int64_t firstVector, int64_t count) {
  bool readsAhead = blocks.toNext && isOneTile(rows, rowTile) && firstVector == 0;
  SmallVector<Value> masks, sums(numRows * count, k.lanesOf(0));
  for (int64_t vector = 0; vector < count; ++vector) {
    int64_t left = shape.valueDim() - (firstVector + vector) * kLanes;
    masks.push_back(left >= kLanes ? Value() : k.maskOf(k.index(left)));
  }
  sums = k.loop(blocks.first, blocks.end, 1, sums, [&](Value block, ValueRange outer) {
    Value values = isStaged ? stagedValues(block, blocks) : valuesOf(rows, block);
    Value weights = k.at(scoreSlot(firstRow), k.mul(k.sub(block, blocks.firstOfChunk), kVectorBytes));
    Value ahead = readsAhead ? valuesOf(blocks.next, k.add(block, blocks.toNext)) : Value();
    // Slots after the last position may hold anything, even NaN: they are not read.
    Value numPositions = k.minOf(k.sub(rows.endPosition, k.mul(block, kPositions)), k.index(kPositions));
    return k.loop(k.index(0), numPositions, 1, outer, [&](Value position, ValueRange carried) {
      SmallVector<Value> inner(carried), loaded;
      Value source = k.at(values, k.mul(position, valueRowBytes));
      for (int64_t vector = 0; vector < count; ++vector)
        loaded.push_back(loadStaged(k.at(source, (firstVector + vector) * kLanes * readBytes), masks[vector]));
      for (int64_t line = 0; readsAhead && line * kLineBytes < valueRowBytes; ++line)
        k.prefetch(k.at(k.at(ahead, k.mul(position, valueRowBytes)), line * kLineBytes), 2);
      for (int64_t row = 0; row < numRows; ++row) {
        Value weight = k.splat(k.load(k.b.getF32Type(), k.at(k.at(weights, k.mul(position, 4)), row * shape.chunk * 4)));
        for (int64_t vector = 0; vector < count; ++vector)
          inner[row * count + vector] = k.fma(weight, loaded[vector], inner[row * count + vector]);
      }
      return inner;
    });
  });
  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t vector = 0; vector < count; ++vector)
      deliver(sums[row * count + vector], k.add(firstRow, row), firstVector + vector, target);
}

}  // namespace girih::cpu
