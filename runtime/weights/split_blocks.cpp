// SPDX-License-Identifier: Apache-2.0
// The bit layouts of the block formats: each function takes one block apart into codes, scales and mins.
//
// Products such as d * sc stay apart: they are exact in f32 (11 + 8 significant bits at most), and the formats' definition
// forms them first, too. Signed codes and group scales (Q3_K's, IQ4_XS's) have the format's offset subtracted already.
#include "runtime/weights/split_blocks.h"

#include <cstring>

namespace girih::weights {
namespace {

uint16_t loadU16(const uint8_t *bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// Least values are subtracted: of the f16 the sign is turned, which is exact.
uint16_t loadMinus(const uint8_t *bytes) { return loadU16(bytes) ^ 0x8000; }

// Byte j holds codes j (low nibble) and numBytes + j (high nibble).
void splitNibbles(const uint8_t *__restrict bytes, int numBytes, uint8_t *__restrict codes) {
  for (int index = 0; index < numBytes; ++index) {
    codes[index] = bytes[index] & 15;
    codes[numBytes + index] = bytes[index] >> 4;
  }
}

// Codes of Q5_0 and Q5_1: 16 bytes of nibbles, bit k of the 4 bytes `highBits` is bit 4 of code k. Eight codes at a
// time in one word: no loop over bits vectorizes, and pieces of codes stored apart would stall the loads that follow.
void splitFiveBits(const uint8_t *highBits, const uint8_t *nibbles, uint8_t *codes) {
  constexpr uint64_t kEachByte = 0x0101010101010101;
  for (int index = 0; index < 4; ++index) {
    uint64_t pairs;
    std::memcpy(&pairs, nibbles + index % 2 * 8, 8);
    uint64_t low = pairs >> (index / 2 * 4) & 15 * kEachByte;
    uint64_t spread = highBits[index] * kEachByte & 0x8040201008040201;   // bit i stays in byte i alone
    uint64_t high = (spread + 0x7F * kEachByte) >> 3 & 0x10 * kEachByte;  // nonzero bytes become bit 4
    uint64_t eightCodes = low | high;
    std::memcpy(codes + index * 8, &eightCodes, 8);
  }
}

// 64 bytes of bit pairs: pair p of byte 32*h + j is code 128*h + 32*p + j.
void splitPairs(const uint8_t *__restrict bytes, uint8_t *__restrict codes) {
  for (int half = 0; half < 2; ++half)
    for (int pair = 0; pair < 4; ++pair)
      for (int index = 0; index < 32; ++index)
        codes[half * 128 + pair * 32 + index] = (bytes[half * 32 + index] >> (pair * 2)) & 3;
}

// 32 bytes of single bits: bit b of byte j belongs to code 32*b + j.
void splitBits(const uint8_t *__restrict bytes, uint8_t *__restrict codes) {
  for (int bit = 0; bit < 8; ++bit)
    for (int index = 0; index < 32; ++index)
      codes[bit * 32 + index] = (bytes[index] >> bit) & 1;
}

// Eight 6-bit scales and mins in 12 bytes: bytes 0-3 hold scales 0-3 and the top bits of scales 4-7, bytes 4-7 the
// same of the mins, bytes 8-11 the low nibbles of scales and mins 4-7.
void splitScalesAndMins(const uint8_t *packed, uint16_t d, uint16_t minusMin, BlockParts &parts) {
  for (int group = 0; group < 8; ++group) {
    uint32_t scale, min;
    if (group < 4) {
      scale = packed[group] & 63;
      min = packed[group + 4] & 63;
    } else {
      scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4);
      min = (packed[group + 4] >> 4) | (packed[group] >> 6 << 4);
    }
    parts.scales[group] = productBits(d, scale);
    parts.mins[group] = productBits(minusMin, min);
  }
}

}  // namespace

// f16 d; 16 bytes of nibbles. Codes keep their offset of 8: the layout subtracts it.
void splitQ4_0(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  splitNibbles(block + 2, 16, parts.codes);
}

// f16 d, f16 m; 16 bytes of nibbles.
void splitQ4_1(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  parts.mins[0] = loadU16(block + 2);
  splitNibbles(block + 4, 16, parts.codes);
}

// f16 d; 32 fifth bits; 16 bytes of nibbles. Codes keep their offset of 16: the layout subtracts it.
void splitQ5_0(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  splitFiveBits(block + 2, block + 6, parts.codes);
}

// f16 d, f16 m; 32 fifth bits; 16 bytes of nibbles.
void splitQ5_1(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  parts.mins[0] = loadU16(block + 2);
  splitFiveBits(block + 4, block + 8, parts.codes);
}

// f16 d; 32 signed bytes.
void splitQ8_0(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  std::memcpy(parts.codes, block + 2, 32);
}

// 16 bytes: 4-bit scale and min of 16 groups; 64 bytes of 2-bit codes; f16 d, f16 dmin.
void splitQ2_K(const uint8_t *block, BlockParts &parts) {
  uint16_t d = loadU16(block + 80), minusMin = loadMinus(block + 82);
  for (int group = 0; group < 16; ++group) {
    parts.scales[group] = productBits(d, block[group] & 15);
    parts.mins[group] = productBits(minusMin, block[group] >> 4);
  }
  splitPairs(block + 16, parts.codes);
}

// 32 bytes: third bits, clear means minus 4; 64 bytes of 2-bit codes;
// 12 bytes: sixteen 6-bit scales with offset 32, nibbles in bytes 0-7, top bit pairs in bytes 8-11; f16 d.
void splitQ3_K(const uint8_t *block, BlockParts &parts) {
  const uint8_t *packedScales = block + 96;
  uint16_t d = loadU16(block + 108);
  for (int group = 0; group < 16; ++group) {
    int low = (packedScales[group % 8] >> (group / 8 * 4)) & 15;
    int high = (packedScales[8 + group % 4] >> (group / 4 * 2)) & 3;
    parts.scales[group] = productBits(d, static_cast<uint32_t>((low | high << 4) - 32));
  }
  uint8_t highBits[256];
  splitBits(block, highBits);
  splitPairs(block + 32, parts.codes);
  for (int k = 0; k < 256; ++k)
    parts.codes[k] = static_cast<uint8_t>(parts.codes[k] + 4 * highBits[k] - 4);
}

// f16 d, f16 dmin; 12 bytes of scales and mins; 128 bytes: byte 32*g + j holds codes 64*g + j and 64*g + 32 + j.
void splitQ4_K(const uint8_t *block, BlockParts &parts) {
  splitScalesAndMins(block + 4, loadU16(block), loadMinus(block + 2), parts);
  for (int quarter = 0; quarter < 4; ++quarter)
    splitNibbles(block + 16 + quarter * 32, 32, parts.codes + quarter * 64);
}

// As Q4_K, with 32 bytes of fifth bits between.
void splitQ5_K(const uint8_t *block, BlockParts &parts) {
  splitScalesAndMins(block + 4, loadU16(block), loadMinus(block + 2), parts);
  for (int quarter = 0; quarter < 4; ++quarter)
    splitNibbles(block + 48 + quarter * 32, 32, parts.codes + quarter * 64);
  uint8_t highBits[256];
  splitBits(block + 16, highBits);
  for (int k = 0; k < 256; ++k)
    parts.codes[k] |= static_cast<uint8_t>(highBits[k] << 4);
}

// 128 bytes of low nibbles: byte 64*h + j holds codes 128*h + j and 128*h + 64 + j; 64 bytes of top bit pairs;
// 16 signed 8-bit scales; f16 d. Codes keep their offset of 32: the layout subtracts it.
void splitQ6_K(const uint8_t *block, BlockParts &parts) {
  const uint8_t *groupScales = block + 192;
  uint16_t d = loadU16(block + 208);
  for (int group = 0; group < 16; ++group)
    parts.scales[group] = productBits(d, groupScales[group]);
  for (int half = 0; half < 2; ++half)
    splitNibbles(block + half * 64, 64, parts.codes + half * 128);
  uint8_t highPairs[256];
  splitPairs(block + 128, highPairs);
  for (int k = 0; k < 256; ++k)
    parts.codes[k] = static_cast<uint8_t>(parts.codes[k] | highPairs[k] << 4);
}

// f16 d; 16 bytes of nibbles, each an index into the table of values.
void splitIQ4_NL(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = loadU16(block);
  splitNibbles(block + 2, 16, parts.codes);
}

// f16 d; 16 bits: top bit pairs of eight scales; 4 bytes: their low nibbles; 128 bytes of nibbles, 16 a group.
// Scales have offset 32.
void splitIQ4_XS(const uint8_t *block, BlockParts &parts) {
  uint16_t d = loadU16(block);
  uint32_t highPairs = loadU16(block + 2);
  for (int group = 0; group < 8; ++group) {
    int low = (block[4 + group / 2] >> (group % 2 * 4)) & 15, high = (highPairs >> (group * 2)) & 3;
    parts.scales[group] = productBits(d, static_cast<uint32_t>((low | high << 4) - 32));
    splitNibbles(block + 8 + group * 16, 16, parts.codes + group * 32);
  }
}

// e8m0 exponent; 16 bytes of nibbles. The values are doubled, so the scale is 2^(e - 128).
void splitMXFP4(const uint8_t *block, BlockParts &parts) {
  parts.scales[0] = block[0];
  splitNibbles(block + 1, 16, parts.codes);
}

}  // namespace girih::weights
