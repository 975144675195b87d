// SPDX-License-Identifier: Apache-2.0
// Matrices as operands of a graph, what f64 says of the results, and how far a result may lie from that.
#pragma once

#include "tests/backends/conformance/graph_bench.h"

#include <cstring>
#include <functional>
#include <random>

namespace girih::conformance {

// Extents that show a dropped tail or a vector too many: 1, primes, vectors and tiles and their neighbours.
struct Shape {
  int64_t rows, columns;
  std::string text() const { return std::to_string(rows) + "x" + std::to_string(columns); }
  size_t count() const { return static_cast<size_t>(rows * columns); }
};
std::vector<Shape> shapesOfRows(const Subject &subject); // those, or the subject's
std::vector<Shape> shapesOr(const Subject &subject, const std::vector<Shape> &otherwise);
// The extents of the subject's shape where it has so many, else none.
std::vector<int64_t> extentsAsked(const Subject &subject, size_t rank);

std::vector<float> normals(size_t count, uint32_t seed);

template <typename T> std::vector<uint8_t> bytesOf(const std::vector<T> &values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty())
    std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

constexpr double kUnit = 1.0 / (1 << 24);    // half an ulp of f32
constexpr double kFunctionError = 8 * kUnit; // of exp, rsqrt and the like: four ulps

// The unit roundoff of a type that sums are kept in, or that activations are rounded to. 0: they are exact.
double roundoffOf(const std::string &type);
// The relative error of a sum of `count` products, in any order, each rounded: gamma of Higham's Accuracy and Stability
// of Numerical Algorithms, section 3.1, with the rounding of activations beside it.
double sumError(const CompiledGraph &graph, int64_t count);

struct Judged {
  double expected, bound; // |result - expected| <= bound; a bound of 0 asks for the same bits
};
// "" when every element of `got` lies within its bound.
std::string judge(const std::vector<float> &got, const std::vector<Judged> &wanted);

// An operation's operands and result: where each lies, and its type.
struct Operand {
  std::string id, binding, type, extents;
  uint64_t offset = 64;
};
std::string entryOf(const std::string &name, const std::vector<Operand> &operands, const std::string &statement);

// Runs an entry with inputs written to the weights and the KV pool, and reads the result in the arena. What lies beside it
// must be as it was.
Expected<std::vector<uint8_t>> runOn(GraphBench &bench, uint64_t entry, const std::vector<uint8_t> &weights,
                                     const std::vector<uint8_t> &kvPool, size_t resultBytes, int64_t numTokens = 1,
                                     uint64_t offset = 64);
template <typename T>
Expected<std::vector<T>> resultsOn(GraphBench &bench, uint64_t entry, const std::vector<uint8_t> &weights,
                                   const std::vector<uint8_t> &kvPool, size_t count, int64_t numTokens = 1,
                                   uint64_t offset = 64) {
  GIRIH_ASSIGN(auto bytes, runOn(bench, entry, weights, kvPool, count * sizeof(T), numTokens, offset));
  std::vector<T> results(count);
  if (count > 0)
    std::memcpy(results.data(), bytes.data(), bytes.size());
  return results;
}

#define RESULTS(name, type, ...)                                                                             \
  auto name##Made = resultsOn<type>(__VA_ARGS__);                                                            \
  if (!name##Made.isOk())                                                                                    \
    return findingOf(name##Made.status());                                                                   \
  const auto &name = *name##Made

} // namespace girih::conformance
