// SPDX-License-Identifier: Apache-2.0
// describe: this machine as data, seen through one instruction set.
#include "backends/cpu/codegen/describe.h"

#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "llvm/Support/MemoryBuffer.h"

#include <cpuid.h>
#include <sched.h>

using girih::machine::DescriptionAttr;
using girih::machine::LevelAttr;

namespace {

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
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x16, &a, &b, &c, &d) && (a & 0xffff) > 0)
    return {int64_t(a & 0xffff), "CPUID leaf 0x16"};
  return {2500, "assumed"};
}

// 16 x 16 x 32 multiply-adds take 16 cycles, a cycle a row.
girih::machine::UnitAttr bf16TileUnit(mlir::MLIRContext *context) {
  auto tile = girih::machine::TileAttr::get(context, 16, 16, 32);
  return girih::machine::UnitAttr::get(context, "matrix", "bf16", 512, 1, 52, 8, "CPUID amx-bf16", tile);
}

int64_t numCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

}  // namespace

DescriptionAttr girih::cpu::describeMachine(mlir::MLIRContext *context, llvm::StringRef isa) {
  const IsaTraits *traits = findIsa(isa);
  bool wide = traits && traits->hasWideVectors;
  int64_t lanes = wide ? 16 : 8;
  Figure l1 = cacheBytes(1, 32 << 10), l2 = cacheBytes(2, 512 << 10), l3 = cacheBytes(3, 8 << 20);
  int64_t cores = numCores();
  // Bytes a cycle: two loads of a vector from L1; the rates of L2, L3 and memory are assumed, not read.
  LevelAttr levels[] = {
      LevelAttr::get(context, "L1", l1.value, 2 * lanes * 4, 5, 1, l1.source),
      LevelAttr::get(context, "L2", l2.value, 48, 15, 1, l2.source),
      LevelAttr::get(context, "L3", l3.value, 10, 70, cores, l3.source),
      LevelAttr::get(context, "memory", int64_t(1) << 40, 5, 300, cores, "assumed: 13 GB/s a core at 2.6 GHz"),
  };
  int64_t registers = wide ? 32 : 16;
  // Without vpdpbusd a sum of bytes is made of several instructions; it is the same integer (microkernels/byte_dot.h).
  llvm::SmallVector<girih::machine::UnitAttr> units = {
      girih::machine::UnitAttr::get(context, "fma", "f32", lanes, 2, 4, registers,
                                    wide ? "CPUID avx512f" : "CPUID avx2, fma"),
      girih::machine::UnitAttr::get(context, "dot", "i8", lanes * 4, wide ? 2 : 1, 5, registers,
                                    wide ? "CPUID avx512vnni" : "CPUID avx2"),
  };
  if (traits && traits->hasTiles)
    units.push_back(bf16TileUnit(context));
  Figure clock = clockMhz();
  return DescriptionAttr::get(context, ("x86-64 " + isa).str(), "cpu", cores, clock.value, 200, levels, units);
}
