// SPDX-License-Identifier: Apache-2.0
// TileSpace: implementation.
#include "backends/cpu/codegen/microkernels/tile_space.h"

#include <bit>

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

// How far ahead of use a group of panels is fetched, in bytes over all its streams, and into which level: what memory
// takes to answer while others read too. The first level would have lost some of it again.
constexpr int64_t kPrefetchBytes = 12288, kPrefetchLevel = 2;
constexpr int64_t kLineBytes = 64;

// The next smaller size of a row group: 12, 8, 6, 4, 3, 2, 1. A rest of 3 or 6 rows, common in batched decoding, then
// reads the weights once.
int64_t smallerGroup(int64_t rows) {
  auto isPower = [](int64_t value) { return std::has_single_bit(static_cast<uint64_t>(value)); };
  if (rows <= 3)
    return rows - 1;
  if (isPower(rows))
    return rows / 4 * 3;
  bool isThreeTimesPower = rows % 3 == 0 && isPower(rows / 3);
  return isThreeTimesPower ? rows / 3 * 2 : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows)));
}

}  // namespace

Value pinned(KernelBuilder &k, Value lanes, const IsaTraits &isa) {
  SmallVector<Value> parts;
  for (int64_t first = 0; first < kLanes; first += isa.registerLanes)
    parts.push_back(k.pin(k.slice(lanes, first, isa.registerLanes), isa.architecture->vectorConstraint));
  return k.joined(parts);
}

// ---- Loops ----
void TileSpace::forColumns(const TileOperands &tile, llvm::function_ref<void(const Columns &)> body) {
  int64_t width = shape.panels * kPanelColumns;
  Value fullEnd = k.mul(k.div(tile.numColumns, width), width);
  auto fixed = getConstantIntValue(tile.numColumns);
  if (!fixed || *fixed >= width)
    k.loop(k.index(0), fullEnd, width, [&](Value first) { body({first, shape.panels, Value()}); });
  if (!fixed) {
    k.loop(fullEnd, tile.numColumns, kPanelColumns,
           [&](Value first) { body({first, 1, k.maskOf(k.sub(tile.numColumns, first))}); });
    return;
  }
  int64_t left = *fixed % width;
  if (left == 0)
    return;
  int64_t first = *fixed - left;
  Value mask = left % kPanelColumns == 0 ? Value() : k.maskOf(k.index(left % kPanelColumns));
  body({k.index(first), (left + kPanelColumns - 1) / kPanelColumns, mask});
}

void TileSpace::forRows(Value numRows, llvm::function_ref<void(Value, int64_t)> body) {
  auto fixed = getConstantIntValue(numRows);
  Value next = k.index(0);
  for (int64_t rows = fixed ? std::min(shape.rows, std::max<int64_t>(*fixed, 1)) : shape.rows; rows >= 1;
       rows = smallerGroup(rows)) {
    Value end = k.add(next, k.mul(k.div(k.sub(numRows, next), rows), rows));
    k.loop(next, end, rows, [&](Value firstRow) { body(firstRow, rows); });
    next = end;
  }
}

// ---- Addresses ----
Value TileSpace::panelAddress(const TileOperands &tile, const Columns &columns) {
  return k.at(tile.weights, k.mul(k.div(columns.first, kPanelColumns), layout.panelBytes(tile.depth)));
}

Value TileSpace::outAddress(const TileOperands &tile, const Columns &columns, Value row, int64_t panel) {
  Value offset = k.add(k.mul(row, tile.outStride), k.mul(columns.first, 4));
  return k.at(k.at(tile.out, offset), panel * kLanes * 4);
}

Value TileSpace::loadOut(const TileOperands &tile, const Columns &columns, Value row, int64_t panel) {
  Value address = outAddress(tile, columns, row, panel);
  bool isPartial = columns.lastMask && panel == columns.panels - 1;
  return isPartial ? k.loadMasked(k.lanesF32(), address, columns.lastMask) : k.load(k.lanesF32(), address);
}

void TileSpace::storeOut(const TileOperands &tile, const Columns &columns, Value row, int64_t panel, Value sum) {
  Value address = outAddress(tile, columns, row, panel);
  if (columns.lastMask && panel == columns.panels - 1)
    k.storeMasked(sum, address, columns.lastMask);
  else
    k.store(sum, address);
}

void TileSpace::prefetchAhead(Value weights, Value block, const Columns &columns, int64_t depth) {
  int64_t panelBytes = layout.panelBytes(depth);
  int64_t blockBytes = layout.blockBytes();
  int64_t ahead = llvm::divideCeil(kPrefetchBytes / columns.panels, blockBytes) * blockBytes;
  Value position = k.add(k.mul(block, blockBytes), ahead);
  Value offset = k.add(position, k.mul(k.div(position, panelBytes), (columns.panels - 1) * panelBytes));
  Value target = k.at(weights, offset);
  for (int64_t panel = 0; panel < columns.panels; ++panel)
    for (int64_t line = 0; line < blockBytes; line += kLineBytes)
      k.prefetch(k.at(target, panel * panelBytes + line), kPrefetchLevel);
}

void TileSpace::fetchBeside(const TileOperands &tile, Value block, int64_t part, int64_t numParts) {
  int64_t line = part * tile.fetchedLines / numParts, end = (part + 1) * tile.fetchedLines / numParts;
  if (line == end)
    return;
  Value first = k.at(tile.fetched, k.minOf(k.mul(block, tile.fetchedLines * kLineBytes), tile.lastFetched));
  for (; line < end; ++line)
    k.prefetch(k.at(first, line * kLineBytes), kPrefetchLevel);
}

}  // namespace girih::cpu
