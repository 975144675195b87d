// SPDX-License-Identifier: Apache-2.0
// Level "fused": operations of several steps, against f64 within the bound that their roundings give, and at the inputs
// where a careless spelling of them overflows, divides by nothing or forgets a mask.
#include "tests/backends/conformance/matrices.h"

#include <cfloat>
#include <cmath>
#include <limits>

namespace girih::conformance {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

using Row = std::vector<Judged> (*)(const CompiledGraph &graph, const float *x, const float *w, int64_t count);

// An entry a shape: x lies in the weights, w (a row, or as x) in the KV pool.
struct RowOperation {
  std::string statement;
  bool hasOperand, isOperandARow;
  Row row;
};

std::string bodyOf(const RowOperation &op, const std::vector<Shape> &shapes, std::vector<std::string> &entries) {
  std::string body;
  for (const Shape &shape : shapes) {
    entries.push_back("e" + shape.text());
    std::vector<Operand> operands = {{"x", "weights", "f32", shape.text()}, {"y", "arena", "f32", shape.text()}};
    if (op.hasOperand)
      operands.push_back({"w", "kv_pool", "f32", op.isOperandARow ? std::to_string(shape.columns) : shape.text()});
    body += entryOf(entries.back(), operands, op.statement);
  }
  return body;
}

using Make = std::function<std::vector<float>(size_t count, uint32_t seed)>;

Finding judgeRows(const Subject &subject, const RowOperation &op, const Make &make) {
  const std::vector<Shape> shapes = shapesOfRows(subject);
  std::vector<std::string> entries;
  std::string body = bodyOf(op, shapes, entries);
  BENCH(bench, body, entries, 2, 16384);
  for (size_t entry = 0; entry < shapes.size(); ++entry) {
    auto [rows, columns] = shapes[entry];
    std::vector<float> x = make(shapes[entry].count(), 11), w;
    if (op.hasOperand)
      w = normals(op.isOperandARow ? static_cast<size_t>(columns) : shapes[entry].count(), 12);
    RESULTS(got, float, bench, entry, bytesOf(x), bytesOf(w), shapes[entry].count());
    std::vector<Judged> wanted;
    for (int64_t row = 0; row < rows; ++row) {
      const float *operand = w.data() + (op.isOperandARow ? 0 : row * columns);
      std::vector<Judged> more = op.row(bench.graph, &x[static_cast<size_t>(row * columns)], operand, columns);
      wanted.insert(wanted.end(), more.begin(), more.end());
    }
    if (std::string difference = judge(got, wanted); !difference.empty())
      return fail("`" + op.statement + "` of " + shapes[entry].text() + ": " + difference);
  }
  return pass();
}

constexpr double kEpsilon = 1e-5;

// Squares are positive, so a sum of them loses at most gamma of itself, of which the root takes half.
std::vector<Judged> normOf(const CompiledGraph &graph, const float *x, const float *w, int64_t count) {
  double squares = 0;
  for (int64_t k = 0; k < count; ++k)
    squares += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  double factor = 1 / std::sqrt(squares / static_cast<double>(count) + kEpsilon);
  double error = sumError(graph, count) / 2 + kFunctionError + 5 * kUnit;
  std::vector<Judged> row;
  for (int64_t k = 0; k < count; ++k) {
    double y = static_cast<double>(x[k]) * static_cast<double>(w[k]) * factor;
    row.push_back({y, error * std::fabs(y) + static_cast<double>(FLT_MIN)});
  }
  return row;
}

std::vector<Judged> softmaxOf(const CompiledGraph &graph, const float *x, const float *, int64_t count) {
  double most = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t k = 0; k < count; ++k)
    most = std::max(most, static_cast<double>(x[k]));
  std::vector<Judged> row;
  if (std::isinf(most))
    return std::vector<Judged>(static_cast<size_t>(count), {0, 0});
  for (int64_t k = 0; k < count; ++k)
    sum += std::exp(static_cast<double>(x[k]) - most);
  for (int64_t k = 0; k < count; ++k) {
    double distance = most - static_cast<double>(x[k]), p = std::exp(-distance) / sum;
    // The difference is rounded once, which exp multiplies by its size.
    double spread = std::isinf(distance) ? 0 : distance;
    row.push_back({p, p * (sumError(graph, count) + 2 * spread * kUnit + 2 * kFunctionError) + static_cast<double>(FLT_MIN)});
  }
  return row;
}

