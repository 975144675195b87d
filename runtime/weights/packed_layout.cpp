// SPDX-License-Identifier: Apache-2.0
// PackedLayout: the descriptor's grammar, and the arithmetic of sizes and positions.
#include "runtime/weights/packed_layout.h"

#include "runtime/base/element_type.h"

#include <array>
#include <bit>
#include <charconv>
#include <optional>
#include <vector>

namespace girih::weights {
namespace {

constexpr std::array<std::string_view, 10> kCodeNames = {"u4", "iq4", "e2m1", "u5",     "u6",
                                                        "u7", "s8",  "f16",  "bf16x2", "f32"};
constexpr std::array<std::string_view, 4> kScaleNames = {"none", "f16", "f16*s8", "e8m0"};
constexpr std::string_view kGrammar =
    "layouts are `dense:f32` or "
    "`p16:<u4|iq4|e2m1|u5|u6|u7|s8|f16|bf16x2|f32>,<none|f16|f16*s8|e8m0>,<none|f16|f16*s8>,<16|32>[,<offset>]`";

// llama.cpp's kvalues_iq4nl, and e2m1 doubled so that all are integers.
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kE2m1Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr int64_t kNibbleBytes = kPanelColumns * kBlockDepth / 2;  // of a block
constexpr int64_t kLineBytes = kPanelColumns * 4;

template <size_t numNames>
std::optional<int> indexIn(const std::array<std::string_view, numNames> &names, std::string_view name) {
  for (size_t index = 0; index < numNames; ++index)
    if (names[index] == name)
      return static_cast<int>(index);
  return std::nullopt;
}

std::optional<int32_t> parseDecimal(std::string_view digits) {
  int32_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size())
    return std::nullopt;
  return value;
}

std::vector<std::string_view> splitAtCommas(std::string_view text) {
  std::vector<std::string_view> fields;
  for (size_t comma; (comma = text.find(',')) != text.npos; text.remove_prefix(comma + 1))
    fields.push_back(text.substr(0, comma));
  fields.push_back(text);
  return fields;
}

int32_t largestOffset(CodeType codes) {
  switch (codes) {
  case CodeType::U4: return 15;
  case CodeType::U5: return 31;
  case CodeType::U6: return 63;
  case CodeType::U7: return 255;
  default: return 0;
  }
}

// What the grammar allows but no weight needs, and what a kernel generator should not have to think about.
bool isConsistent(const PackedLayout &layout) {
  if (layout.groupSize != 16 && layout.groupSize != 32)
    return false;
  if (layout.hasFloatCodes())
    return layout.scales == ScaleType::None && layout.mins == ScaleType::None && layout.codeOffset == 0;
  if (layout.mins == ScaleType::E8M0)
    return false;
  return layout.scales != ScaleType::None && layout.codeOffset >= 0 && layout.codeOffset <= largestOffset(layout.codes);
}

int64_t sharedBytes(ScaleType type) { return sharesHalf(type) ? kPanelColumns * 2 : 0; }

int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

int64_t codeTypeBytes(CodeType type) {
  constexpr int64_t kBytes[] = {1, 1, 1, 1, 1, 1, 1, 2, 2, 4};
  return kBytes[static_cast<int>(type)];
}

int64_t scaleTypeBytes(ScaleType type) {
  constexpr int64_t kBytes[] = {0, 2, 1, 1};
  return kBytes[static_cast<int>(type)];
}

float scaleValue(ScaleType type, uint32_t bits) {
  switch (type) {
  case ScaleType::F16S8: return halfToFloat(static_cast<uint16_t>(bits >> 16)) * static_cast<float>(static_cast<int8_t>(bits));
  // 2^-128 and 2^-127 are denormal.
  case ScaleType::E8M0: return std::bit_cast<float>(bits < 2 ? uint32_t{0x00200000} << bits : (bits - 1) << 23);
  default: return halfToFloat(static_cast<uint16_t>(bits));
  }
}

std::string_view codeTypeName(CodeType type) { return kCodeNames[static_cast<size_t>(type)]; }
std::string_view scaleTypeName(ScaleType type) { return kScaleNames[static_cast<size_t>(type)]; }

Expected<PackedLayout> PackedLayout::parse(std::string_view descriptor) {
  if (descriptor == "dense:f32")
    return dense();
  auto reject = [&] {
    return invalidArgument("layout `" + std::string(descriptor) + "` is not known; " + std::string(kGrammar));
  };
  if (!descriptor.starts_with("p16:"))
    return reject();
  std::vector<std::string_view> fields = splitAtCommas(descriptor.substr(4));
  if (fields.size() != 4 && fields.size() != 5)
    return reject();
  auto codes = indexIn(kCodeNames, fields[0]);
  auto scales = indexIn(kScaleNames, fields[1]), mins = indexIn(kScaleNames, fields[2]);
  auto groupSize = parseDecimal(fields[3]), codeOffset = parseDecimal(fields.size() == 5 ? fields[4] : "0");
  if (!codes || !scales || !mins || !groupSize || !codeOffset)
    return reject();
  PackedLayout layout;
  layout.codes = static_cast<CodeType>(*codes);
  layout.scales = static_cast<ScaleType>(*scales);
  layout.mins = static_cast<ScaleType>(*mins);
  layout.groupSize = *groupSize;
  layout.codeOffset = *codeOffset;
  // One spelling a layout (`,0` is not written), since the id is a hash of the text.
  if (!isConsistent(layout) || layout.print() != descriptor)
    return reject();
  return layout;
}

std::string PackedLayout::print() const {
  if (isDense)
    return "dense:f32";
  std::string text = "p16:";
  text.append(codeTypeName(codes)).append(",").append(scaleTypeName(scales)).append(",");
  text.append(scaleTypeName(mins)).append(",").append(std::to_string(groupSize));
  if (codeOffset != 0)
    text.append(",").append(std::to_string(codeOffset));
  return text;
}

std::span<const int8_t> PackedLayout::codeValues() const {
  if (codes == CodeType::Iq4)
    return kIq4Values;
  return codes == CodeType::E2m1 ? std::span<const int8_t>(kE2m1Values) : std::span<const int8_t>();
}

int32_t PackedLayout::codeNumber(uint32_t code) const {
  if (!codeValues().empty())
    return codeValues()[code];
  return (codes == CodeType::S8 ? static_cast<int8_t>(code) : static_cast<int32_t>(code)) - codeOffset;
}

uint64_t PackedLayout::layoutId() const {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a 64: offset basis, then the prime below
  for (unsigned char byte : print())
    hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

int64_t PackedLayout::codeBytes() const {
  int64_t numCodes = kPanelColumns * kBlockDepth;
  return hasNibbles() ? kNibbleBytes + numCodes / 8 * highBits() : numCodes * codeTypeBytes(codes);
}

int64_t PackedLayout::scaleBytes() const { return sharedBytes(scales) + numGroups() * kPanelColumns * scaleTypeBytes(scales); }
int64_t PackedLayout::minBytes() const { return sharedBytes(mins) + numGroups() * kPanelColumns * scaleTypeBytes(mins); }

int64_t PackedLayout::numPanels(int64_t numColumns) const {
  return isDense ? numColumns : roundUp(numColumns, kPanelColumns) / kPanelColumns;
}

int64_t PackedLayout::panelBytes(int64_t depth) const {
  return isDense ? depth * 4 : roundUp(depth, kBlockDepth) / kBlockDepth * blockBytes();
}

Expected<int64_t> PackedLayout::tensorBytes(int64_t numColumns, int64_t depth) const {
  // Far above any tensor, and small enough that no rounding below can overflow.
  constexpr int64_t kLargestExtent = int64_t(1) << 48;
  int64_t totalBytes = 0;
  if (numColumns < 0 || depth < 0 || numColumns > kLargestExtent || depth > kLargestExtent ||
      __builtin_mul_overflow(numPanels(numColumns), panelBytes(depth), &totalBytes))
    return outOfRange("a weight of " + std::to_string(numColumns) + " x " + std::to_string(depth) + " as `" + print() +
                      "` does not fit into 2^63 bytes");
  return totalBytes;
}

int64_t PackedLayout::codeOffsetBytes(int64_t column, int64_t k) const {
  if (codes == CodeType::BF16)
    return k / 2 * kLineBytes + column * 4 + k % 2 * 2;
  if (hasFloatCodes())
    return (k * kPanelColumns + column) * codeTypeBytes(codes);
  return (hasNibbles() ? k % 16 : k) / 4 * kLineBytes + column * 4 + k % 4;
}

int64_t PackedLayout::highOffsetBytes(int64_t column, int64_t k) const {
  return kNibbleBytes + k / 4 * highBits() / 8 * kLineBytes + column * 4 + k % 4;
}

int64_t PackedLayout::scaleOffsetBytes(int64_t column, int64_t k) const {
  return codeBytes() + sharedBytes(scales) + (k / groupSize * kPanelColumns + column) * scaleTypeBytes(scales);
}

int64_t PackedLayout::minOffsetBytes(int64_t column, int64_t k) const {
  return codeBytes() + scaleBytes() + sharedBytes(mins) + (k / groupSize * kPanelColumns + column) * scaleTypeBytes(mins);
}

}  // namespace girih::weights
