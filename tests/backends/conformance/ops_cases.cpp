// SPDX-License-Identifier: Apache-2.0
// Level "ops": each operation of graph.h, type by type and shape by shape. What rounds once is compared bit for bit, sums
// within the forward error bound of the declared types, and sums whose partial sums are exact bit for bit again.
#include "tests/backends/conformance/matrices.h"

#include "runtime/base/element_type.h"

#include <cmath>
#include <cstdio>
#include <iterator>

namespace girih::conformance {
namespace {

std::string extentsOf(int64_t rows, int64_t columns) { return Shape{rows, columns}.text(); }

// An entry a shape; `operands` name their types, all of equal extents.
struct Elementwise {
  std::string name, type;
  uint64_t offset = 64;

  std::string body(const std::vector<Shape> &shapes) const {
    std::string text;
    for (const Shape &shape : shapes)
      text += entryOf("e" + shape.text(),
                      {{"a", "weights", type, shape.text(), offset},
                       {"b", "kv_pool", type, shape.text(), offset},
                       {"c", "arena", type, shape.text(), offset}},
                      name + " a b c");
    return text;
  }
};

std::vector<std::string> entriesOf(const std::vector<Shape> &shapes) {
  std::vector<std::string> entries;
  for (const Shape &shape : shapes)
    entries.push_back("e" + shape.text());
  return entries;
}

// So many that two numbers look alike only where they are.
std::string digitsOf(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}
std::string digitsOf(int32_t value) { return std::to_string(value); }
std::string digitsOf(uint16_t bits) {
  char text[32];
  std::snprintf(text, sizeof text, "of bits 0x%04x", static_cast<unsigned>(bits));
  return text;
}

// Every element is one operation of the type, rounded once.
template <typename T, typename Combine>
Finding roundsOnce(const Subject &subject, const Elementwise &op, const std::vector<Shape> &shapes,
                   const std::function<std::vector<T>(size_t, uint32_t)> &make, Combine combine) {
  uint64_t bytes = 4096;
  for (const Shape &shape : shapes)
    bytes = std::max<uint64_t>(bytes, (shape.count() * sizeof(T) + 4096) / 64 * 64);
  BENCH(bench, op.body(shapes), entriesOf(shapes), 2, bytes);
  for (size_t entry = 0; entry < shapes.size(); ++entry) {
    size_t count = shapes[entry].count();
    std::vector<T> a = make(count, 1), b = make(count, 2);
    RESULTS(got, T, bench, entry, bytesOf(a), bytesOf(b), count, 1, op.offset);
    for (size_t at = 0; at < count; ++at)
      if (T wanted = combine(a[at], b[at]); std::memcmp(&got[at], &wanted, sizeof wanted) != 0)
        return fail(op.name + " of " + shapes[entry].text() + ": element " + std::to_string(at) + " is " + digitsOf(got[at]) +
                    ", rounded once it is " + digitsOf(wanted));
  }
  return pass();
}

std::vector<int32_t> words(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> values(count);
  for (int32_t &value : values)
    value = static_cast<int32_t>(random());
  return values;
}

float sum(float a, float b) { return a + b; }
float product(float a, float b) { return a * b; }
int32_t wrappedSum(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
int32_t wrappedProduct(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}

Finding addsF32(const Subject &subject) {
  return roundsOnce<float>(subject, {"add", "f32"}, shapesOfRows(subject), normals, sum);
}
Finding multipliesF32(const Subject &subject) {
  return roundsOnce<float>(subject, {"mul", "f32"}, shapesOfRows(subject), normals, product);
}
struct Narrow {
  const char *type;
  uint16_t (*round)(float);
  float (*widen)(uint16_t);
};
constexpr Narrow kNarrow[] = {{"f16", floatToHalf, halfToFloat}, {"bf16", floatToBfloat, bfloatToFloat}};

// f32 has more than twice their digits: rounded twice is rounded once.
Finding roundsNarrow(const Subject &subject, const char *name, float (*combine)(float, float)) {
  for (const Narrow &narrow : kNarrow) {
    auto make = [&](size_t count, uint32_t seed) {
      std::vector<uint16_t> bits;
      for (float value : normals(count, seed))
        bits.push_back(narrow.round(value));
      return bits;
    };
    Finding finding = roundsOnce<uint16_t>(subject, {name, narrow.type}, shapesOfRows(subject), make, [&](uint16_t a, uint16_t b) {
      return narrow.round(combine(narrow.widen(a), narrow.widen(b)));
    });
    if (finding.outcome != Outcome::Pass)
      return finding;
  }
  return pass();
}
Finding addsNarrowFloats(const Subject &subject) { return roundsNarrow(subject, "add", sum); }
Finding multipliesNarrowFloats(const Subject &subject) { return roundsNarrow(subject, "mul", product); }

Finding addsI32(const Subject &subject) {
  return roundsOnce<int32_t>(subject, {"add", "i32"}, shapesOfRows(subject), words, wrappedSum);
}
Finding multipliesI32(const Subject &subject) {
  return roundsOnce<int32_t>(subject, {"mul", "i32"}, shapesOfRows(subject), words, wrappedProduct);
}
// Values begin where no vector does.
Finding offsetsAreFollowed(const Subject &subject) {
  return roundsOnce<float>(subject, {"add", "f32", 68}, shapesOfRows(subject), normals, sum);
}
Finding hugeExtentsAreCovered(const Subject &subject) {
  return roundsOnce<float>(subject, {"add", "f32"}, shapesOr(subject, {{1, 1000003}, {100003, 3}}), normals, sum);
}

Finding resultsMayReplaceOperands(const Subject &subject) {
  const Shape shape = {5, 37};
  std::string text = shape.text();
  BENCH(bench, entryOf("e", {{"a", "arena", "f32", text}, {"w", "weights", "f32", text}}, "copy w a\nadd a w a\nadd w a a"),
        {"e"}, 2);
  std::vector<float> w = normals(shape.count(), 3);
  RESULTS(got, float, bench, 0, bytesOf(w), {}, shape.count());
  for (size_t at = 0; at < got.size(); ++at)
    if (got[at] != w[at] + (w[at] + w[at]))
      return fail("element " + std::to_string(at) + " of a sum that replaced its operand is " + std::to_string(got[at]));
  return pass();
}

Finding emptyStepsWriteNothing(const Subject &subject) {
  BENCH(bench, entryOf("e", {{"a", "weights", "f32", "Qx24"}, {"c", "arena", "f32", "Qx24"}}, "add a a c"), {"e"}, 2);
  std::vector<float> a = normals(240, 4);
  for (int64_t numRows : {0, 1, 10, 0}) {
    auto count = static_cast<size_t>(24 * numRows);
    RESULTS(got, float, bench, 0, bytesOf(a), {}, count, numRows);
    for (size_t at = 0; at < count; ++at)
      if (got[at] != a[at] + a[at])
        return fail("element " + std::to_string(at) + " of " + std::to_string(numRows) + " rows is wrong");
  }
  return pass();
}

struct Product {
  int64_t m, n, k;
  std::string name() const { return "m" + std::to_string(m) + "n" + std::to_string(n) + "k" + std::to_string(k); }
};
constexpr Product kProducts[] = {{1, 1, 1},    {1, 7, 31},   {3, 1, 32},    {2, 16, 33},  {5, 17, 15},   {7, 15, 64},   {8, 16, 63},
                                 {9, 33, 65},  {16, 31, 97}, {17, 5, 127},  {1, 97, 256}, {4, 48, 576},  {31, 2, 257},  {2, 3, 4093}};
constexpr uint64_t kProductBytes = 1 << 18;

std::vector<Product> productsOf(const Subject &subject) {
  if (auto asked = extentsAsked(subject, 3); !asked.empty())
    return {{asked[0], asked[1], asked[2]}};
  return {std::begin(kProducts), std::end(kProducts)};
}

std::string productsBody(const std::vector<Product> &products, const std::string &from, const std::string &to, std::vector<std::string> &entries) {
  std::string body;
  for (const Product &p : products) {
    entries.push_back(p.name());
    body += entryOf(p.name(),
                    {{"a", "kv_pool", from, extentsOf(p.m, p.k)},
                     {"b", "weights", from, extentsOf(p.n, p.k)},
                     {"c", "arena", to, extentsOf(p.m, p.n)}},
                    "matmul a b c");
  }
  return body;
}

// The sum in f64, and that of the products' magnitudes.
template <typename T> std::pair<double, double> dot(const T *a, const T *b, int64_t count) {
  double sum = 0, magnitude = 0;
  for (int64_t k = 0; k < count; ++k) {
    double term = static_cast<double>(a[k]) * static_cast<double>(b[k]);
    sum += term;
    magnitude += std::fabs(term);
  }
  return {sum, magnitude};
}

Finding judgeProducts(const Subject &subject, const std::function<std::vector<float>(size_t, uint32_t)> &make, bool isExact) {
  const std::vector<Product> products = productsOf(subject);
  std::vector<std::string> entries;
  std::string body = productsBody(products, "f32", "f32", entries);
  BENCH(bench, body, entries, 2, kProductBytes);
  if (isExact && (bench.graph.activationType != "f32" || bench.graph.accumulateType != "f32"))
    return unsupported("it declares sums in " + bench.graph.accumulateType + " of " + bench.graph.activationType);
  for (size_t entry = 0; entry < entries.size(); ++entry) {
    const Product &p = products[entry];
    std::vector<float> a = make(static_cast<size_t>(p.m * p.k), 5), b = make(static_cast<size_t>(p.n * p.k), 6);
    RESULTS(got, float, bench, entry, bytesOf(b), bytesOf(a), static_cast<size_t>(p.m * p.n));
    std::vector<Judged> wanted;
    for (int64_t row = 0; row < p.m; ++row)
      for (int64_t column = 0; column < p.n; ++column) {
        auto [sum, magnitude] = dot(&a[static_cast<size_t>(row * p.k)], &b[static_cast<size_t>(column * p.k)], p.k);
        wanted.push_back({sum, isExact ? 0 : sumError(bench.graph, p.k) * magnitude});
      }
    if (std::string difference = judge(got, wanted); !difference.empty())
      return fail("matmul " + entries[entry] + ": " + difference);
  }
  return pass();
}

Finding matmulsAreWithinTheirBound(const Subject &subject) { return judgeProducts(subject, normals, false); }

// At most 4093 products from 0 to 49: every partial sum in every order is a whole number below 2^24, and far above what
// narrower types hold.
Finding exactSumsAreExact(const Subject &subject) {
  auto wholes = [](size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<float> values(count);
    for (float &value : values)
      value = static_cast<float>(random() % 8);
    return values;
  };
  return judgeProducts(subject, wholes, true);
}

Finding integerMatmulsAreExact(const Subject &subject) {
  const std::vector<Product> products = productsOf(subject);
  std::vector<std::string> entries;
  std::string body = productsBody(products, "i8", "i32", entries);
  BENCH(bench, body, entries, 2, kProductBytes);
  auto make = [](int64_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int8_t> values(static_cast<size_t>(count));
    for (int8_t &value : values)
      value = static_cast<int8_t>(random() % 8 == 0 ? 0x80 : random()); // -128 is where sign tricks saturate
    return values;
  };
  for (size_t entry = 0; entry < entries.size(); ++entry) {
    const Product &p = products[entry];
    std::vector<int8_t> a = make(p.m * p.k, 7), b = make(p.n * p.k, 8);
    RESULTS(got, int32_t, bench, entry, bytesOf(b), bytesOf(a), static_cast<size_t>(p.m * p.n));
    for (int64_t at = 0; at < p.m * p.n; ++at) {
      double wanted = dot(&a[static_cast<size_t>(at / p.n * p.k)], &b[static_cast<size_t>(at % p.n * p.k)], p.k).first;
      if (got[static_cast<size_t>(at)] != static_cast<int32_t>(wanted))
        return fail("integer matmul " + entries[entry] + ": element " + std::to_string(at) + " is " +
                    std::to_string(got[static_cast<size_t>(at)]) + ", expected " + std::to_string(wanted));
    }
  }
  return pass();
}

// A device that is declared deterministic gives the same bits again, with any number of threads.
Finding repeatsItsBits(const Subject &subject) {
  auto facts = hal::describeDevice(*subject.backend, 0);
  if (!facts.isOk())
    return findingOf(facts.status());
  if (!facts->isDeterministic)
    return unsupported("it is not declared deterministic");
  std::string body =
      entryOf("e", {{"a", "kv_pool", "f32", "5x997"}, {"b", "weights", "f32", "33x997"}, {"c", "arena", "f32", "5x33"}}, "matmul a b c");
  std::vector<float> first, a = normals(5 * 997, 9), b = normals(33 * 997, 10);
  for (int64_t numThreads : {1, 2, 3}) {
    BENCH(bench, body, {"e"}, numThreads, kProductBytes);
    for (int round = 0; round < 5; ++round) {
      RESULTS(got, float, bench, 0, bytesOf(b), bytesOf(a), 5 * 33);
      if (first.empty())
        first = got;
      if (bytesOf(got) != bytesOf(first))
        return fail("run " + std::to_string(round) + " with " + std::to_string(numThreads) +
                    " threads differs from the first; the device is declared deterministic");
    }
  }
  return pass();
}

} // namespace

const std::vector<Case> &opsCases() {
  static const std::vector<Case> cases = {
      {"ops", "adds_f32", addsF32},
      {"ops", "multiplies_f32", multipliesF32},
      {"ops", "adds_narrow_floats", addsNarrowFloats},
      {"ops", "multiplies_narrow_floats", multipliesNarrowFloats},
      {"ops", "adds_i32", addsI32},
      {"ops", "multiplies_i32", multipliesI32},
      {"ops", "offsets_are_followed", offsetsAreFollowed},
      {"ops", "huge_extents_are_covered", hugeExtentsAreCovered},
      {"ops", "results_may_replace_operands", resultsMayReplaceOperands},
      {"ops", "empty_steps_write_nothing", emptyStepsWriteNothing},
      {"ops", "matmuls_are_within_their_bound", matmulsAreWithinTheirBound},
      {"ops", "exact_sums_are_exact", exactSumsAreExact},
      {"ops", "integer_matmuls_are_exact", integerMatmulsAreExact},
      {"ops", "repeats_its_bits", repeatsItsBits},
  };
  return cases;
}

} // namespace girih::conformance
