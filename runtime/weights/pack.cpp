// SPDX-License-Identifier: Apache-2.0
// PackPlan: writes a weight in a packed layout, panel by panel, from one checkpoint tensor or rows of several.
//
// A panel is written column by column, in chunks of K that stay in the first-level cache: every row is then read as one
// sequential stream, and columns of different formats may stand in one panel as long as they share the layout.
#include "runtime/weights/pack.h"

#include "runtime/base/element_type.h"
#include "runtime/weights/weight_store.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace girih::weights {
namespace {

// Blocks of K that a chunk holds: a multiple of a super-block's 8, and at most 16 KiB in the first-level cache.
constexpr int64_t kMaxChunkBlocks = 32;
int64_t chunkBlocks(const PackedLayout &layout) {
  return layout.blockBytes() > 1024 ? 8 : layout.blockBytes() > 512 ? 16 : kMaxChunkBlocks;
}

// Where the fields lie in a block whose codes are in the packed order already, so that no bit has to move.
struct CopyableBlock {
  int64_t scaleOffsetBytes, minOffsetBytes, codeOffsetBytes;
};

std::optional<CopyableBlock> copyableBlock(StorageFormat format) {
  switch (format) {
  case StorageFormat::Q4_0: return CopyableBlock{0, -1, 2};
  case StorageFormat::Q4_1: return CopyableBlock{0, 2, 4};
  case StorageFormat::Q8_0: return CopyableBlock{0, -1, 2};
  default: return std::nullopt;
  }
}

// The column's bytes of each line: `codes` holds one word of 4 bytes a line, in the order of the lines.
template <int numLines> void scatterWords(const uint8_t *codes, uint8_t *lines, int64_t column) {
  for (int line = 0; line < numLines; ++line)
    std::memcpy(lines + line * 64 + column * 4, codes + line * 4, 4);
}

// numLines is a constant so that the copies become plain moves: half the time of a run-time count (measured).
template <int numLines, bool hasMins>
void copyBlocks(const CopyableBlock &fields, const uint8_t *row, int64_t rowStride, int64_t numBlocks, uint8_t *out,
                int64_t blockBytes, int64_t column) {
  constexpr int64_t kCodeBytes = numLines * 64, kScaleBytes = kPanelColumns * 2;
  for (int64_t block = 0; block < numBlocks; ++block, row += rowStride, out += blockBytes) {
    scatterWords<numLines>(row + fields.codeOffsetBytes, out, column);
    std::memcpy(out + kCodeBytes + column * 2, row + fields.scaleOffsetBytes, 2);
    if constexpr (hasMins)
      std::memcpy(out + kCodeBytes + kScaleBytes + column * 2, row + fields.minOffsetBytes, 2);
  }
}

// Little-endian: a group's own part is the low bytes, what its column shares the high ones.
void storeScale(ScaleType type, uint32_t bits, uint8_t *out, uint8_t *shared) {
  std::memcpy(out, &bits, static_cast<size_t>(scaleTypeBytes(type)));
  if (uint32_t half = bits >> 16; sharesHalf(type))
    std::memcpy(shared, &half, 2);
}

// What codes have above their nibbles, by words of the column's 4 bytes of a line.
void writeHighBits(const PackedLayout &layout, const uint8_t *codes, uint8_t *out, int64_t column) {
  if (layout.highBits() == 0)
    return;
  uint32_t words[2] = {0, 0};
  int64_t depthOfWord = 32 / layout.highBits();
  for (int64_t k = 0; k < kBlockDepth; k += 4) {
    uint32_t quad;
    std::memcpy(&quad, codes + k, 4);
    words[k / depthOfWord] |= (quad >> 4 & 0x0F0F0F0F) << layout.highShift(k);
  }
  for (int64_t k = 0; k < kBlockDepth; k += depthOfWord)
    std::memcpy(out + layout.highOffsetBytes(column, k), &words[k / depthOfWord], 4);
}

// One of the 32-k blocks that a storage block was split into; `first` is its first k within the storage block.
void writeParts(const PackedLayout &layout, const BlockParts &parts, int64_t first, uint8_t *out, int64_t column) {
  const uint8_t *codes = parts.codes + first;
  if (layout.hasNibbles()) {
    uint8_t pairs[16];
    for (int k = 0; k < 16; ++k)
      pairs[k] = static_cast<uint8_t>((codes[k] & 15) | codes[16 + k] << 4);
    scatterWords<4>(pairs, out, column);
    writeHighBits(layout, codes, out, column);
  } else {
    scatterWords<8>(codes, out, column);
  }
  for (int64_t k = 0; k < kBlockDepth; k += layout.groupSize) {
    int64_t group = (first + k) / layout.groupSize;
    storeScale(layout.scales, parts.scales[group], out + layout.scaleOffsetBytes(column, k), out + layout.scaleHalfOffsetBytes(column));
    storeScale(layout.mins, parts.mins[group], out + layout.minOffsetBytes(column, k), out + layout.minHalfOffsetBytes(column));
  }
}

void packSplitBlocks(const PackedLayout &layout, const FormatRow &format, const uint8_t *row, int64_t numElements,
                     uint8_t *out, int64_t column) {
  BlockParts parts;
  for (int64_t first = 0; first < numElements; first += format.blockElements, row += format.blockBytes) {
    format.splitBlock(row, parts);
    for (int64_t k = 0; k < format.blockElements; k += kBlockDepth, out += layout.blockBytes())
      writeParts(layout, parts, k, out, column);
  }
}

// Float codes: `values` are numElements numbers of elementBytes each.
template <typename Element>
void scatterElements(const uint8_t *values, int64_t numElements, uint8_t *out, int64_t column) {
  for (int64_t k = 0; k < numElements; ++k)
    std::memcpy(out + (k * kPanelColumns + column) * sizeof(Element), values + k * sizeof(Element), sizeof(Element));
}

// Two consecutive k beside each other; behind an odd number of them a zero.
void scatterPairs(const uint8_t *values, int64_t numElements, uint8_t *out, int64_t column) {
  for (int64_t k = 0; k < numElements; k += 2)
    std::memcpy(out + (k / 2 * kPanelColumns + column) * 4, values + k * 2,
                static_cast<size_t>(std::min<int64_t>(2, numElements - k)) * 2);
}

void packFloatColumn(const PackedLayout &layout, const FormatRow &format, const uint8_t *row, int64_t numElements,
                     uint8_t *out, int64_t column) {
  if (layout.codes == CodeType::BF16)
    return scatterPairs(row, numElements, out, column);
  if (layout.codes == CodeType::F16)
    return scatterElements<uint16_t>(row, numElements, out, column);
  float values[kMaxChunkBlocks * kBlockDepth];
  dequantize(format.format, row, numElements, values);
  scatterElements<float>(reinterpret_cast<const uint8_t *>(values), numElements, out, column);
}

// One chunk of one column; `row` starts at the chunk's first element.
void packColumnChunk(const PackedLayout &layout, const FormatRow &format, const uint8_t *row, int64_t numElements,
                     uint8_t *out, int64_t column) {
  if (layout.hasFloatCodes())
    return packFloatColumn(layout, format, row, numElements, out, column);
  std::optional<CopyableBlock> fields = copyableBlock(format.format);
  if (!fields)
    return packSplitBlocks(layout, format, row, numElements, out, column);
  int64_t numBlocks = numElements / kBlockDepth, blockBytes = layout.blockBytes();
  if (!layout.hasNibbles())
    copyBlocks<8, false>(*fields, row, format.blockBytes, numBlocks, out, blockBytes, column);
  else if (layout.mins != ScaleType::None)
    copyBlocks<4, true>(*fields, row, format.blockBytes, numBlocks, out, blockBytes, column);
  else
    copyBlocks<4, false>(*fields, row, format.blockBytes, numBlocks, out, blockBytes, column);
}

std::string inputName(size_t index) { return "input " + std::to_string(index); }

Status checkInput(const PackedLayout &layout, const RowMatrix &input, int64_t depth) {
  const FormatRow &format = formatRow(input.format);
  if (!holdsWithoutLoss(layout, input.format))
    return failedPrecondition("layout `" + layout.print() + "` does not hold " + std::string(format.name) +
                              " without loss; its own is `" + format.packed.print() + "`, and `dense:f32` holds any");
  if (input.depth != depth)
    return invalidArgument("depth is " + std::to_string(input.depth) + ", of input 0 it is " + std::to_string(depth) +
                           "; rows of one weight have one length");
  if (input.numRows < 0 || depth < 0 || depth % format.blockElements != 0)
    return invalidArgument("shape " + std::to_string(input.numRows) + " x " + std::to_string(depth) +
                           " is not whole blocks of " + std::to_string(format.blockElements) + " " +
                           std::string(format.name) + " elements a row");
  GIRIH_ASSIGN(int64_t bytesOfRow, storageBytes(input.format, depth));
  int64_t inputBytes;
  if (__builtin_mul_overflow(bytesOfRow, input.numRows, &inputBytes))
    return outOfRange("shape " + std::to_string(input.numRows) + " x " + std::to_string(depth) + " exceeds 2^63 bytes");
  return {};
}

Status checkRun(const RowRun &run, std::span<const RowMatrix> inputs) {
  if (run.input < 0 || static_cast<size_t>(run.input) >= inputs.size())
    return invalidArgument("a run names input " + std::to_string(run.input) + " of " + std::to_string(inputs.size()));
  int64_t numRows = inputs[static_cast<size_t>(run.input)].numRows;
  if (run.firstRow < 0 || run.numRows < 0 || run.firstRow > numRows || run.numRows > numRows - run.firstRow)
    return invalidArgument("a run names " + std::to_string(run.numRows) + " rows from row " +
                           std::to_string(run.firstRow) + " of " + inputName(static_cast<size_t>(run.input)) +
                           ", which has " + std::to_string(numRows));
  return {};
}

}  // namespace

