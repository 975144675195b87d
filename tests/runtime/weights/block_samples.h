// SPDX-License-Identifier: Apache-2.0
// Sample blocks of every storage format, random and extreme: the same bytes that block_formats_judge.py makes.
#pragma once

#include "runtime/weights/formats.h"

#include <cstdint>
#include <span>
#include <vector>

namespace girih::weights {

// splitmix64: word k is a function of seed + k alone, so that C++ and numpy agree without a shared stream.
inline uint64_t randomWord(uint64_t seed, uint64_t k) {
  uint64_t state = seed + (k + 1) * 0x9E3779B97F4A7C15;
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EB;
  return state ^ (state >> 31);
}

// Where the f16 fields of a block lie.
inline std::vector<int64_t> halfOffsets(StorageFormat format) {
  switch (format) {
  case StorageFormat::Q4_1:
  case StorageFormat::Q5_1:
  case StorageFormat::Q4_K:
  case StorageFormat::Q5_K: return {0, 2};
  case StorageFormat::Q8_0:
  case StorageFormat::Q4_0:
  case StorageFormat::Q5_0:
  case StorageFormat::IQ4_NL:
  case StorageFormat::IQ4_XS: return {0};
  case StorageFormat::Q2_K: return {80, 82};
  case StorageFormat::Q3_K: return {108};
  case StorageFormat::Q6_K: return {208};
  default: return {};
  }
}

// Elements of one sample: a block, or 32 numbers of a plain float type.
inline int64_t sampleElements(const FormatRow &format) { return format.blockElements == 1 ? 32 : format.blockElements; }

// Every fourth sample: all random; sane scales; extreme scales; extreme both.
inline std::vector<uint8_t> sampleBlocks(const FormatRow &format, uint64_t seed, int64_t numSamples) {
  constexpr uint16_t kExtremeHalves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF,
                                         0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x3C00, 0xC000};
  constexpr uint8_t kFillBytes[] = {0x00, 0xFF, 0x80, 0x7F, 0x08, 0xF0, 0x3F, 0xC0};
  int64_t sampleBytes = sampleElements(format) / format.blockElements * format.blockBytes;
  std::vector<uint8_t> bytes(static_cast<size_t>(numSamples * sampleBytes));
  for (size_t index = 0; index < bytes.size(); ++index)
    bytes[index] = static_cast<uint8_t>(randomWord(seed, index / 8) >> (index % 8 * 8));
  std::vector<int64_t> offsets = halfOffsets(format.format);
  for (int64_t sample = 0; sample < numSamples; ++sample) {
    uint8_t *block = bytes.data() + sample * sampleBytes;
    auto choiceOf = [&](uint64_t field) {
      return randomWord(seed ^ 0xFFFFFFFF, static_cast<uint64_t>(sample) * 4 + field);
    };
    if (sample % 4 == 3)
      std::fill(block, block + sampleBytes, kFillBytes[choiceOf(3) % 8]);
    for (size_t field = 0; field < offsets.size() && sample % 4 != 0; ++field) {
      uint64_t choice = choiceOf(field);
      uint64_t value = (choice & 0x83FF) | ((choice >> 20) % 16 + 5) << 10;
      if (sample % 4 != 1)
        value = kExtremeHalves[choice % 14];
      block[offsets[field]] = static_cast<uint8_t>(value);
      block[offsets[field] + 1] = static_cast<uint8_t>(value >> 8);
    }
  }
  return bytes;
}

}  // namespace girih::weights
