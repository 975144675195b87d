// SPDX-License-Identifier: Apache-2.0
// Writes what emitted matmuls answer, and the numbers that went in, for another library to judge (bench/kernels/run).
//
//   cpu_matmul_answers ISA FILE
//
// A record: the line "name rows columns depth tolerance", then f32: x [rows, depth], the dequantised weight
// [depth, columns], y [rows, columns]. The tolerance is of the largest |y|, by what the kernel rounds its operands to.
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include <cstdio>

namespace girih::cpu::test {
namespace {

// Seen in sums of 576 random products: at most a third of these.
constexpr double kF32 = 2e-6, kBf16 = 6e-3, kCodes = 2e-2;
constexpr int64_t kDepth = 576;

std::vector<MatmulCase> casesOf(const std::string &isa) {
  bool isWide = isa != "avx2";
  std::vector<MatmulCase> cases;
  for (const char *layout : {"p16:u4,f16,f16,32", "p16:u4,f16,none,32,8", "p16:s8,f16,none,32",
                             "p16:u7,f16,f16,32", "p16:s8,f16*s8,none,16"}) {
    cases.push_back({layout, 1, 96, kDepth, "direct", 1, 32, 32, 32});
    cases.push_back({layout, 31, 192, kDepth, "panel", 6, isWide ? 64 : 16, 192, 64});
    cases.push_back(quantized({layout, 1, 96, kDepth, "direct", 1, isWide ? 32 : 16, 32, 32}));
    cases.push_back(quantized({layout, 31, 96, kDepth, "panel", isWide ? 6 : 2, isWide ? 32 : 16, 288, 32}));
    if (isa == "amx")
      cases.push_back({layout, 45, 96, kDepth, "matrix", 32, 32, kDepth, 32});
  }
  for (const char *layout : {"p16:f16,none,none,32", "p16:bf16x2,none,none,32"})
    cases.push_back({layout, 5, 96, kDepth, "direct", 1, 32, 32, 32});
  return cases;
}

void writeFloats(std::FILE *file, const std::vector<float> &values) { std::fwrite(values.data(), sizeof(float), values.size(), file); }

// False when it does not compile.
bool answer(const MatmulCase &c, const std::string &isa, std::FILE *file) {
  bool isMatrix = std::string(c.strategy) == "matrix";
  auto step = Step::compile(moduleOf(c), isa);
  if (!step.isOk()) {
    std::fprintf(stderr, "cpu_matmul_answers: %s, %s: %s\n", isa.c_str(), c.layout, std::string(step.status().message()).c_str());
    return false;
  }
  PackedWeight weight(c.layout, c.columns, c.depth, 7);
  StepData data;
  data.numTokens = c.rows;
  data.weights = weight.bytes;
  data.arena.assign(bytesOfArena(c), 0);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(size_t(c.rows * c.depth)), w(size_t(c.depth * c.columns));
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &x[i], sizeof bits);
    if (isMatrix) {  // given as bf16
      bits &= 0xffff0000;
      std::memcpy(&x[i], &bits, sizeof bits);
      std::memcpy(data.arena.data() + 2 * i, reinterpret_cast<const char *>(&bits) + 2, 2);
    } else {
      data.arenaAt(0)[i] = x[i];
    }
  }
  for (int64_t k = 0; k < c.depth; ++k)
    for (int64_t n = 0; n < c.columns; ++n)
      w[size_t(k * c.columns + n)] = weight.at(n, k);
  (*step)->run(data, 2);
  const float *y = data.arenaAt(placeOfY(c));
  const char *kind = c.isQuantized ? "i8" : isMatrix ? "bf16" : "f32";
  std::fprintf(file, "%s/%s/%s/%s %lld %lld %lld %g\n", isa.c_str(), c.layout, kind, c.strategy, (long long)c.rows, (long long)c.columns,
               (long long)c.depth, c.isQuantized ? kCodes : isMatrix ? kBf16 : kF32);
  writeFloats(file, x);
  writeFloats(file, w);
  writeFloats(file, {y, y + c.rows * c.columns});
  return true;
}

}  // namespace
}  // namespace girih::cpu::test

int main(int argc, char **argv) {
  std::FILE *file = argc == 3 ? std::fopen(argv[2], "wb") : nullptr;
  if (!file) {
    std::fprintf(stderr, "usage: cpu_matmul_answers ISA FILE\n");
    return 2;
  }
  bool isWhole = true;
  for (const auto &c : girih::cpu::test::casesOf(argv[1]))
    isWhole &= girih::cpu::test::answer(c, argv[1], file);
  return std::fclose(file) == 0 && isWhole ? 0 : 1;
}