std::vector<Judged> swigluOf(const CompiledGraph &, const float *g, const float *u, int64_t count) {
  std::vector<Judged> row;
  for (int64_t k = 0; k < count; ++k) {
    double gate = static_cast<double>(g[k]), up = static_cast<double>(u[k]), y = gate / (1 + std::exp(-gate)) * up;
    double tiny = static_cast<double>(FLT_MIN) * (1 + std::fabs(gate)) * (1 + std::fabs(up));
    row.push_back({y, (kFunctionError + 4 * kUnit) * std::fabs(y) + tiny});
  }
  return row;
}

const RowOperation kNorm = {"rms_norm x w y eps=0.00001", true, true, normOf};
const RowOperation kSoftmax = {"softmax x y", false, false, softmaxOf};
const RowOperation kSwiglu = {"swiglu x w y", true, false, swigluOf};

std::vector<float> scaled(std::vector<float> values, float factor) {
  for (float &value : values)
    value *= factor;
  return values;
}

Finding normsRows(const Subject &subject) { return judgeRows(subject, kNorm, normals); }
// Rows of nothing stay nothing, and rows far below eps are not blown up to one.
Finding normsSmallRows(const Subject &subject) {
  Finding zeros = judgeRows(subject, kNorm, [](size_t count, uint32_t) { return std::vector<float>(count, 0.0f); });
  if (zeros.outcome != Outcome::Pass)
    return zeros;
  return judgeRows(subject, kNorm, [](size_t count, uint32_t seed) { return scaled(normals(count, seed), 1e-3f); });
}
Finding softmaxesRows(const Subject &subject) { return judgeRows(subject, kSoftmax, normals); }
Finding softmaxesLargeScores(const Subject &subject) {
  return judgeRows(subject, kSoftmax, [](size_t count, uint32_t seed) { return scaled(normals(count, seed), 200.0f); });
}
Finding maskedScoresCountNothing(const Subject &subject) {
  return judgeRows(subject, kSoftmax, [](size_t count, uint32_t seed) {
    std::vector<float> scores = normals(count, seed);
    for (size_t at = 0; at < count; at += at % 2 + 1)
      scores[at] = kMasked;
    return scores;
  });
}
Finding fullyMaskedRowsAreZero(const Subject &subject) {
  return judgeRows(subject, kSoftmax, [](size_t count, uint32_t) { return std::vector<float>(count, kMasked); });
}
Finding gatesRows(const Subject &subject) { return judgeRows(subject, kSwiglu, normals); }
// exp(-G) overflows, the result does not.
Finding gatesLargeInputs(const Subject &subject) {
  return judgeRows(subject, kSwiglu, [](size_t count, uint32_t seed) { return scaled(normals(count, seed), 100.0f); });
}

} // namespace

const std::vector<Case> &fusedCases() {
  static const std::vector<Case> cases = {
      {"fused", "norms_rows", normsRows},
      {"fused", "norms_small_rows", normsSmallRows},
      {"fused", "softmaxes_rows", softmaxesRows},
      {"fused", "softmaxes_large_scores", softmaxesLargeScores},
      {"fused", "masked_scores_count_nothing", maskedScoresCountNothing},
      {"fused", "fully_masked_rows_are_zero", fullyMaskedRowsAreZero},
      {"fused", "gates_rows", gatesRows},
      {"fused", "gates_large_inputs", gatesLargeInputs},
  };
  return cases;
}

} // namespace girih::conformance
