// SPDX-License-Identifier: Apache-2.0
// PackPlan: writes a weight in a packed layout, panel by panel, from one checkpoint tensor or rows of several.
#pragma once

#include "runtime/weights/formats.h"
#include "runtime/weights/packed_layout.h"

#include <cstdint>
#include <span>
#include <vector>

namespace girih::weights {

struct StoredTensor;

// A stored tensor seen as rows: [numRows, depth]. The bytes are the caller's and must outlive the plan.
struct RowMatrix {
  StorageFormat format = StorageFormat::F32;
  int64_t numRows = 0;
  int64_t depth = 0;
  const uint8_t *bytes = nullptr;

  // The last axis is the depth; all others are rows. A vector [N] is one row of depth N.
  static RowMatrix of(const StoredTensor &tensor);
};

// Output columns come from consecutive rows of one input.
struct RowRun {
  int32_t input = 0;
  int64_t firstRow = 0;
  int64_t numRows = 0;
};

// All rows of all inputs, one input after the other (merged Q/K/V).
std::vector<RowRun> concatenateRows(std::span<const RowMatrix> inputs);
// `runRows` rows of the first input, then as many of the second, and so on (gate/up: 16, one panel each).
// Requires: both have equally many rows, a multiple of runRows.
std::vector<RowRun> interleaveRows(std::span<const RowMatrix> inputs, int64_t runRows);

// Whether every weight of the format stands in the layout bit for bit: the format's own packed layout, f32 codes or
// dense for any format (dequantized).
bool holdsWithoutLoss(const PackedLayout &layout, StorageFormat format);

// Immutable; packPanels may be called by several threads for different panels, so a weight is never twice in memory.
class PackPlan {
public:
  // Fails: InvalidArgument (rows beyond an input, depths that differ or are not whole blocks), FailedPrecondition
  // (the layout does not hold an input without loss, see holdsWithoutLoss), OutOfRange (sizes overflow).
  static Expected<PackPlan> create(const PackedLayout &layout, std::vector<RowMatrix> inputs, std::vector<RowRun> runs);
  // One tensor in its own order.
  static Expected<PackPlan> create(const PackedLayout &layout, const RowMatrix &input);

  const PackedLayout &layout() const { return packed; }
  int64_t numColumns() const { return columns; }  // N
  int64_t depth() const { return depthOfRows; }   // K
  int64_t totalBytes() const { return bytesOfTensor; }
  int64_t numPanels() const { return packed.numPanels(columns); }
  int64_t panelBytes() const { return packed.panelBytes(depthOfRows); }

  // What packing panels [firstPanel, lastPanel) reads: of each input, the span from the first to the last byte.
  // Requires: as packPanels.
  std::vector<std::span<const uint8_t>> sourcesOf(int64_t firstPanel, int64_t lastPanel) const;
  // Writes panels [firstPanel, lastPanel) to `out`, (lastPanel - firstPanel) * panelBytes() bytes.
  // Requires: 0 <= firstPanel <= lastPanel <= numPanels().
  void packPanels(int64_t firstPanel, int64_t lastPanel, uint8_t *out) const;
  // All of it on this thread. Requires: `out` holds totalBytes().
  void pack(uint8_t *out) const { packPanels(0, numPanels(), out); }

private:
  PackPlan() = default;
  struct Row {
    const FormatRow *format = nullptr;  // null: a column of padding
    const uint8_t *bytes = nullptr;
  };
  int64_t bytesOfRow(const RowMatrix &input) const;
  Row rowOf(int64_t column) const;
  void packPanel(int64_t panel, uint8_t *out) const;

  PackedLayout packed;
  std::vector<RowMatrix> inputs;
  std::vector<RowRun> runs;
  std::vector<int64_t> runStarts;  // first output column of each run, and the number of columns at the end
  int64_t columns = 0;
  int64_t depthOfRows = 0;
  int64_t bytesOfTensor = 0;
};

// The value of (column, k) in a packed weight of the given depth: the definition, for tests and the reference.
// Requires: column and k lie within the packed tensor (its padding included).
float unpackValue(const PackedLayout &layout, const uint8_t *packed, int64_t depth, int64_t column, int64_t k);

}  // namespace girih::weights
