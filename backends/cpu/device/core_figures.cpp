// SPDX-License-Identifier: Apache-2.0
// CoreFigures: CPUID, and two cores that were measured (bench/kernels/roofline_bench, loads and stores in loops).
#include "backends/cpu/device/core_figures.h"

#include <algorithm>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace girih::cpu {
namespace {

constexpr CoreFigures kXeon = {
    3500,
    "assumed: that of one Xeon with both cores at work (roofline_bench)",
    512,
    "assumed: vectors pass whole",
    3,
    2,
    2,
    5,
    4,
    {32, 15, "assumed: measured on one Xeon, tile loads of a whole step give 24 to 25"},
    {8, 70, "assumed: measured on one Xeon, 55 GB/s of 98 MB on two cores"},
    {4, 300, "assumed: measured on one Xeon, 14 GB/s a core at 3.5 GHz"},
};

// Four pipes of vectors, two of which multiply.
constexpr CoreFigures kZen = {
    3600,
    "assumed: that of one EPYC of Zen 4 with both cores at work",
    256,
    "assumed: that of Zen 2 to 4",
    4,
    4,
    2,
    4,
    4,
    {28, 14, "assumed: measured on Zen 4, 28 bytes a cycle of 256 to 768 KiB"},
    {8, 50,
     "assumed: measured on Zen 4, what dispatches of whole steps hand each other goes by at 44 to 54 GB/s on "
     "two cores"},
    {5, 300,
     "assumed: measured on Zen 4 in a virtual machine, 29 to 51 GB/s of 98 MB on two cores, as its "
     "neighbours let it"},
};

constexpr CoreFigures kArm = {
    3500,
    "assumed",
    128,
    "assumed",
    2,
    2,
    2,
    5,
    4,
    {32, 15, "assumed"},
    {8, 70, "assumed"},
    {4, 300, "assumed"},
};

#if defined(__x86_64__)
bool isVendor(const char *name) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  char text[13] = {};
  if (!__get_cpuid(0, &a, &b, &c, &d))
    return false;
  std::memcpy(text, &b, 4);
  std::memcpy(text + 4, &d, 4);
  std::memcpy(text + 8, &c, 4);
  return std::strcmp(text, name) == 0;
}

void readRegisters(CoreFigures &figures) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x16, &a, &b, &c, &d) && (a & 0xffff) > 0) { // virtual machines hide it
    figures.clockMhz = int64_t(a & 0xffff);
    figures.clockSource = "CPUID leaf 0x16";
  }
  constexpr unsigned kWhole = 1u << 3, kHalf = 1u << 2; // FP512, FP256
  if (!__get_cpuid(0x8000001a, &a, &b, &c, &d) || (a & (kWhole | kHalf)) == 0)
    return;
  figures.datapathBits = (a & kWhole) ? 512 : 256;
  figures.datapathSource = (a & kWhole) ? "CPUID leaf 0x8000001A, FP512" : "CPUID leaf 0x8000001A, FP256";
}
#endif

} // namespace

int64_t CoreFigures::vectorsPerCycle(int64_t registerBits) const {
  bool isWide = registerBits > 256;
  return std::max<int64_t>(1, (isWide ? widePerCycle : narrowPerCycle) / passesOf(registerBits));
}

int64_t CoreFigures::multipliesOf(int64_t registerBits) const {
  return std::max<int64_t>(1, multipliesPerCycle / passesOf(registerBits));
}

CoreFigures coreFigures(Core core) {
  if (core != Core::Here)
    return core == Core::X86Server ? kXeon : kArm;
#if defined(__x86_64__)
  CoreFigures figures = isVendor("AuthenticAMD") || isVendor("HygonGenuine") ? kZen : kXeon;
  readRegisters(figures);
  return figures;
#else
  return kArm;
#endif
}

} // namespace girih::cpu
