// SPDX-License-Identifier: Apache-2.0
// describe: this machine as data, seen through one instruction set.
#include "backends/cpu/codegen/describe.h"

#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/device/core_figures.h"

#include "llvm/Support/MemoryBuffer.h"

#include <sched.h>

using girih::cpu::ByteDots;
using girih::cpu::Core;
using girih::cpu::CoreFigures;
using girih::cpu::IsaTraits;
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
    bool isWanted =
        firstLine(base + "level") == std::to_string(level) && firstLine(base + "type") != "Instruction";
    if (isWanted && !llvm::StringRef(firstLine(base + "size")).rtrim('K').getAsInteger(10, kibibytes) &&
        kibibytes > 0)
      return {kibibytes * 1024, "sysfs cache (CPUID leaf 4)"};
  }
  return {assumed, "assumed"};
}

// A tile of products takes 16 cycles, a cycle a row: of 64 bytes of k.
girih::machine::UnitAttr tileUnit(mlir::MLIRContext *context, llvm::StringRef element, int64_t depth,
                                  llvm::StringRef source) {
  auto tile = girih::machine::TileAttr::get(context, 16, 16, depth);
  return girih::machine::UnitAttr::get(context, "matrix", element, 16 * depth, 1, 52, 8, source, tile);
}

// Where one instruction does not do it, a sum of bytes is made of several; it is the same integer (microkernels/byte_dot.h).
struct UnitRates {
  int64_t productsPerLane, instructions;
  const char *fmaSource, *dotSource;
};

UnitRates ratesOf(ByteDots dots) {
  switch (dots) {
  case ByteDots::MultiplyAdd:
    return {4, 2, "CPUID avx2, fma", "CPUID avx2"};
  case ByteDots::Unsigned4:
    return {4, 1, "CPUID avx512f", "CPUID avx512vnni"};
  case ByteDots::Widening:
    return {2, 2, "HWCAP asimd", "HWCAP asimd"};
  case ByteDots::Signed4:
    return {4, 1, "HWCAP asimd", "HWCAP asimddp"};
  case ByteDots::Signed8:
    return {8, 1, "HWCAP asimd", "HWCAP2 i8mm"};
  }
  return {};
}

int64_t numCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

} // namespace

DescriptionAttr girih::cpu::describeMachine(mlir::MLIRContext *context, llvm::StringRef isa) {
  const IsaTraits &traits = *findIsa(isa);
  // Of another architecture's machine nothing can be read here; of one that has what this processor lacks, caches are
  // those of a server that has it.
  bool isHere = isHostArchitecture(*traits.architecture), isGranted = isHere && isGrantedHere(traits);
  bool isServer = traits.architecture->name == "x86";
  CoreFigures core = coreFigures(isGranted ? Core::Here : isServer ? Core::X86Server : Core::Arm64);
  constexpr int64_t kAssumedCores = 4;
  constexpr int64_t kServer[] = {48 << 10, 2 << 20, 105 << 20}, kSmall[] = {64 << 10, 512 << 10, 8 << 20};
  auto sizeOf = [&](int level) {
    Figure assumed{(isServer ? kServer : kSmall)[level - 1], "assumed"};
    return isGranted ? cacheBytes(level, assumed.value) : assumed;
  };
  auto sourceOf = [](Figure size, llvm::StringRef rate) {
    return ("size: " + llvm::Twine(size.source) + "; rate " + rate).str();
  };
  int64_t lanes = traits.registerLanes, bits = 32 * lanes, cores = isHere ? numCores() : kAssumedCores;
  Figure l1 = sizeOf(1), l2 = sizeOf(2), l3 = sizeOf(3);
  int64_t nearBytes = 2 * lanes * 4 / core.passesOf(bits); // two loads a cycle, of one pass each
  LevelAttr levels[] = {
      LevelAttr::get(context, "L1", l1.value, nearBytes, core.nearLatency, 1,
                     sourceOf(l1, core.datapathSource)),
      LevelAttr::get(context, "L2", l2.value, core.second.bytesPerCycle, core.second.latencyCycles, 1,
                     sourceOf(l2, core.second.source)),
      LevelAttr::get(context, "L3", l3.value, core.third.bytesPerCycle, core.third.latencyCycles, cores,
                     sourceOf(l3, core.third.source)),
      LevelAttr::get(context, "memory", int64_t(1) << 40, core.memory.bytesPerCycle,
                     core.memory.latencyCycles, cores, core.memory.source),
  };
  UnitRates rates = ratesOf(traits.dots);
  auto unit = [&](llvm::StringRef name, llvm::StringRef element, int64_t elements, int64_t perCycle,
                  int64_t latency, llvm::StringRef source) {
    return girih::machine::UnitAttr::get(context, name, element, elements, perCycle, latency,
                                         traits.registers,
                                         (source + "; a cycle: " + core.datapathSource).str());
  };
  int64_t multiplies = core.multipliesOf(bits), dots = std::max<int64_t>(1, multiplies / rates.instructions);
  llvm::SmallVector<girih::machine::UnitAttr> units = {
      unit("fma", "f32", lanes, multiplies, core.multiplyLatency, rates.fmaSource),
      unit("dot", "i8", lanes * rates.productsPerLane, dots, 5, rates.dotSource),
      unit("vector", "i32", lanes, core.vectorsPerCycle(bits), 1, rates.fmaSource),
  };
  if (traits.dots == ByteDots::Unsigned4)
    units.push_back(unit("dot", "i16", lanes * 2, dots, 5, rates.dotSource));
  if (traits.hasTiles)
    units.append(
        {tileUnit(context, "bf16", 32, "CPUID amx-bf16"), tileUnit(context, "i8", 64, "CPUID amx-int8")});
  std::string name = (traits.architecture->machineName + llvm::Twine(" ") + isa).str();
  return DescriptionAttr::get(context, name, "cpu", cores, core.clockMhz, 200, levels, units);
}
