// SPDX-License-Identifier: Apache-2.0
// Level "fused", matmuls of packed weights: int8 and int4 in groups with scales and mins, and floats, within the bound of the
// declared types, and bit for bit where sums are whole numbers.
#include "tests/backends/conformance/matrices.h"

#include "runtime/base/element_type.h"
#include "runtime/weights/pack.h"

#include <cmath>

namespace girih::conformance {
namespace {

using weights::CodeType;
using weights::PackedLayout;
using weights::ScaleType;

struct Weight {
  const char *layout;
  int64_t columns, depth;
};
// int8; int4 about a middle; int4 and int8 from a least; groups of half a block; floats; values by number; codes of 5 and 6
// bits, of which some lie apart. Columns and, of floats, k that fill no
// panel and no block.
constexpr Weight kWeights[] = {{"p16:s8,f16,none,32", 48, 64},    {"p16:s8,f16,none,32", 17, 96},
                               {"p16:u4,f16,none,32,8", 33, 256}, {"p16:u4,f16,f16,32", 31, 64},
                               {"p16:u7,f16,f16,32", 16, 32},     {"p16:u4,f16*s8,f16*s8,16", 5, 96},
                               {"p16:f16,none,none,32", 19, 57},
                               {"p16:iq4,f16,none,32", 18, 64},   {"p16:e2m1,e8m0,none,32", 33, 32},
                               {"p16:u5,f16,none,32,16", 20, 96}, {"p16:u5,f16,f16,32", 16, 64},
                               {"p16:u6,f16*s8,none,16,32", 35, 64}};
constexpr int64_t kTokens[] = {1, 3, 17};
constexpr uint64_t kBytes = 1 << 16;

void putHalf(uint8_t *to, float value) {
  uint16_t half = floatToHalf(value);
  std::memcpy(to, &half, 2);
}

// Near `value` in size; of a whole number itself. `shared`: where the f16 is that groups share. Bytes have no more bits than
// leave every product with a code exact.
void putScale(uint8_t *own, uint8_t *shared, ScaleType type, float value, std::mt19937 &random) {
  if (type == ScaleType::F16)
    return putHalf(own, value);
  if (type == ScaleType::E8M0) {
    *own = static_cast<uint8_t>(128 + std::lround(std::log2(std::fabs(value) + 1e-3f)));
    return;
  }
  bool isWhole = value == std::nearbyint(value);
  putHalf(shared, isWhole ? 1 : value / 64);
  *own = static_cast<uint8_t>(isWhole ? std::lround(value) : static_cast<long>(random() % 96) - 32);
}

// Random codes; what is beyond columns and depth stays zero. `isWhole`: scales of 1, and mins that keep a weight within 8 bits.
std::vector<uint8_t> pack(const PackedLayout &layout, const Weight &weight, bool isWhole) {
  std::vector<uint8_t> bytes(static_cast<size_t>(layout.tensorBytes(weight.columns, weight.depth).value()));
  std::mt19937 random(51);
  std::normal_distribution<float> normal;
  for (int64_t n = 0; n < weight.columns; ++n)
    for (int64_t k = 0; k < weight.depth; ++k) {
      uint8_t *block = &bytes[static_cast<size_t>(n / 16 * layout.panelBytes(weight.depth) + k / 32 * layout.blockBytes())];
      uint8_t *code = block + layout.codeOffsetBytes(n % 16, k % 32);
      if (layout.hasNibbles()) {
        *code = static_cast<uint8_t>(*code | (random() % 16) << layout.codeShift(k % 32));
        if (int highBits = layout.highBits())
          block[layout.highOffsetBytes(n % 16, k % 32)] |= static_cast<uint8_t>(random() % (1u << highBits) << layout.highShift(k % 32));
      }
      else if (!layout.hasFloatCodes())
        *code = static_cast<uint8_t>(random() & (layout.codes == CodeType::U7 ? 127 : 255));
      else
        putHalf(code, isWhole ? static_cast<float>(random() % 16) : normal(random));
      if (k % layout.groupSize != 0)
        continue;
      putScale(block + layout.scaleOffsetBytes(n % 16, k % 32), block + layout.scaleHalfOffsetBytes(n % 16), layout.scales,
               isWhole ? 1.0f : 0.02f * normal(random), random);
      if (layout.mins != ScaleType::None)
        putScale(block + layout.minOffsetBytes(n % 16, k % 32), block + layout.minHalfOffsetBytes(n % 16), layout.mins,
                 isWhole ? -static_cast<float>(random() % 8) : 0.1f * normal(random), random);
    }
  return bytes;
}

// Activations of normal or of small whole numbers.
std::vector<float> activations(size_t count, bool isWhole) {
  std::vector<float> values = normals(count, 52);
  for (float &value : values)
    value = isWhole ? std::nearbyint(value * 3) : value;
  return values;
}

Finding judgeWeight(const Subject &subject, const Weight &weight, bool isWhole) {
  auto layout = PackedLayout::parse(weight.layout);
  if (!layout.isOk())
    return findingOf(layout.status());
  std::vector<uint8_t> packed = pack(*layout, weight, isWhole);
  std::string body = entryOf("e", {{"a", "kv_pool", "f32", "Tx" + std::to_string(weight.depth)},
                                   {"b", "weights", weight.layout, Shape{weight.columns, weight.depth}.text()},
                                   {"c", "arena", "f32", "Tx" + std::to_string(weight.columns)}}, "matmul a b c");
  BENCH(bench, body, {"e"}, 2, kBytes);
  if (isWhole && bench.graph.accumulateType != "f32")
    return unsupported("it declares sums in " + bench.graph.accumulateType);
  // A matrix unit of narrow operands rounds the weight as it rounds the activation.
  double weightError = bench.graph.activationType == "f32" ? 0 : roundoffOf(bench.graph.activationType);
  for (int64_t numTokens : kTokens) {
    std::vector<float> a = activations(static_cast<size_t>(numTokens * weight.depth), isWhole);
    RESULTS(got, float, bench, 0, packed, bytesOf(a), static_cast<size_t>(numTokens * weight.columns), numTokens);
    std::vector<Judged> wanted;
    for (int64_t at = 0; at < numTokens * weight.columns; ++at) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < weight.depth; ++k) {
        double term = static_cast<double>(a[static_cast<size_t>(at / weight.columns * weight.depth + k)]) *
                      static_cast<double>(weights::unpackValue(*layout, packed.data(), weight.depth, at % weight.columns, k));
        sum += term;
        magnitude += std::fabs(term);
      }
      wanted.push_back({sum, isWhole ? 0 : (sumError(bench.graph, weight.depth) * (1 + weightError) + weightError) * magnitude});
    }
    if (std::string difference = judge(got, wanted); !difference.empty())
      return fail("matmul of " + std::string(weight.layout) + ", " + Shape{weight.columns, weight.depth}.text() + ", " +
                  std::to_string(numTokens) + " tokens: " + difference);
  }
  return pass();
}

Finding judgeAll(const Subject &subject, bool isWhole) {
  for (const Weight &weight : kWeights)
    if (Finding finding = judgeWeight(subject, weight, isWhole); finding.outcome != Outcome::Pass)
      return finding;
  return pass();
}

Finding multipliesGroupedWeights(const Subject &subject) { return judgeAll(subject, false); }

// Codes and activations are whole and small: exact in f16 and bf16 too, and so is every partial sum in f32.
Finding groupedSumsAreExact(const Subject &subject) { return judgeAll(subject, true); }

} // namespace

const std::vector<Case> &packedCases() {
  static const std::vector<Case> cases = {
      {"fused", "multiplies_grouped_weights", multipliesGroupedWeights},
      {"fused", "grouped_sums_are_exact", groupedSumsAreExact},
  };
  return cases;
}

} // namespace girih::conformance
