// SPDX-License-Identifier: Apache-2.0
// Our own exp, log, tanh, ... against the C library's f64 functions, in units in the last place; special values; the
// same bits on every ISA.
#include "tests/backends/cpu/codegen/step_harness.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <gmock/gmock.h>
#include <limits>

namespace girih::cpu::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Function {
  const char *op;
  std::function<double(double)> exact;
  float low, high;        // tested densely
  double maxUlp;
  std::vector<float> special;
};

void PrintTo(const Function &f, std::ostream *out) { *out << f.op; }

// A step that applies `op` to f32[count]; the count is no multiple of 16, so that masked tails are covered.
std::string moduleOf(const std::string &op, int64_t count) {
  std::string n = std::to_string(count), bytes = std::to_string(count * 4);
  return R"(
module attributes {girih.arena_bytes = 0 : i64, girih.scratch_bytes = 0 : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %outAt = arith.constant )" + bytes + R"( : index
    %x = girih.buffer_at "arena"[%c0] : memref<)" + n + R"(xf32>
    %y = girih.buffer_at "arena"[%outAt] : memref<)" + n + R"(xf32>
    linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
        ins(%x : memref<)" + n + R"(xf32>) outs(%y : memref<)" + n + R"(xf32>) {
    ^bb0(%in: f32, %out: f32):
      %r = )" + op + R"( : f32
      linalg.yield %r : f32
    }
    return
  }
})";
}

std::vector<float> apply(const std::string &op, const std::vector<float> &x, const std::string &isa) {
  auto step = Step::compile(moduleOf(op, static_cast<int64_t>(x.size())), isa);
  if (!step.isOk()) {
    ADD_FAILURE() << step.status().message();
    return {};
  }
  StepData data;
  data.arena.assign(x.size() * 8, 0xCC);
  std::memcpy(data.arena.data(), x.data(), x.size() * 4);
  (*step)->run(data, 1);
  const float *y = data.arenaAt(static_cast<int64_t>(x.size()) * 4);
  return std::vector<float>(y, y + x.size());
}

// Distance in units in the last place of the f32 nearest to `exact`.
double ulpError(float value, double exact) {
  float nearest = static_cast<float>(exact);
  if (std::isnan(exact) || std::isinf(nearest) || std::isnan(value) || std::isinf(value))
    return (std::isnan(exact) && std::isnan(value)) || value == nearest ? 0 : kInf;
  float above = std::nextafterf(std::fabs(nearest), kInf);
  double ulp = std::max<double>(above - std::fabs(nearest), 1.2e-38 * 1.2e-7);
  return std::fabs(value - exact) / ulp;
}

class MathFunctionTest : public testing::TestWithParam<Function> {};

TEST_P(MathFunctionTest, IsAccurateAndTheSameEverywhere) {
  const Function &f = GetParam();
  std::vector<float> x;
  constexpr int kCount = 200003;
  for (int i = 0; i < kCount; ++i)
    x.push_back(f.low + (f.high - f.low) * (static_cast<float>(i) / kCount));
  // Small magnitudes of both signs too, where relative errors hide.
  for (float small = 1e-30f; small < 1; small *= 1.7f)
    for (float value : {small, -small})
      if (value >= f.low && value <= f.high)
        x.push_back(value);
  x.insert(x.end(), f.special.begin(), f.special.end());
  std::vector<float> first;
  for (const std::string &isa : runnableIsas()) {
    SCOPED_TRACE(isa);
    std::vector<float> y = apply(f.op, x, isa);
    ASSERT_EQ(y.size(), x.size());
    double worst = 0;
    float worstAt = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      double exact = f.exact(x[i]);
      if (std::fabs(exact) < 1.1754944e-38 && y[i] == 0)
        continue;  // below the normal range zero will do
      double error = ulpError(y[i], exact);
      if (error > worst) {
        worst = error;
        worstAt = x[i];
      }
    }
    EXPECT_LE(worst, f.maxUlp) << "at " << worstAt;
    RecordProperty("worst_ulp_" + isa, std::to_string(worst));
    std::printf("%-28s %s: at most %.2f ulp\n", f.op, isa.c_str(), worst);
    if (first.empty())
      first = y;
    EXPECT_EQ(std::memcmp(first.data(), y.data(), y.size() * 4), 0) << "differs from the first ISA";
  }
}

