// SPDX-License-Identifier: Apache-2.0
// Matrices: made-up operands, error bounds, and the run of one entry between guards.
#include "tests/backends/conformance/matrices.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace girih::conformance {

std::vector<int64_t> extentsAsked(const Subject &subject, size_t rank) {
  std::vector<int64_t> extents;
  const char *at = subject.shape.c_str();
  while (*at) {
    char *end = nullptr;
    extents.push_back(std::strtoll(at, &end, 10));
    at = *end == 'x' ? end + 1 : "";
  }
  bool isShape = extents.size() == rank && *std::min_element(extents.begin(), extents.end()) > 0;
  return isShape ? extents : std::vector<int64_t>();
}

std::vector<Shape> shapesOr(const Subject &subject, const std::vector<Shape> &otherwise) {
  auto asked = extentsAsked(subject, 2);
  return asked.empty() ? otherwise : std::vector<Shape>{{asked[0], asked[1]}};
}

std::vector<Shape> shapesOfRows(const Subject &subject) {
  return shapesOr(subject, {{1, 1},  {1, 7},  {3, 15},  {2, 16}, {5, 17}, {1, 31},  {7, 32},
                                            {3, 33}, {2, 63}, {17, 64}, {1, 67}, {5, 97}, {2, 257}, {1, 1021}});
}

std::vector<float> normals(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float &value : values)
    value = normal(random);
  return values;
}

double roundoffOf(const std::string &type) {
  return type == "f16" ? std::ldexp(1.0, -11) : type == "bf16" ? std::ldexp(1.0, -8) : type == "i8" ? 1.0 / 254 : std::ldexp(1.0, -24);
}

double sumError(const CompiledGraph &graph, int64_t count) {
  double steps = static_cast<double>(count) * roundoffOf(graph.accumulateType);
  double sums = steps / std::max(1.0 - steps, 0.5);
  return graph.activationType == "f32" ? sums : sums + roundoffOf(graph.activationType) * (1.0 + sums);
}

std::string judge(const std::vector<float> &got, const std::vector<Judged> &wanted) {
  for (size_t at = 0; at < wanted.size(); ++at) {
    auto [expected, bound] = wanted[at];
    bool isSame = std::isnan(expected) ? std::isnan(got[at]) : got[at] == static_cast<float>(expected);
    if (isSame || std::fabs(got[at] - expected) <= bound)
      continue;
    char text[160];
    std::snprintf(text, sizeof text, "element %zu is %.9g, f64 says %.9g; the bound of the declared types is %.3g", at,
                  static_cast<double>(got[at]), expected, bound);
    return text;
  }
  return "";
}

std::string entryOf(const std::string &name, const std::vector<Operand> &operands, const std::string &statement) {
  std::string text = "entry " + name + "\n";
  for (const Operand &operand : operands)
    text += "value " + operand.id + " " + operand.binding + " " + std::to_string(operand.offset) + " " + operand.type + " " +
            operand.extents + "\n";
  return text + statement + "\nend\n";
}

Expected<std::vector<uint8_t>> runOn(GraphBench &bench, uint64_t entry, const std::vector<uint8_t> &weights,
                                     const std::vector<uint8_t> &kvPool, size_t resultBytes, int64_t numTokens,
                                     uint64_t offset) {
  GIRIH_TRY(bench.resetGuards());
  GIRIH_TRY(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(offset, weights));
  GIRIH_TRY(bench.bindings[GIRIH_STEP_BINDING_KV_POOL].write(offset, kvPool));
  GIRIH_TRY(bench.run(entry, numTokens));
  GIRIH_ASSIGN(auto arena, bench.bytesOf(GIRIH_STEP_BINDING_ARENA));
  std::vector<uint8_t> result(arena.begin() + static_cast<std::ptrdiff_t>(offset),
                              arena.begin() + static_cast<std::ptrdiff_t>(offset + resultBytes));
  const std::pair<int, const std::vector<uint8_t> *> all[] = {
      {GIRIH_STEP_BINDING_ARENA, &result}, {GIRIH_STEP_BINDING_WEIGHTS, &weights}, {GIRIH_STEP_BINDING_KV_POOL, &kvPool}};
  for (auto [binding, expected] : all) {
    GIRIH_ASSIGN(std::string difference, bench.differenceAt(binding, offset, *expected));
    if (!difference.empty())
      return dataLoss(difference);
  }
  return result;
}

} // namespace girih::conformance
