// SPDX-License-Identifier: Apache-2.0
// The one table of storage formats, its look-ups, and the dequantizer that follows from it.
#include "runtime/weights/formats.h"

#include "runtime/base/element_type.h"
#include "runtime/weights/split_blocks.h"

#include <bit>
#include <cstring>

namespace girih::weights {
namespace {

constexpr PackedLayout p16(CodeType codes, ScaleType scales, ScaleType mins, int32_t groupSize,
                           int32_t codeOffset = 0) {
  return {false, codes, scales, mins, groupSize, codeOffset};
}

constexpr PackedLayout floats(CodeType codes) { return p16(codes, ScaleType::None, ScaleType::None, 32); }

constexpr auto kNone = ScaleType::None;
constexpr auto kHalf = ScaleType::F16;
constexpr auto kProduct = ScaleType::F16S8;  // of a super-block's f16 and a group's integer
constexpr auto kU4 = CodeType::U4;
constexpr auto kU5 = CodeType::U5;
constexpr auto kU6 = CodeType::U6;
constexpr auto kU7 = CodeType::U7;
constexpr auto kS8 = CodeType::S8;

// Type numbers and block sizes: ggml.h and ggml-common.h. To add a format: a row here, a split function, an enum value.
constexpr FormatRow kTable[kNumStorageFormats] = {
    {StorageFormat::F32, "f32", 0, "F32", 1, 4, floats(CodeType::F32), "one f32", nullptr},
    {StorageFormat::F16, "f16", 1, "F16", 1, 2, floats(CodeType::F16), "one f16", nullptr},
    {StorageFormat::BF16, "bf16", 30, "BF16", 1, 2, floats(CodeType::BF16), "one bf16", nullptr},
    {StorageFormat::Q8_0, "q8_0", 8, "", 32, 34, p16(kS8, kHalf, kNone, 32), "f16 d; 32 x s8", splitQ8_0},
    {StorageFormat::Q4_0, "q4_0", 2, "", 32, 18, p16(kU4, kHalf, kNone, 32, 8), "f16 d; 32 x u4, offset 8",
     splitQ4_0},
    {StorageFormat::Q4_1, "q4_1", 3, "", 32, 20, p16(kU4, kHalf, kHalf, 32), "f16 d; f16 m; 32 x u4",
     splitQ4_1},
    {StorageFormat::Q5_0, "q5_0", 6, "", 32, 22, p16(kU5, kHalf, kNone, 32, 16),
     "f16 d; 32 x fifth bit; 32 x u4, offset 16", splitQ5_0},
    {StorageFormat::Q5_1, "q5_1", 7, "", 32, 24, p16(kU5, kHalf, kHalf, 32),
     "f16 d; f16 m; 32 x fifth bit; 32 x u4", splitQ5_1},
    {StorageFormat::Q2_K, "q2_K", 10, "", 256, 84, p16(kU7, kProduct, kProduct, 16),
     "16 x (u4 scale, u4 min); 256 x u2; f16 d; f16 dmin", splitQ2_K},
    {StorageFormat::Q3_K, "q3_K", 11, "", 256, 110, p16(kS8, kProduct, kNone, 16),
     "256 x third bit; 256 x u2, offset 4; 16 x u6 scale, offset 32; f16 d", splitQ3_K},
    {StorageFormat::Q4_K, "q4_K", 12, "", 256, 144, p16(kU4, kProduct, kProduct, 32),
     "f16 d; f16 dmin; 8 x (u6 scale, u6 min); 256 x u4", splitQ4_K},
    {StorageFormat::Q5_K, "q5_K", 13, "", 256, 176, p16(kU5, kProduct, kProduct, 32),
     "f16 d; f16 dmin; 8 x (u6 scale, u6 min); 256 x fifth bit; 256 x u4", splitQ5_K},
    {StorageFormat::Q6_K, "q6_K", 14, "", 256, 210, p16(kU6, kProduct, kNone, 16, 32),
     "256 x u4; 256 x top bit pair, offset 32; 16 x s8 scale; f16 d", splitQ6_K},
    {StorageFormat::IQ4_NL, "iq4_nl", 20, "", 32, 18, p16(CodeType::Iq4, kHalf, kNone, 32),
     "f16 d; 32 x u4 index", splitIQ4_NL},
    {StorageFormat::IQ4_XS, "iq4_xs", 23, "", 256, 136, p16(CodeType::Iq4, kProduct, kNone, 32),
     "f16 d; 8 x u6 scale, offset 32; 256 x u4 index", splitIQ4_XS},
    {StorageFormat::MXFP4, "mxfp4", 39, "", 32, 17, p16(CodeType::E2m1, ScaleType::E8M0, kNone, 32),
     "e8m0 exponent; 32 x e2m1", splitMXFP4},
};

constexpr bool isInEnumOrder() {
  for (int index = 0; index < kNumStorageFormats; ++index)
    if (static_cast<int>(kTable[index].format) != index)
      return false;
  return true;
}
static_assert(isInEnumOrder(), "formatRow indexes the table by the enum");

template <typename Predicate> const FormatRow *findRow(Predicate matches) {
  for (const FormatRow &row : kTable)
    if (matches(row))
      return &row;
  return nullptr;
}

void dequantizeBlock(const FormatRow &row, const uint8_t *block, float *values) {
  BlockParts parts;
  row.splitBlock(block, parts);
  const PackedLayout &layout = row.packed;
  for (int64_t first = 0; first < row.blockElements; first += layout.groupSize) {
    int64_t group = first / layout.groupSize;
    float scale = scaleValue(layout.scales, parts.scales[group]);
    for (int64_t k = first; k < first + layout.groupSize; ++k)
      values[k] = scale * static_cast<float>(layout.codeNumber(parts.codes[k]));
    if (layout.mins == ScaleType::None)
      continue;
    float min = scaleValue(layout.mins, parts.mins[group]);
    for (int64_t k = first; k < first + layout.groupSize; ++k)
      values[k] += min;
  }
}

template <typename Convert>
void convertHalves(const uint8_t *bytes, int64_t numElements, float *values, Convert convert) {
  for (int64_t index = 0; index < numElements; ++index) {
    uint16_t bits;
    std::memcpy(&bits, bytes + index * 2, sizeof(bits));
    values[index] = convert(bits);
  }
}

}  // namespace

std::span<const FormatRow> formatTable() { return kTable; }
const FormatRow &formatRow(StorageFormat format) { return kTable[static_cast<int>(format)]; }

const FormatRow *findFormatByName(std::string_view name) {
  return findRow([&](const FormatRow &row) { return row.name == name; });
}

const FormatRow *findFormatByGgmlType(uint32_t ggmlType) {
  return findRow([&](const FormatRow &row) { return row.ggmlType == ggmlType; });
}

const FormatRow *findFormatBySafetensorsName(std::string_view dtype) {
  return findRow([&](const FormatRow &row) { return !dtype.empty() && row.safetensors == dtype; });
}

std::string supportedFormatNames() {
  std::string names;
  for (const FormatRow &row : kTable)
    names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

Expected<int64_t> storageBytes(StorageFormat format, int64_t numElements) {
  const FormatRow &row = formatRow(format);
  if (numElements < 0 || numElements % row.blockElements != 0)
    return invalidArgument(std::to_string(numElements) + " elements are not a whole number of " +
                           std::string(row.name) + " blocks of " + std::to_string(row.blockElements));
  int64_t sizeBytes = 0;
  if (__builtin_mul_overflow(numElements / row.blockElements, row.blockBytes, &sizeBytes))
    return outOfRange(std::to_string(numElements) + " elements of " + std::string(row.name) + " exceed 2^63 bytes");
  return sizeBytes;
}

void dequantize(StorageFormat format, const uint8_t *bytes, int64_t numElements, float *values) {
  const FormatRow &row = formatRow(format);
  switch (format) {
  case StorageFormat::F32:
    if (numElements > 0)
      std::memcpy(values, bytes, static_cast<size_t>(numElements) * sizeof(float));
    return;
  case StorageFormat::F16: return convertHalves(bytes, numElements, values, halfToFloat);
  case StorageFormat::BF16: return convertHalves(bytes, numElements, values, bfloatToFloat);
  default:
    GIRIH_CHECK(numElements % row.blockElements == 0);
    for (int64_t first = 0; first < numElements; first += row.blockElements, bytes += row.blockBytes)
      dequantizeBlock(row, bytes, values + first);
  }
}

}  // namespace girih::weights
