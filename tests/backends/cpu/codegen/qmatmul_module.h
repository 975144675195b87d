// SPDX-License-Identifier: Apache-2.0
// A matmul with a packed weight of random codes as a scheduled step module, for tests and for the bench.
#pragma once

#include "tests/backends/cpu/codegen/step_harness.h"

#include "runtime/weights/formats.h"
#include "runtime/weights/packed_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <vector>

namespace girih::cpu::test {

using weights::CodeType;
using weights::PackedLayout;
using weights::ScaleType;

struct MatmulCase {
  const char *layout;
  int64_t rows, columns, depth;
  const char *strategy;
  int64_t rowTile, columnTile, kTile;
  int64_t unitColumns;  // columns of one forall unit
  int64_t numLayers = 1;  // the step does it with as many weights, one after the other
  bool isQuantized = false;  // x becomes 8-bit codes first
  bool bothDigits = false;   // of two digits for all elements
  bool roundsScales = false;  // of weights
};

inline MatmulCase quantized(MatmulCase c) {
  c.isQuantized = true;
  return c;
}

inline MatmulCase roundedScales(MatmulCase c) {
  c.roundsScales = true;
  return c;
}

inline void PrintTo(const MatmulCase &c, std::ostream *out) {
  *out << c.layout << " T=" << c.rows << " N=" << c.columns << " K=" << c.depth << " " << c.strategy << " MR="
       << c.rowTile << " NC=" << c.columnTile << " KC=" << c.kTile << " unit=" << c.unitColumns << (c.isQuantized ? " i8" : "") << (c.bothDigits ? " both digits" : "");
  *out << (c.roundsScales ? " rounded" : "");
}

inline uint16_t halfBits(float value) {
  _Float16 half = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

template <typename T> T readAt(const Bytes &bytes, int64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// `shared`: where the f16 is that groups share.
inline float readScale(const Bytes &bytes, int64_t own, int64_t shared, ScaleType type) {
  if (type == ScaleType::E8M0)
    return std::ldexp(1.0f, readAt<uint8_t>(bytes, own) - 128);
  if (type == ScaleType::F16S8)
    return static_cast<float>(readAt<_Float16>(bytes, shared)) * readAt<int8_t>(bytes, own);
  return static_cast<float>(readAt<_Float16>(bytes, own));
}

// A weight of random codes, its padding zero as the packer leaves it.
struct PackedWeight {
  PackedLayout layout;
  int64_t columns, depth;
  Bytes bytes;

  PackedWeight(const char *descriptor, int64_t columns, int64_t depth, unsigned seed)
      : layout(PackedLayout::parse(descriptor).value()), columns(columns), depth(depth) {
    bytes.assign(layout.tensorBytes(columns, depth).value(), 0);
    std::mt19937 random(seed);
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t k = 0; k < depth; ++k)
        fill(n, k, random);
  }

  int64_t blockAt(int64_t n, int64_t k) const {
    return n / 16 * layout.panelBytes(depth) + k / 32 * layout.blockBytes();
  }

  void fill(int64_t n, int64_t k, std::mt19937 &random) {
    std::normal_distribution<float> normal;
    int64_t block = blockAt(n, k), code = block + layout.codeOffsetBytes(n % 16, k % 32);
    float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint16_t half = layout.codes == CodeType::BF16 ? static_cast<uint16_t>(bits >> 16) : halfBits(value);
    if (layout.codes == CodeType::F32)
      std::memcpy(&bytes[code], &bits, 4);
    else if (layout.hasFloatCodes())
      std::memcpy(&bytes[code], &half, 2);
    else if (layout.hasNibbles())
      fillNibble(block, n % 16, k % 32, random());
    else
      bytes[code] = static_cast<uint8_t>(random() & (layout.codes == CodeType::U7 ? 127 : 255));
    if (layout.scales != ScaleType::None)
      fillScale(block + layout.scaleOffsetBytes(n % 16, k % 32), block + layout.scaleHalfOffsetBytes(n % 16), layout.scales, 0.01f * normal(random), random);
    if (layout.mins != ScaleType::None)
      fillScale(block + layout.minOffsetBytes(n % 16, k % 32), block + layout.minHalfOffsetBytes(n % 16), layout.mins, 0.1f * normal(random), random);
  }

  void fillNibble(int64_t block, int64_t column, int64_t k, uint64_t value) {
    bytes[block + layout.codeOffsetBytes(column, k)] |= static_cast<uint8_t>((value & 15) << layout.codeShift(k));
    uint64_t high = value >> 4 & ((1u << layout.highBits()) - 1);
    if (layout.highBits() > 0)
      bytes[block + layout.highOffsetBytes(column, k)] |= static_cast<uint8_t>(high << layout.highShift(k));
  }

  // Near `value` in size. Bytes have no more bits than leave every product with a code exact, as those of K-quants do.
  void fillScale(int64_t own, int64_t shared, ScaleType type, float value, std::mt19937 &random) {
    uint16_t half = halfBits(type == ScaleType::F16S8 ? value / 64 : value);
    if (type == ScaleType::F16)
      std::memcpy(&bytes[own], &half, 2);
    else if (type == ScaleType::E8M0)
      bytes[own] = static_cast<uint8_t>(118 + random() % 6);
    else {
      std::memcpy(&bytes[shared], &half, 2);
      bytes[own] = static_cast<uint8_t>(random() % 96 - 32);
    }
  }

  float at(int64_t n, int64_t k) const {
    int64_t block = blockAt(n, k), code = block + layout.codeOffsetBytes(n % 16, k % 32);
    if (layout.codes == CodeType::F32)
      return readAt<float>(bytes, code);
    if (layout.codes == CodeType::F16)
      return static_cast<float>(readAt<_Float16>(bytes, code));
    if (layout.codes == CodeType::BF16) {
      uint32_t bits = uint32_t{readAt<uint16_t>(bytes, code)} << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }
    float product = scaleAt(n, k) * static_cast<float>(numberAt(n, k));
    return layout.mins == ScaleType::None ? product : product + minAt(n, k);
  }

  // What scales multiply, of codes that are integers.
  int32_t numberAt(int64_t n, int64_t k) const {
    int64_t block = blockAt(n, k);
    uint32_t code = bytes[block + layout.codeOffsetBytes(n % 16, k % 32)];
    if (layout.hasNibbles())
      code = code >> layout.codeShift(k % 32) & 15;
    if (layout.highBits() > 0) {
      uint32_t high = bytes[block + layout.highOffsetBytes(n % 16, k % 32)] >> layout.highShift(k % 32);
      code |= (high & ((1u << layout.highBits()) - 1)) << 4;
    }
    return layout.codeNumber(code);
  }

  float scaleAt(int64_t n, int64_t k) const {
    int64_t block = blockAt(n, k);
    return readScale(bytes, block + layout.scaleOffsetBytes(n % 16, k % 32), block + layout.scaleHalfOffsetBytes(n % 16), layout.scales);
  }

  float minAt(int64_t n, int64_t k) const {
    if (layout.mins == ScaleType::None)
      return 0;
    int64_t block = blockAt(n, k);
    return readScale(bytes, block + layout.minOffsetBytes(n % 16, k % 32), block + layout.minHalfOffsetBytes(n % 16), layout.mins);
  }
};

// What weights are stored in, each once: none may be left without a kernel.
inline const std::vector<std::string> &layoutsOfFormats() {
  static const std::vector<std::string> layouts = [] {
    std::vector<std::string> found;
    for (const weights::FormatRow &row : weights::formatTable())
      if (std::string layout = row.packed.print(); std::find(found.begin(), found.end(), layout) == found.end())
        found.push_back(layout);
    return found;
  }();
  return layouts;
}

inline std::string replaced(std::string text, std::initializer_list<std::pair<std::string, std::string>> words) {
  for (const auto &[from, to] : words)
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  return text;
}

inline int64_t bytesOfX(const MatmulCase &c) { return (c.rows * c.depth * 4 + 63) / 64 * 64; }
inline int64_t bytesOfY(const MatmulCase &c) { return (c.rows * c.columns * 4 + 63) / 64 * 64; }

inline int64_t rowBytesOfCodes(const MatmulCase &c) { return (c.depth + 31) / 32 * 128; }
inline int64_t bytesOfCodes(const MatmulCase &c) { return c.isQuantized ? c.rows * rowBytesOfCodes(c) : 0; }
// Where y is: x, codes, y. The rest is the scratch of up to 4 threads.
inline int64_t placeOfY(const MatmulCase &c) { return bytesOfX(c) + bytesOfCodes(c); }
inline bool takesCodes(const MatmulCase &c) { return std::string(c.strategy) == "codes"; }
inline bool takesBytes(const MatmulCase &c) { return std::string(c.strategy) == "bytes"; }
inline bool takesBf16(const MatmulCase &c) { return takesCodes(c) || std::string(c.strategy) == "matrix"; }
// A panel of weights in f32. On tiles: two buffers of panels that begin at pages, half a page apart, and a piece of 64 rows of
// the result; by codes: the rows of x, the sums of their groups, and tiles of weights and sums; by bytes: items, two numbers
// of each row for each of them, and such tiles; of quantised panels also starts and sums of 264 rows, these x 256 columns.
inline int64_t bytesOfScratch(const MatmulCase &c) {
  if (takesCodes(c))
    return ((c.depth + 31) / 32 * c.rowTile * (64 + 8) + 63) / 64 * 64 + 32 * 1024;
  if (takesBytes(c))
    return ((c.depth + 31) / 32 * 2 * (16 + c.rowTile * 8) + 63) / 64 * 64 + 8 * 1024;
  if (!takesBf16(c)) {
    int64_t panel = (c.kTile * c.columnTile * 4 + 63) / 64 * 64 + 64;
    bool isPanel = c.isQuantized && std::string_view(c.strategy) == "panel";
    // A list of outliers, one tile's sums, ends of the list's parts.
    int64_t outliers = c.roundsScales ? 264 * (c.kTile / 32) * 8 * 16 + 16 * 1024 : 0;
    return isPanel ? outliers + panel + 264 * ((c.kTile / 32 * 2 * 4 + 63) / 64 * 64 + 64 + 256 * 4) : panel;
  }
  int64_t panelBytes = (c.kTile * 16 * 2 + 4095) / 4096 * 4096;
  return 64 + 2 * (c.columnTile / 16 * panelBytes + 2048) + (c.depth > c.kTile ? 512 : 32) * 32 * 4;
}
inline int64_t bytesOfArena(const MatmulCase &c) { return placeOfY(c) + bytesOfY(c) + 4 * bytesOfScratch(c); }

inline std::string moduleOf(const MatmulCase &c) {
  std::string text = R"(
module attributes {girih.arena_bytes = $ARENA : i64, girih.scratch_bytes = $SCRATCH : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %yAt = arith.constant $YAT : index
    %units = arith.constant $UNITS : index
    %t = girih.step_extent "num_tokens"
    %x = girih.buffer_at "arena"[%c0] rows %t : memref<?x$Kx$ELEMENT>
    %y = girih.buffer_at "arena"[%yAt] rows %t : memref<?x$Nxf32>
    $QUANTIZE
    %c1 = arith.constant 1 : index
    %layers = arith.constant $LAYERS : index
    scf.for %layer = %c0 to %layers step %c1 {
    %at = affine.apply affine_map<(d0) -> (d0 * $BYTES)>(%layer)
    %w = girih.packed_at %at : !girih.packed<$N x $K, "$LAYOUT">
    scf.forall (%i) in (%units) {
      %column = affine.apply affine_map<(d0) -> (d0 * $UNIT)>(%i)
      %out = memref.subview %y[0, %column] [%t, $UNIT] [1, 1]
          : memref<?x$Nxf32> to memref<?x$UNITxf32, strided<[$N, 1], offset: ?>>
      girih.qmatmul ins($X, %w[%column] : $TYPE, !girih.packed<$N x $K, "$LAYOUT">)
          outs(%out : memref<?x$UNITxf32, strided<[$N, 1], offset: ?>>)
          {strategy = "$STRATEGY", row_tile = $MR : i64, column_tile = $NC : i64, k_tile = $KC : i64$ROUNDS}
    } {girih.dispatch = "project", girih.distribution = "block"}
    }
    return
  }
})";
  auto number = [](int64_t value) { return std::to_string(value); };
  const char *quantize = R"(%qAt = arith.constant $QAT : index
    %q = girih.buffer_at "arena"[%qAt] rows %t : memref<?x$QBYTESxi8>
    scf.forall (%i) in (%t) {
      %row = memref.subview %x[%i, 0] [1, $K] [1, 1] : memref<?x$Kxf32> to memref<1x$Kxf32, strided<[$K, 1], offset: ?>>
      %codes = memref.subview %q[%i, 0] [1, $QBYTES] [1, 1]
          : memref<?x$QBYTESxi8> to memref<1x$QBYTESxi8, strided<[$QBYTES, 1], offset: ?>>
      girih.quantize_rows ins(%row : memref<1x$Kxf32, strided<[$K, 1], offset: ?>>)
          outs(%codes : memref<1x$QBYTESxi8, strided<[$QBYTES, 1], offset: ?>>) $DIGITS
    } {girih.dispatch = "quantize"})";
  return replaced(text, {{"$QUANTIZE", c.isQuantized ? quantize : ""}, {"$X", c.isQuantized ? "%q" : "%x"},
                         {"$TYPE", c.isQuantized ? "memref<?x$QBYTESxi8>" : "memref<?x$Kx$ELEMENT>"},
                         {"$DIGITS", c.bothDigits ? "{both_digits}" : ""},
                         {"$ROUNDS", c.roundsScales ? ", girih.rounded_scales" : ""},
                         {"$ELEMENT", takesBf16(c) ? "bf16" : "f32"},
                         {"$QAT", number(bytesOfX(c))}, {"$QBYTES", number(rowBytesOfCodes(c))},
                         {"$ARENA", number(placeOfY(c) + bytesOfY(c))}, {"$SCRATCH", number(bytesOfScratch(c))},
                         {"$YAT", number(placeOfY(c))}, {"$UNITS", number(c.columns / c.unitColumns)},
                         {"$UNIT", number(c.unitColumns)}, {"$LAYERS", number(c.numLayers)},
                         {"$BYTES", number(PackedLayout::parse(c.layout)->tensorBytes(c.columns, c.depth).value())},
                         {"$LAYOUT", c.layout}, {"$STRATEGY", c.strategy},
                         {"$MR", number(c.rowTile)}, {"$NC", number(c.columnTile)}, {"$KC", number(c.kTile)},
                         {"$K", number(c.depth)}, {"$N", number(c.columns)}});
}

}  // namespace girih::cpu::test