RowMatrix RowMatrix::of(const StoredTensor &tensor) {
  RowMatrix matrix{tensor.format, 1, 1, tensor.bytes.data()};
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis)
    (axis + 1 == tensor.shape.size() ? matrix.depth : matrix.numRows) *= tensor.shape[axis];
  return matrix;
}

std::vector<RowRun> concatenateRows(std::span<const RowMatrix> inputs) {
  std::vector<RowRun> runs;
  for (const RowMatrix &input : inputs)
    runs.push_back({static_cast<int32_t>(runs.size()), 0, input.numRows});
  return runs;
}

std::vector<RowRun> interleaveRows(std::span<const RowMatrix> inputs, int64_t runRows) {
  std::vector<RowRun> runs;
  GIRIH_CHECK(!inputs.empty() && runRows > 0 && inputs[0].numRows % runRows == 0);
  for (int64_t firstRow = 0; firstRow < inputs[0].numRows; firstRow += runRows)
    for (size_t input = 0; input < inputs.size(); ++input) {
      GIRIH_CHECK(inputs[input].numRows == inputs[0].numRows);
      runs.push_back({static_cast<int32_t>(input), firstRow, runRows});
    }
  return runs;
}

bool holdsWithoutLoss(const PackedLayout &layout, StorageFormat format) {
  return layout.isDense || layout == formatRow(format).packed || layout == formatRow(StorageFormat::F32).packed;
}

