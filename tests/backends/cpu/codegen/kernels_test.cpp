// SPDX-License-Identifier: Apache-2.0
// gather_rows bit for bit; hot loops that spill no vector; compilations side by side; what an image may hold.
#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/emit_object.h"
#include "backends/cpu/codegen/passes.h"
#include "dialects/register.h"
#include "tests/backends/cpu/codegen/qmatmul_module.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <map>
#include <sstream>
#include <thread>
#include <utility>

namespace girih::cpu::test {
namespace {

// ---- gather_rows ----
class GatherTest : public testing::TestWithParam<const char *> {};

TEST_P(GatherTest, DequantizesOneRowPerIndex) {
  constexpr int64_t kColumns = 50, kDepth = 75;
  PackedWeight weight(GetParam(), kColumns, kDepth, 23);
  std::string packed = "!girih.packed<50 x 75, \"" + std::string(GetParam()) + "\">";
  std::string text = R"(
module attributes {girih.arena_bytes = 65536 : i64, girih.scratch_bytes = 0 : i64} {
  func.func @girih_step_t8(%args: !llvm.ptr, %thread: index, %threads: index) attributes {girih.entry} {
    %c0 = arith.constant 0 : index
    %t = girih.step_extent "num_tokens"
    %tokens = girih.buffer_at "tokens"[%c0] rows %t : memref<?xi32>
    %y = girih.buffer_at "arena"[%c0] rows %t : memref<?x75xf32>
    %w = girih.packed_at %c0 : )" + packed + R"(
    scf.forall (%i) in (%t) {
      %id = memref.subview %tokens[%i] [1] [1] : memref<?xi32> to memref<1xi32, strided<[1], offset: ?>>
      %row = memref.subview %y[%i, 0] [1, 75] [1, 1] : memref<?x75xf32> to memref<1x75xf32, strided<[75, 1], offset: ?>>
      girih.gather_rows ins(%id, %w : memref<1xi32, strided<[1], offset: ?>>, )" + packed + R"()
          outs(%row : memref<1x75xf32, strided<[75, 1], offset: ?>>)
    }
    return
  }
})";
  for (const std::string &isa : runnableIsas()) {
    auto step = Step::compile(text, isa);
    ASSERT_TRUE(step.isOk()) << step.status().message();
    StepData data;
    data.tokens = {0, 49, 15, 16, 17, 31, 32, 48};
    data.numTokens = 8;
    data.weights = weight.bytes;
    data.arena.assign(65536, 0xCC);
    (*step)->run(data, 2);
    for (int64_t t = 0; t < 8; ++t)
      for (int64_t k = 0; k < kDepth; ++k)
        ASSERT_EQ(data.arenaAt(0)[t * kDepth + k], weight.at(data.tokens[t], k)) << isa << " row " << t << " k " << k;
    // Beyond the source: the nearest row, nothing outside is read.
    data.tokens = {-1, 50, INT32_MIN, INT32_MAX, 1 << 20, -50, 49, 0};
    (*step)->run(data, 2);
    for (int64_t t = 0; t < 8; ++t)
      for (int64_t k = 0; k < kDepth; ++k)
        ASSERT_EQ(data.arenaAt(0)[t * kDepth + k], weight.at(std::clamp(data.tokens[t], 0, 49), k)) << isa << " id " << data.tokens[t];
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, GatherTest,
                         testing::Values("p16:u4,f16,none,32,8", "p16:u4,f16,f16,32", "p16:s8,f16,none,32",
                                         "p16:u7,f16*s8,f16*s8,16", "p16:s8,f16*s8,none,16", "p16:f16,none,none,32",
                                         "p16:bf16x2,none,none,32", "p16:f32,none,none,32",
                                         "p16:iq4,f16,none,32", "p16:e2m1,e8m0,none,32", "p16:u5,f16,f16,32",
                                         "p16:u6,f16*s8,none,16,32"));

// ---- Spills ----
std::string assemblyOf(const std::string &text, const std::string &isa) {
  CpuTarget target = cpuTarget(isa).value();
  mlir::DialectRegistry registry;
  dialect::registerDialects(registry);
  registerCpuDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  mlir::PassManager pipeline(&context);
  buildLoweringPipeline(pipeline, isa);
  if (!module || failed(pipeline.run(*module)))
    return {};
  auto assembly = emitAssembly(*module, target, {"girih_step_t8"});
  return assembly.isOk() ? *assembly : std::string();
}

struct Loop {
  int numMultiplyAdds = 0, numSpills = 0;  // multiply-adds of f32 and of bytes
};

constexpr const char *kMultiplyAdds[] = {"vfmadd", "vpdpbusd", "vpmaddubsw", "vpmaddwd",
                                         "\tfmla", "\tsdot",    "\tsmmla",    "\tsmull"};
constexpr int kHot = 15;  // 8 rows by one panel have 9 products a row; one row by two panels, the least taken, has 20

// Loops of at least kHot multiply-adds without such a loop inside.
std::vector<Loop> hotLoops(const std::string &assembly) {
  std::map<std::string, std::pair<size_t, Loop>> labels;  // where each stands, and what stood before it
  std::vector<Loop> loops;
  std::istringstream lines(assembly);
  Loop seen;
  size_t number = 0, lastHot = 0;
  for (std::string line; std::getline(lines, line); ++number) {
    if (line.rfind(".LBB", 0) == 0)
      labels[line.substr(0, line.find(':'))] = {number, seen};
    auto holds = [&](const char *text) { return line.find(text) != std::string::npos; };
    for (const char *instruction : kMultiplyAdds)
      seen.numMultiplyAdds += holds(instruction);
    bool isX86Spill = (holds("%zmm") || holds("%ymm")) && holds("(%rsp)");
    bool isArmSpill = (holds("\tq") || holds(" q")) && holds("[sp");
    seen.numSpills += isX86Spill || isArmSpill;
    bool isJump = holds("\tj") || holds("\tb") || holds("\tcbz") || holds("\tcbnz");
    size_t target = line.find(".LBB", isJump ? 0 : line.size());
    if (target == std::string::npos)
      continue;
    auto label = labels.find(line.substr(target, line.find_first_of(" \t#", target) - target));
    if (label == labels.end() || label->second.first < lastHot)
      continue;
    const Loop &before = label->second.second;
    Loop loop{seen.numMultiplyAdds - before.numMultiplyAdds, seen.numSpills - before.numSpills};
    if (loop.numMultiplyAdds < kHot)
      continue;
    loops.push_back(loop);
    lastHot = number;
  }
  return loops;
}

struct Kernel {
  const char *isa;
  MatmulCase shape;
};

void PrintTo(const Kernel &kernel, std::ostream *out) {
  *out << kernel.isa << " ";
  PrintTo(kernel.shape, out);
}

class SpillTest : public testing::TestWithParam<Kernel> {};

// The tiles that select_strategy may take for the default model's shapes.
TEST_P(SpillTest, HotLoopsKeepTheirVectorsInRegisters) {
  const Kernel &kernel = GetParam();
  std::vector<Loop> loops = hotLoops(assemblyOf(moduleOf(kernel.shape), kernel.isa));
  ASSERT_FALSE(loops.empty()) << "no hot loop found";
  for (const Loop &loop : loops)
    EXPECT_EQ(loop.numSpills, 0) << "in a loop of " << loop.numMultiplyAdds << " multiply-adds";
}

constexpr const char *kQ41 = "p16:u4,f16,f16,32";

INSTANTIATE_TEST_SUITE_P(
    Kernels, SpillTest,
    testing::Values(Kernel{"avx512", {kQ41, 512, 96, 576, "panel", 12, 32, 576, 96}},
                    Kernel{"avx512", {kQ41, 512, 128, 576, "panel", 6, 64, 576, 128}},
                    Kernel{"avx512", {kQ41, 512, 96, 576, "panel", 8, 48, 192, 96}},
                    Kernel{"avx512", {kQ41, 1, 96, 576, "direct", 1, 48, 32, 96}},
                    Kernel{"avx512", {kQ41, 1, 128, 576, "direct", 1, 64, 32, 128}},
                    Kernel{"avx512", {kQ41, 8, 96, 576, "direct", 8, 16, 32, 96}},
                    Kernel{"avx512", {kQ41, 4, 96, 576, "direct", 4, 32, 32, 96}},
                    Kernel{"avx2", {kQ41, 512, 96, 576, "panel", 6, 16, 576, 96}}));

// Loops, others inside them or not: what stands between a label and the last jump back to it.
std::vector<std::vector<std::string>> loopsOf(const std::string &assembly) {
  std::vector<std::string> lines;
  std::istringstream stream(assembly);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  std::vector<std::vector<std::string>> loops;
  for (size_t first = 0; first < lines.size(); ++first) {
    if (lines[first].rfind(".LBB", 0) != 0)
      continue;
    std::string target = lines[first].substr(0, lines[first].find(':'));
    size_t last = first;
    for (size_t i = first; i < lines.size() && lines[i].find(".cfi_endproc") == std::string::npos; ++i)
      if (lines[i].find("\tj") != std::string::npos && lines[i].ends_with(target))
        last = i;
    loops.emplace_back(lines.begin() + static_cast<ptrdiff_t>(first), lines.begin() + static_cast<ptrdiff_t>(last));
  }
  return loops;
}

// Four products share four tile loads, two blocks of k in an iteration, and behind each of them some weights of the next
// pass are dequantised, as long as there are any: a loop of its own follows for who needs more slices, and another loop
// multiplies alone. No tile and no vector goes through memory but what is loaded and stored for good.
TEST(TileLoopTest, HoldsAsManyLoadsAsProducts) {
  int numLoops = 0, numFeeding = 0;
  for (auto &body : loopsOf(assemblyOf(moduleOf({kQ41, 512, 96, 576, "matrix", 32, 32, 576, 96}), "amx"))) {
    auto contains = [](const std::string &line, std::vector<const char *> words) {
      return std::all_of(words.begin(), words.end(),
                         [&](const char *word) { return line.find(word) != std::string::npos; });
    };
    auto count = [&](std::vector<const char *> words) {
      return std::count_if(body.begin(), body.end(), [&](auto &line) { return contains(line, words); });
    };
    if (count({"tdpbf16ps"}) != 8 || count({"tilezero"}) != 0)
      continue;
    ++numLoops;
    EXPECT_EQ(count({"tileload"}), 8);
    EXPECT_EQ(count({"tileloaddt1"}), 4) << "activations pass by, weights stay";
    EXPECT_EQ(count({"tilestore"}), 0);
    EXPECT_EQ(count({"zmm", "(%rsp)"}), 0);
    if (count({"vfmadd", "zmm"}) == 0)
      continue;
    ++numFeeding;
    EXPECT_EQ(count({"vfmadd", "zmm"}), 2 * 16) << "a slice of weights a step, and one of those beyond that";
    EXPECT_EQ(count({"vperm", "zmm"}), 2 * 16) << "lookups alone";
    int behindProduct = 0, numProducts = 0;
    for (const std::string &line : body) {
      if (contains(line, {"tdpbf16ps"}) && numProducts++ > 0)
        EXPECT_GE(std::exchange(behindProduct, 0), 2) << "weights behind product " << numProducts - 1;
      behindProduct += contains(line, {"vfmadd", "zmm"});
    }
  }
  EXPECT_EQ(numLoops, 2);
  EXPECT_EQ(numFeeding, 1);
}

// Two blocks are taken apart, two multiplied and two scaled in an iteration, and 16 rows of sums stay in registers.
TEST(CodeLoopTest, KeepsItsSumsInRegisters) {
  int numLoops = 0;
  for (auto &body : loopsOf(assemblyOf(moduleOf({kQ41, 16, 96, 576, "codes", 16, 32, 576, 96}), "amx"))) {
    auto count = [&](const char *word, const char *other = "") {
      return std::count_if(body.begin(), body.end(), [&](auto &line) {
        return line.find(word) != std::string::npos && line.find(other) != std::string::npos;
      });
    };
    if (count("tdpbf16ps") != 2 || count("vfmadd") != 64)
      continue;
    ++numLoops;
    EXPECT_EQ(count("tileload"), 4);
    EXPECT_EQ(count("tilestore"), 2);
    EXPECT_EQ(count("vpermw"), 32) << "lookups";
    EXPECT_EQ(count("zmm", "(%rsp)"), 0);
  }
  EXPECT_EQ(numLoops, 1);
}

constexpr const char *kQ80 = "p16:s8,f16,none,32";
constexpr const char *kQ6K = "p16:s8,f16*s8,none,16";
constexpr const char *kF16 = "p16:f16,none,none,32";
constexpr const char *kQ51 = "p16:u7,f16,f16,32";

INSTANTIATE_TEST_SUITE_P(
    DotKernels, SpillTest,
    testing::Values(Kernel{"avx512", quantized({kQ41, 512, 96, 576, "panel", 6, 32, 576, 96})},
                    Kernel{"avx512", roundedScales(quantized({kQ41, 512, 96, 576, "panel", 6, 32, 384, 96}))},
                    Kernel{"avx512", quantized({kQ80, 512, 96, 576, "panel", 6, 32, 576, 96})},
                    Kernel{"avx512", quantized({kQ6K, 512, 96, 576, "panel", 6, 32, 576, 96})},
                    Kernel{"avx512", quantized({kQ41, 1, 96, 576, "direct", 1, 32, 32, 96})},
                    Kernel{"avx512", quantized({kQ80, 1, 96, 576, "direct", 1, 32, 32, 96})},
                    Kernel{"avx512", quantized({kQ41, 4, 96, 576, "direct", 4, 32, 32, 96})},
                    Kernel{"avx512", quantized({kQ41, 8, 96, 576, "direct", 8, 16, 32, 96})},
                    Kernel{"avx512", quantized({kQ41, 8, 96, 576, "direct", 7, 32, 32, 96})},
                    Kernel{"avx512", quantized({kQ6K, 8, 96, 576, "direct", 8, 16, 32, 96})},
                    Kernel{"avx512", quantized({kQ51, 8, 96, 576, "direct", 8, 16, 32, 96})},
                    Kernel{"avx2", quantized({kQ41, 1, 96, 576, "direct", 1, 16, 32, 96})},
                    Kernel{"avx2", quantized({kQ41, 8, 96, 576, "direct", 2, 16, 32, 96})},
                    Kernel{"avx2", quantized({kQ80, 8, 96, 576, "direct", 2, 16, 32, 96})},
                    Kernel{"avx2", quantized({kQ6K, 8, 96, 576, "direct", 2, 16, 32, 96})},
                    Kernel{"avx2", quantized({kQ41, 512, 96, 576, "panel", 2, 16, 576, 96})},
                    Kernel{"avx2", quantized({kQ80, 512, 96, 576, "panel", 2, 16, 576, 96})}));

INSTANTIATE_TEST_SUITE_P(Arm64Kernels, SpillTest, testing::ValuesIn([] {
  std::vector<Kernel> kernels;
  for (const char *isa : {"neon", "dotprod", "i8mm"}) {
    kernels.push_back({isa, {kF16, 1, 96, 576, "direct", 1, 32, 32, 96}});
    kernels.push_back({isa, {kF16, 8, 96, 576, "direct", 4, 16, 32, 96}});
    for (const char *layout : {kQ41, kF16}) {
      kernels.push_back({isa, {layout, 8, 96, 576, "direct", 2, 16, 32, 96}});
      kernels.push_back({isa, {layout, 512, 96, 576, "panel", 6, 16, 576, 96}});
    }
    for (const char *layout : {kQ41, kQ80, kQ6K, kQ51}) {
      kernels.push_back({isa, quantized({layout, 1, 96, 576, "direct", 1, 16, 32, 96})});
      kernels.push_back({isa, quantized({layout, 8, 96, 576, "direct", 2, 16, 32, 96})});
      kernels.push_back({isa, quantized({layout, 512, 96, 576, "panel", 2, 16, 576, 96})});
    }
  }
  return kernels;
}()));

// Each row of the table uses the instruction that it is named for, and no row one that it does not require.
TEST(Arm64Test, UsesTheRowsOwnDots) {
  auto count = [](const char *isa, const char *strategy, const char *instruction) {
    std::string text = assemblyOf(moduleOf(quantized({kQ41, 512, 96, 576, strategy, 2, 16, 576, 96})), isa);
    int64_t number = 0;
    for (size_t at = text.find(instruction); at != std::string::npos; at = text.find(instruction, at + 1))
      ++number;
    return number;
  };
  EXPECT_GT(count("neon", "panel", "\tsadalp"), 0);
  EXPECT_EQ(count("neon", "panel", "\tsdot") + count("neon", "panel", "\tsmmla"), 0);
  EXPECT_GT(count("dotprod", "panel", "\tsdot"), 0);
  EXPECT_EQ(count("dotprod", "panel", "\tsmmla"), 0);
  EXPECT_GT(count("i8mm", "panel", "\tsmmla"), 0) << "many rows are multiplied by twos";
  EXPECT_GT(count("i8mm", "direct", "\tsdot"), 0);
  EXPECT_EQ(count("i8mm", "direct", "\tsmmla"), 0) << "few rows do not pay for putting codes in pairs";
}

// ---- Compilations side by side ----
TEST(ReentrancyTest, CompilesInSeveralThreadsAtOnce) {
  MatmulCase shape = {kQ41, 3, 64, 96, "direct", 2, 32, 32, 32};
  std::vector<std::vector<uint8_t>> images(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < images.size(); ++i)
    threads.emplace_back([&, i] {
      auto step = Step::compile(moduleOf(shape), i % 2 ? "avx2" : "avx512");
      if (step.isOk())
        images[i] = (*step)->image();
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_FALSE(images[0].empty());
  EXPECT_EQ(images[0], images[2]) << "one module gives one image";
  EXPECT_EQ(images[1], images[3]);
}

}  // namespace
}  // namespace girih::cpu::test
