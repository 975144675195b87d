// SPDX-License-Identifier: Apache-2.0
// Speed of one layer's attention alone, by the CPU time of one thread.
//   cpu_attention_bench ISA ELEMENT TOKENS FIRST_POSITION QUERY_TILE [HEADS GROUPS DIM [MORE_ATTRIBUTES]]
#include "tests/backends/cpu/codegen/step_harness.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>

using namespace girih::cpu::test;

namespace {

double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

std::string n(int64_t value) { return std::to_string(value); }

struct Shape {
  int64_t tokens, position, tile, heads, groups, dim;
  std::string element, attributes;

  int64_t qBytes() const { return (tokens * heads * dim * 4 + 63) / 64 * 64; }
  int64_t blockBytes() const { return groups * 32 * dim * (element == "f32" ? 4 : 2) + (element == "i8" ? groups * 128 : 0); }
};

std::string moduleOf(const Shape &s) {
  std::string q = "memref<?x" + n(s.heads) + "x" + n(s.dim) + "xf32>";
  std::string tile = "memref<?x" + n(s.heads / s.groups) + "x" + n(s.dim) + "xf32, strided<[" + n(s.heads * s.dim) +
                     ", " + n(s.dim) + ", 1], offset: ?>>";
  std::string kv = "!girih.kv<" + n(s.groups) + ", " + n(s.dim) + ", " + n(s.dim) + ", " + s.element + ">";
  std::string slice = "[%first, %head, 0] [%n, " + n(s.heads / s.groups) + ", " + n(s.dim) + "] [1, 1, 1] : " + q +
                      " to " + tile + "\n";
  return "module attributes {girih.arena_bytes = " + n(2 * s.qBytes()) + " : i64, girih.scratch_bytes = 1048576 : i64} {\n"
         "func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {\n"
         "%c0 = arith.constant 0 : index\n%c1 = arith.constant " + n(s.qBytes()) + " : index\n"
         "%groups = arith.constant " + n(s.groups) + " : index\n%t = girih.step_extent \"num_tokens\"\n"
         "%q = girih.buffer_at \"arena\"[%c0] rows %t : " + q + "\n%o = girih.buffer_at \"arena\"[%c1] rows %t : " + q +
         "\n%kv = girih.kv_at %c0 {block_bytes = " + n(s.blockBytes()) + " : i64} : " + kv + "\n"
         "scf.forall (%first, %g) = (0, 0) to (%t, %groups) step (" + n(s.tile) + ", 1) {\n"
         "%n = affine.min affine_map<(d0, d1) -> (" + n(s.tile) + ", d1 - d0)>(%first, %t)\n"
         "%head = affine.apply affine_map<(d0) -> (d0 * " + n(s.heads / s.groups) + ")>(%g)\n"
         "%qi = memref.subview %q" + slice + "%oi = memref.subview %o" + slice +
         "girih.attention ins(%qi : " + tile + ") cache(%kv[%first, %g] : " + kv + ") outs(%oi : " + tile +
         ") {scale = 0.125 : f32, query_tile = " + n(s.tile) + " : i64" + s.attributes + "}\n}\nreturn\n}\n}\n";
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: cpu_attention_bench ISA f16|f32 TOKENS FIRST_POSITION QUERY_TILE [HEADS GROUPS DIM [ATTRIBUTES]]\n");
    return 2;
  }
  Shape s = {std::atoll(argv[3]), std::atoll(argv[4]), std::atoll(argv[5]), argc > 8 ? std::atoll(argv[6]) : 9,
             argc > 8 ? std::atoll(argv[7]) : 3, argc > 8 ? std::atoll(argv[8]) : 64, argv[2], argc > 9 ? argv[9] : ""};
  auto step = Step::compile(moduleOf(s), argv[1]);
  if (!step.isOk()) {
    std::fprintf(stderr, "%s\n", std::string(step.status().message()).c_str());
    return 1;
  }
  if (const char *path = std::getenv("GIRIH_BENCH_IMAGE"))
    std::ofstream(path).write(reinterpret_cast<const char *>((*step)->image().data()), (*step)->image().size());
  StepData data;
  data.arena.assign(2 * s.qBytes() + (1 << 20), 0);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < s.qBytes() / 4; ++i)
    data.arenaAt(0)[i] = normal(random);
  data.blockTableStride = (s.position + s.tokens + 15) / 16;
  data.kvPool.assign(data.blockTableStride * s.blockBytes(), 0x38);  // every f16 0.53
  data.flushesSubnormals = true;
  data.numTokens = s.tokens;
  data.sequenceStarts = {0, static_cast<int32_t>(s.tokens)};
  for (int64_t b = 0; b < data.blockTableStride; ++b)
    data.blockTables.push_back(static_cast<int32_t>(b));
  for (int64_t i = 0; i < s.tokens; ++i) {
    data.positions.push_back(static_cast<int32_t>(s.position + i));
    data.tokenSequences.push_back(0);
  }
  std::vector<double> seconds;
  for (int i = 0; i < 31; ++i) {
    double begin = now();
    (*step)->run(data, 1);
    seconds.push_back(now() - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  double flops = 0;
  for (int32_t position : data.positions)
    flops += 4.0 * double(position + 1) * double(s.heads * s.dim);
  std::printf("%s %s, %ld tokens at %ld: best %.1f us, median %.1f us, %.1f Gflop/s\n", argv[1], argv[2], s.tokens,
              s.position, seconds.front() * 1e6, seconds[15] * 1e6, flops / seconds.front() * 1e-9);
  return 0;
}