Expected<PackPlan> PackPlan::create(const PackedLayout &layout, const RowMatrix &input) {
  return create(layout, {input}, {{0, 0, input.numRows}});
}

Expected<PackPlan> PackPlan::create(const PackedLayout &layout, std::vector<RowMatrix> inputs,
                                    std::vector<RowRun> runs) {
  if (inputs.empty())
    return invalidArgument("a weight is packed from at least one input, there is none");
  PackPlan plan;
  plan.packed = layout;
  plan.depthOfRows = inputs[0].depth;
  for (size_t index = 0; index < inputs.size(); ++index)
    GIRIH_TRY(checkInput(layout, inputs[index], plan.depthOfRows).withContext(inputName(index)));
  for (const RowRun &run : runs) {
    GIRIH_TRY(checkRun(run, inputs));
    plan.runStarts.push_back(plan.columns);
    if (__builtin_add_overflow(plan.columns, run.numRows, &plan.columns))
      return outOfRange("the runs have more than 2^63 rows");
  }
  plan.runStarts.push_back(plan.columns);
  GIRIH_ASSIGN(plan.bytesOfTensor, layout.tensorBytes(plan.columns, plan.depthOfRows));
  plan.inputs = std::move(inputs);
  plan.runs = std::move(runs);
  return plan;
}

int64_t PackPlan::bytesOfRow(const RowMatrix &input) const {
  const FormatRow &format = formatRow(input.format);
  return depthOfRows / format.blockElements * format.blockBytes;
}

std::vector<std::span<const uint8_t>> PackPlan::sourcesOf(int64_t firstPanel, int64_t lastPanel) const {
  int64_t panelColumns = packed.isDense ? 1 : kPanelColumns;
  int64_t first = firstPanel * panelColumns, last = std::min(lastPanel * panelColumns, columns);
  std::vector<std::pair<int64_t, int64_t>> rows(inputs.size(), {INT64_MAX, 0});  // of each input, [first, last)
  auto run = std::upper_bound(runStarts.begin(), runStarts.end(), first) - runStarts.begin() - 1;
  for (auto index = static_cast<size_t>(run); index < runs.size() && runStarts[index] < last; ++index) {
    auto &[firstRow, lastRow] = rows[static_cast<size_t>(runs[index].input)];
    int64_t base = runs[index].firstRow - runStarts[index];
    firstRow = std::min(firstRow, base + std::max(first, runStarts[index]));
    lastRow = std::max(lastRow, base + std::min(last, runStarts[index + 1]));
  }
  std::vector<std::span<const uint8_t>> sources;
  for (size_t index = 0; index < inputs.size(); ++index)
    if (auto [firstRow, lastRow] = rows[index]; firstRow < lastRow)
      sources.emplace_back(inputs[index].bytes + firstRow * bytesOfRow(inputs[index]),
                           static_cast<size_t>((lastRow - firstRow) * bytesOfRow(inputs[index])));
  return sources;
}

