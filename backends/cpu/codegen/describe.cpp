// SPDX-License-Identifier: Apache-2.0
// describe: this machine as data, seen through one instruction set.
#include "backends/cpu/codegen/describe.h"

#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "llvm/Support/MemoryBuffer.h"

#include <sched.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

using girih::cpu::ByteDots;
using girih::cpu::IsaTraits;
using girih::machine::DescriptionAttr;
using girih::machine::LevelAttr;

namespace {

constexpr int64_t kAssumedMhz = 3500;

struct Figure {
  int64_t value;
  const char *source;
};

// The first line of a small file; empty when there is none.
std::string firstLine(const std::string &path) {
  auto file = llvm::MemoryBuffer::getFile(path, /*IsText=*/true);
  return file ? (*file)->getBuffer().split('\n').first.str() : std::string();
}

// "2048K" -> bytes.
Figure cacheBytes(int level, int64_t assumed) {
  for (int index = 0; index < 8; ++index) {
    std::string base = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    int64_t kibibytes = 0;
    bool isWanted = firstLine(base + "level") == std::to_string(level) && firstLine(base + "type") != "Instruction";
    if (isWanted && !llvm::StringRef(firstLine(base + "size")).rtrim('K').getAsInteger(10, kibibytes) &&
        kibibytes > 0)
      return {kibibytes * 1024, "sysfs cache (CPUID leaf 4)"};
  }
  return {assumed, "assumed"};
}

Figure clockMhz() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x16, &a, &b, &c, &d) && (a & 0xffff) > 0)
    return {int64_t(a & 0xffff), "CPUID leaf 0x16"};
#endif
  // Virtual machines hide it. Measuring it here would make each compilation another.
  return {kAssumedMhz, "assumed: that of one Xeon with both cores at work (roofline_bench)"};
}

// A tile of products takes 16 cycles, a cycle a row: of 64 bytes of k.
girih::machine::UnitAttr tileUnit(mlir::MLIRContext *context, llvm::StringRef element, int64_t depth,
                                  llvm::StringRef source) {
  auto tile = girih::machine::TileAttr::get(context, 16, 16, depth);
  return girih::machine::UnitAttr::get(context, "matrix", element, 16 * depth, 1, 52, 8, source, tile);
}

// Where one instruction does not do it, a sum of bytes is made of several; it is the same integer (microkernels/byte_dot.h).
struct UnitRates {
  int64_t productsPerLane, dotsPerCycle;
  const char *fmaSource, *dotSource;
};

UnitRates ratesOf(ByteDots dots) {
  switch (dots) {
  case ByteDots::MultiplyAdd:
    return {4, 1, "CPUID avx2, fma", "CPUID avx2"};
  case ByteDots::Unsigned4:
    return {4, 2, "CPUID avx512f", "CPUID avx512vnni"};
  case ByteDots::Widening:
    return {2, 1, "HWCAP asimd", "HWCAP asimd"};
  case ByteDots::Signed4:
    return {4, 2, "HWCAP asimd", "HWCAP asimddp"};
  case ByteDots::Signed8:
    return {8, 2, "HWCAP asimd", "HWCAP2 i8mm"};
  }
  return {};
}

int64_t numCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// Instructions on vectors of any kind: wide ones close the third port that narrower ones have.
int64_t vectorsPerCycle(const IsaTraits &traits) { return traits.registerLanes == 8 ? 3 : 2; }

}  // namespace

DescriptionAttr girih::cpu::describeMachine(mlir::MLIRContext *context, llvm::StringRef isa) {
  const IsaTraits &traits = *findIsa(isa);
  // Of another architecture's machine nothing can be read here.
  bool isHere = isHostArchitecture(*traits.architecture);
  auto read = [&](Figure figure, int64_t assumed) { return isHere ? figure : Figure{assumed, "assumed"}; };
  constexpr int64_t kAssumedL2 = 512 << 10, kAssumedL3 = 8 << 20, kAssumedCores = 4;
  int64_t lanes = traits.registerLanes, l1Assumed = isHere ? 32 << 10 : 64 << 10;
  Figure l1 = read(cacheBytes(1, l1Assumed), l1Assumed), l2 = read(cacheBytes(2, kAssumedL2), kAssumedL2);
  Figure l3 = read(cacheBytes(3, kAssumedL3), kAssumedL3), clock = read(clockMhz(), kAssumedMhz);
  int64_t cores = isHere ? numCores() : kAssumedCores;
  // Bytes a cycle and core: two loads of a vector from L1; the others as measured on a Xeon of 3.5 GHz with two cores: L2 by
  // tile loads of a whole step (roofline_bench: 24 to 25), L3 and memory as roofline_bench reads 98 and 200 MB (55 and 26 GB/s).
  LevelAttr levels[] = {
      LevelAttr::get(context, "L1", l1.value, 2 * lanes * 4, 5, 1, l1.source),
      LevelAttr::get(context, "L2", l2.value, 32, 15, 1, l2.source),
      LevelAttr::get(context, "L3", l3.value, 8, 70, cores, l3.source),
      LevelAttr::get(context, "memory", int64_t(1) << 40, 4, 300, cores, "assumed: 14 GB/s a core at 3.5 GHz"),
  };
  UnitRates rates = ratesOf(traits.dots);
  llvm::SmallVector<girih::machine::UnitAttr> units = {
      girih::machine::UnitAttr::get(context, "fma", "f32", lanes, 2, 4, traits.registers, rates.fmaSource),
      girih::machine::UnitAttr::get(context, "dot", "i8", lanes * rates.productsPerLane, rates.dotsPerCycle, 5,
                                    traits.registers, rates.dotSource),
      girih::machine::UnitAttr::get(context, "vector", "i32", lanes, vectorsPerCycle(traits), 1, traits.registers,
                                    "assumed: measured on one Xeon"),
  };
  if (traits.dots == ByteDots::Unsigned4)
    units.push_back(girih::machine::UnitAttr::get(context, "dot", "i16", lanes * 2, rates.dotsPerCycle, 5,
                                                  traits.registers, rates.dotSource));
  if (traits.hasTiles)
    units.append({tileUnit(context, "bf16", 32, "CPUID amx-bf16"), tileUnit(context, "i8", 64, "CPUID amx-int8")});
  std::string name = (traits.architecture->machineName + llvm::Twine(" ") + isa).str();
  return DescriptionAttr::get(context, name, "cpu", cores, clock.value, 200, levels, units);
}
