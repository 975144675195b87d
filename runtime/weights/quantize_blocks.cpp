// SPDX-License-Identifier: Apache-2.0
// quantize: the rules of GGML's reference quantisers, which choose scales by a block's extremes.
#include "runtime/weights/quantize_blocks.h"

#include "runtime/base/element_type.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace girih::weights {
namespace {

constexpr int64_t kBlock = 32;

// How codes of a format follow from values; the fields of its blocks are said by the table of formats.
struct Rule {
  StorageFormat format;
  int bits;
  bool hasMin; // codes count from the block's least value, else from the middle of their range
};

constexpr Rule kRules[] = {
    {StorageFormat::Q4_0, 4, false}, {StorageFormat::Q4_1, 4, true},  {StorageFormat::Q5_0, 5, false},
    {StorageFormat::Q5_1, 5, true},  {StorageFormat::Q8_0, 8, false},
};

const Rule *findRule(StorageFormat format) {
  const auto *rule = std::find_if(std::begin(kRules), std::end(kRules),
                                  [&](const Rule &row) { return row.format == format; });
  return rule == std::end(kRules) ? nullptr : rule;
}

float inverseOf(float scale) { return scale == 0 ? 0 : 1 / scale; }

uint8_t *putHalf(float value, uint8_t *out) {
  uint16_t half = floatToHalf(value);
  std::memcpy(out, &half, sizeof(half));
  return out + sizeof(half);
}

void writeBytes(const float *values, uint8_t *out) {
  float largest = 0;
  for (int64_t k = 0; k < kBlock; ++k)
    largest = std::max(largest, std::fabs(values[k]));
  float scale = largest / 127, inverse = inverseOf(scale);
  out = putHalf(scale, out);
  for (int64_t k = 0; k < kBlock; ++k)
    out[k] = static_cast<uint8_t>(static_cast<int8_t>(std::round(values[k] * inverse)));
}

// Product and sum are rounded one after the other, in statements of their own: fused, ties would fall otherwise.
int codeOf(float value, float inverse, float offset, int most) {
  float scaled = value * inverse;
  float shifted = scaled + offset;
  return std::min(static_cast<int>(shifted), most);
}

void writeBits(const Rule &rule, const float *values, uint8_t *out) {
  const auto [least, greatest] = std::minmax_element(values, values + kBlock);
  // The value farthest from zero, the first of equals: it gets the least code, whose size no positive one has.
  const float *farthest =
      std::max_element(values, values + kBlock, [](float x, float y) { return std::fabs(x) < std::fabs(y); });
  int most = (1 << rule.bits) - 1, middle = 1 << (rule.bits - 1);
  float range = *greatest - *least, min = rule.hasMin ? *least : 0;
  float scale = rule.hasMin ? range / float(most) : *farthest / float(-middle), inverse = inverseOf(scale);
  float offset = rule.hasMin ? 0.5F : float(middle) + 0.5F;
  out = putHalf(scale, out);
  if (rule.hasMin)
    out = putHalf(min, out);
  uint8_t *fifth = rule.bits == 5 ? out : nullptr;
  out += fifth ? 4 : 0;
  for (int64_t k = 0; k < kBlock; ++k) {
    int code = codeOf(values[k] - min, inverse, offset, most);
    out[k % 16] = static_cast<uint8_t>(out[k % 16] | (code & 15) << (k < 16 ? 0 : 4));
    if (fifth)
      fifth[k / 8] = static_cast<uint8_t>(fifth[k / 8] | (code >> 4) << (k % 8));
  }
}

bool contains(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

} // namespace

std::string writableFormatNames() {
  std::string names;
  for (const Rule &rule : kRules)
    names += (names.empty()                   ? ""
              : &rule == std::end(kRules) - 1 ? " and "
                                              : ", ") +
             std::string(formatRow(rule.format).name);
  return names;
}

bool isWritable(StorageFormat format) { return findRule(format) != nullptr; }

void quantize(StorageFormat format, std::span<const float> values, uint8_t *blocks) {
  const Rule &rule = *findRule(format);
  int64_t blockBytes = formatRow(format).blockBytes;
  for (size_t first = 0; first < values.size(); first += kBlock, blocks += blockBytes) {
    std::memset(blocks, 0, static_cast<size_t>(blockBytes));
    if (rule.bits == 8)
      writeBytes(values.data() + first, blocks);
    else
      writeBits(rule, values.data() + first, blocks);
  }
}

StorageFormat formatWanted(std::string_view tensorName, std::span<const int64_t> shape, StorageFormat stored,
                           StorageFormat wanted) {
  bool isFloat =
      stored == StorageFormat::F32 || stored == StorageFormat::F16 || stored == StorageFormat::BF16;
  bool isMatrix = shape.size() == 2 && shape[1] % kBlock == 0;
  if (!isFloat || !isMatrix || !tensorName.ends_with(".weight") ||
      contains(tensorName, {"position", "wpe", "gate_inp", "mlp.gate.", "router"}))
    return stored;
  bool isOfVocabulary = contains(tensorName, {"embed_tokens", "token_embd", "wte", "lm_head", "embed_out"}) ||
                        tensorName == "output.weight";
  return isOfVocabulary ? StorageFormat::Q8_0 : wanted;
}

} // namespace girih::weights