PackPlan::Row PackPlan::rowOf(int64_t column) const {
  if (column >= columns)
    return {};
  // The last run that starts at or before the column is not empty, since the column lies within one.
  auto after = std::upper_bound(runStarts.begin(), runStarts.end(), column);
  size_t index = static_cast<size_t>(after - runStarts.begin()) - 1;
  const RowMatrix &input = inputs[static_cast<size_t>(runs[index].input)];
  return {&formatRow(input.format), input.bytes + (runs[index].firstRow + column - runStarts[index]) * bytesOfRow(input)};
}

void PackPlan::packPanel(int64_t panel, uint8_t *out) const {
  if (packed.isDense) {
    Row row = rowOf(panel);
    dequantize(row.format->format, row.bytes, depthOfRows, reinterpret_cast<float *>(out));
    return;
  }
  Row rows[kPanelColumns];
  for (int64_t column = 0; column < kPanelColumns; ++column)
    rows[column] = rowOf(panel * kPanelColumns + column);
  if (!rows[kPanelColumns - 1].format || depthOfRows % kBlockDepth != 0)
    std::memset(out, 0, static_cast<size_t>(panelBytes()));
  int64_t chunkDepth = chunkBlocks(packed) * kBlockDepth;
  for (int64_t first = 0; first < depthOfRows; first += chunkDepth) {
    int64_t numElements = std::min(chunkDepth, depthOfRows - first);
    uint8_t *chunk = out + first / kBlockDepth * packed.blockBytes();
    for (int64_t column = 0; column < kPanelColumns && rows[column].format; ++column) {
      const FormatRow &format = *rows[column].format;
      const uint8_t *bytes = rows[column].bytes + first / format.blockElements * format.blockBytes;
      packColumnChunk(packed, format, bytes, numElements, chunk, column);
    }
  }
}

void PackPlan::packPanels(int64_t firstPanel, int64_t lastPanel, uint8_t *out) const {
  GIRIH_CHECK(0 <= firstPanel && firstPanel <= lastPanel && lastPanel <= numPanels());
  if (panelBytes() == 0)
    return;  // depth 0: a file may then claim 2^62 rows
  for (int64_t panel = firstPanel; panel < lastPanel; ++panel, out += panelBytes())
    packPanel(panel, out);
}

float unpackValue(const PackedLayout &layout, const uint8_t *packed, int64_t depth, int64_t column, int64_t k) {
  auto load = [&](int64_t offsetBytes, int64_t numBytes) {
    uint32_t bits = 0;
    std::memcpy(&bits, packed + offsetBytes, static_cast<size_t>(numBytes));
    return bits;
  };
  auto loadScale = [&](ScaleType type, int64_t offsetBytes, int64_t sharedBytes) {
    uint32_t bits = load(offsetBytes, scaleTypeBytes(type));
    return scaleValue(type, sharesHalf(type) ? productBits(static_cast<uint16_t>(load(sharedBytes, 2)), bits) : bits);
  };
  if (layout.isDense)
    return std::bit_cast<float>(load((column * depth + k) * 4, 4));
  int64_t block = column / kPanelColumns * layout.panelBytes(depth) + k / kBlockDepth * layout.blockBytes();
  column %= kPanelColumns;
  k %= kBlockDepth;
  uint32_t code = load(block + layout.codeOffsetBytes(column, k), codeTypeBytes(layout.codes));
  switch (layout.codes) {
  case CodeType::F32: return std::bit_cast<float>(code);
  case CodeType::F16: return halfToFloat(static_cast<uint16_t>(code));
  case CodeType::BF16: return bfloatToFloat(static_cast<uint16_t>(code));
  default: break;
  }
  if (layout.hasNibbles())
    code = code >> layout.codeShift(k) & 15;
  if (int numBits = layout.highBits())
    code |= (load(block + layout.highOffsetBytes(column, k), 1) >> layout.highShift(k) & ((1u << numBits) - 1)) << 4;
  float scale = loadScale(layout.scales, block + layout.scaleOffsetBytes(column, k), block + layout.scaleHalfOffsetBytes(column));
  float result = scale * static_cast<float>(layout.codeNumber(code));
  if (layout.mins != ScaleType::None)
    result += loadScale(layout.mins, block + layout.minOffsetBytes(column, k), block + layout.minHalfOffsetBytes(column));
  return result;
}

}  // namespace girih::weights
