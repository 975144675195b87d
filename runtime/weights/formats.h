// SPDX-License-Identifier: Apache-2.0
// The one table of storage formats: how checkpoints store weights, and what the rest of the house derives from that.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/weights/packed_layout.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace girih::weights {

// In the order of the table in formats.cpp.
enum class StorageFormat : uint8_t {
  F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4,
};
inline constexpr int kNumStorageFormats = 16;

// A block taken apart, whatever its bit layout was: value = scale * float(code - offset) + min.
struct BlockParts {
  alignas(64) uint8_t codes[256];  // in order of k, as the layout counts them; s8 codes as their two's complement byte
  uint32_t scales[16];             // one a group: bits as `scaleValue` takes them of the layout's type
  uint32_t mins[16];
};

// One row of the table. What a format means is said once, by `splitBlock`: the dequantizer, the packer and the
// tests' judges all go through it.
struct FormatRow {
  StorageFormat format;
  std::string_view name;           // "q4_1": how Girih and GGUF file names spell it
  uint32_t ggmlType;               // the number in a GGUF tensor record
  std::string_view safetensors;    // "F32"; empty when safetensors has no such type
  int64_t blockElements;           // 1 for the plain float types
  int64_t blockBytes;
  PackedLayout packed;             // the p16 layout that holds it without loss
  std::string_view bitLayout;      // for readers of the table: the fields of a block in order
  void (*splitBlock)(const uint8_t *block, BlockParts &parts);  // null for the plain float types
};

std::span<const FormatRow> formatTable();
const FormatRow &formatRow(StorageFormat format);
// Null when there is none.
const FormatRow *findFormatByName(std::string_view name);
const FormatRow *findFormatByGgmlType(uint32_t ggmlType);
const FormatRow *findFormatBySafetensorsName(std::string_view dtype);
// "f32, f16, bf16, q8_0, ...": for messages about what is supported.
std::string supportedFormatNames();

// Bytes of a run of elements. Fails: InvalidArgument when it is not a whole number of blocks, OutOfRange on overflow.
Expected<int64_t> storageBytes(StorageFormat format, int64_t numElements);

// Writes numElements f32 values, bit for bit those of the format's definition (a NaN may differ in its payload).
// Requires: numElements is a multiple of blockElements and `bytes` holds them. Thread-safe.
void dequantize(StorageFormat format, const uint8_t *bytes, int64_t numElements, float *values);

}  // namespace girih::weights