// x / (1 + e^-x) in numerics that may round: near the real one everywhere, and NaN only of NaN.
TEST(QuotientByExpTest, IsNearAndNeverNanByItself) {
  std::string text = moduleOf(R"(arith.negf %in : f32
      %e = math.exp %r : f32
      %one = arith.constant 1.0 : f32
      %s = arith.addf %e, %one : f32
      %q = arith.divf %in, %s)", 100007);
  auto replace = [&](const std::string &from, const std::string &to) { text.replace(text.find(from), from.size(), to); };
  replace("linalg.yield %r", "linalg.yield %q");
  replace("module attributes {", "module attributes {girih.numerics = \"fast\", ");
  std::vector<float> x{0, -0.0f, 1000, -1000, 3e38f, -3e38f, kInf, kNan};  // 2^-126 stands for less
  while (x.size() < 100007)
    x.push_back(-95 + 190 * static_cast<float>(x.size()) / 100007);
  for (const std::string &isa : runnableIsas()) {
    SCOPED_TRACE(isa);
    auto step = Step::compile(text, isa);
    ASSERT_TRUE(step.isOk()) << step.status().message();
    StepData data;
    data.arena.assign(x.size() * 8, 0xCC);
    std::memcpy(data.arena.data(), x.data(), x.size() * 4);
    (*step)->run(data, 1);
    const float *y = data.arenaAt(static_cast<int64_t>(x.size()) * 4);
    for (size_t i = 0; i < x.size(); ++i) {
      double exact = x[i] / (1 + std::exp(-double{x[i]}));
      if (std::isnan(exact) || std::isinf(exact))
        ASSERT_EQ(std::isnan(y[i]), std::isnan(exact)) << x[i];
      else
        ASSERT_NEAR(y[i], exact, (4e-7 + 9e-8 * std::fabs(x[i])) * std::fabs(exact) + 1.2e-38 * std::fabs(x[i])) << x[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Functions, MathFunctionTest,
    testing::Values(
        Function{"math.exp %in", [](double x) { return std::exp(x); }, -87.3f, 88.7f, 2,
                 {0, -0.0f, kInf, -kInf, kNan, 1, 1000, -1000, 88.72283f, 88.7229f}},
        Function{"math.exp2 %in", [](double x) { return std::exp2(x); }, -126, 127.99f, 2,
                 {0, kInf, -kInf, kNan, 128, -1000}},
        Function{"math.log %in", [](double x) { return std::log(x); }, 1e-6f, 40, 2,
                 {0, 1, kInf, -1, kNan, 1e-40f, 3e38f, 1.0000001f, 0.99999994f}},
        Function{"math.tanh %in", [](double x) { return std::tanh(x); }, -10, 10, 2,
                 {0, -0.0f, kInf, -kInf, kNan, 50, -50, 0.625f}},
        Function{"math.sin %in", [](double x) { return std::sin(x); }, -100, 100, 1, {0, 1e6f, 999999, 123456.7f}},
        Function{"math.cos %in", [](double x) { return std::cos(x); }, -100, 100, 1, {0, 1e6f, 999999, 123456.7f}},
        Function{"math.sin %in", [](double x) { return std::sin(x); }, 0, 1e6f, 1, {}},
        Function{"math.cos %in", [](double x) { return std::cos(x); }, 0, 1e6f, 1, {}},
        Function{"math.erf %in", [](double x) { return std::erf(x); }, -6, 6, 1, {0, 100, -100, kInf, -kInf, kNan, 1}},
        Function{"math.rsqrt %in", [](double x) { return 1 / std::sqrt(x); }, 1e-6f, 1e6f, 2, {1, 4, kInf}},
        Function{"math.sqrt %in", [](double x) { return std::sqrt(x); }, 0, 1e6f, 0.5, {0, kInf}},
        Function{"math.round %in", [](double x) { return std::round(x); }, -100, 100, 0,
                 {0.5f, -0.5f, 1.5f, 2.5f, 0.49999997f, 8388609}},
        Function{"math.powf %in, %in", [](double x) { return std::pow(x, x); }, 0.001f, 30, 1,
                 {0, 1, -1, -2, -3, -0.5f, kNan}}));

}  // namespace
}  // namespace girih::cpu::test
