// SPDX-License-Identifier: Apache-2.0
// Tables of bits: x86-64's of CPUID and XGETBV (Intel SDM volume 2A, CPUID; volume 1, section 13.3), arm64's of what the
// kernel hands each process (Documentation/arch/arm64/elf_hwcaps.rst).
#include "backends/cpu/device/features.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace girih::cpu {

#if defined(__x86_64__)
namespace {

enum Register { kEax, kEbx, kEcx, kEdx };

struct Feature {
  const char *name;
  uint32_t leaf, subleaf;
  Register where;
  uint32_t bit;
  uint64_t stateBits; // of XCR0 that the kernel must have set
};

constexpr uint64_t kNoState = 0;
constexpr uint64_t kVectorState = 0x6; // SSE and the upper halves of ymm
constexpr uint64_t kMaskState = 0xe6;  // and k0-7, the upper halves of zmm0-15, zmm16-31
constexpr uint64_t kTileState = 0x60000; // the tiles' configuration (bit 17) and the tiles (bit 18)

constexpr Feature kFeatures[] = {
    {"sse4.2", 1, 0, kEcx, 20, kNoState},
    {"popcnt", 1, 0, kEcx, 23, kNoState},
    {"movbe", 1, 0, kEcx, 22, kNoState},
    {"lzcnt", 0x80000001, 0, kEcx, 5, kNoState},
    {"bmi", 7, 0, kEbx, 3, kNoState},
    {"bmi2", 7, 0, kEbx, 8, kNoState},
    {"avx", 1, 0, kEcx, 28, kVectorState},
    {"f16c", 1, 0, kEcx, 29, kVectorState},
    {"fma", 1, 0, kEcx, 12, kVectorState},
    {"avx2", 7, 0, kEbx, 5, kVectorState},
    {"avxvnni", 7, 1, kEax, 4, kVectorState},
    {"avx512f", 7, 0, kEbx, 16, kMaskState},
    {"avx512dq", 7, 0, kEbx, 17, kMaskState},
    {"avx512bw", 7, 0, kEbx, 30, kMaskState},
    {"avx512vl", 7, 0, kEbx, 31, kMaskState},
    {"avx512cd", 7, 0, kEbx, 28, kMaskState},
    {"avx512ifma", 7, 0, kEbx, 21, kMaskState},
    {"avx512vbmi", 7, 0, kEcx, 1, kMaskState},
    {"avx512vbmi2", 7, 0, kEcx, 6, kMaskState},
    {"avx512vnni", 7, 0, kEcx, 11, kMaskState},
    {"avx512bitalg", 7, 0, kEcx, 12, kMaskState},
    {"avx512vpopcntdq", 7, 0, kEcx, 14, kMaskState},
    {"avx512fp16", 7, 0, kEdx, 23, kMaskState},
    {"avx512bf16", 7, 1, kEax, 5, kMaskState},
    {"amx-tile", 7, 0, kEdx, 24, kTileState},
    {"amx-bf16", 7, 0, kEdx, 22, kTileState},
    {"amx-int8", 7, 0, kEdx, 25, kTileState},
};

// XCR0, or 0 where the kernel has not enabled XGETBV.
uint64_t savedState() {
  unsigned registers[4];
  constexpr unsigned kOsXsave = 1u << 27;
  if (!__get_cpuid(1, &registers[0], &registers[1], &registers[2], &registers[3]) ||
      !(registers[kEcx] & kOsXsave))
    return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

} // namespace

int requestTiles() {
  // Linux numbers these; older headers lack them. Bit 18 of XCR0 is the one that asks for permission.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const int refusal = [] {
    errno = 0;
    return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
  }();
  return refusal;
}

std::vector<std::string> grantedFeatures(int (*askForTiles)()) {
  uint64_t state = savedState();
  bool hasTiles = (state & kTileState) == kTileState;
  if (hasTiles && askForTiles() != 0)
    state &= ~kTileState;
  std::vector<std::string> granted;
  for (const Feature &feature : kFeatures) {
    unsigned registers[4] = {};
    if (!__get_cpuid_count(feature.leaf, feature.subleaf, &registers[0], &registers[1], &registers[2],
                           &registers[3]))
      continue;
    bool isThere = (registers[feature.where] >> feature.bit) & 1;
    if (isThere && (state & feature.stateBits) == feature.stateBits)
      granted.push_back(feature.name);
  }
  return granted;
}

std::string tileRefusal(int (*askForTiles)()) {
  int refusal = (savedState() & kTileState) == kTileState ? askForTiles() : 0;
  return refusal == 0 ? ""
                      : "the kernel refuses AMX tiles to this process (" + std::string(std::strerror(refusal)) +
                            "); variants without them are used";
}

std::string processorName() {
  unsigned words[12] = {};
  if (__get_cpuid_max(0x80000000, nullptr) < 0x80000004)
    return "x86-64";
  for (unsigned leaf = 0; leaf < 3; ++leaf)
    __get_cpuid(0x80000002 + leaf, &words[4 * leaf], &words[4 * leaf + 1], &words[4 * leaf + 2],
                &words[4 * leaf + 3]);
  char text[sizeof words + 1] = {};
  std::memcpy(text, words, sizeof words);
  std::string name = text;
  name.erase(0, name.find_first_not_of(' '));
  return name.empty() ? "x86-64" : name;
}
#elif defined(__aarch64__)
namespace {

struct Feature {
  const char *name;
  unsigned long word; // of the auxiliary vector
  uint32_t bit;
};

constexpr Feature kFeatures[] = {
    {"neon", AT_HWCAP, 1},     {"lse", AT_HWCAP, 8},   {"fullfp16", AT_HWCAP, 10},
    {"dotprod", AT_HWCAP, 20}, {"sve", AT_HWCAP, 22},  {"sve2", AT_HWCAP2, 1},
    {"i8mm", AT_HWCAP2, 13},   {"bf16", AT_HWCAP2, 14},
};

} // namespace

int requestTiles() { return ENOTSUP; }

std::vector<std::string> grantedFeatures(int (*)()) {
  std::vector<std::string> granted;
  for (const Feature &feature : kFeatures)
    if ((::getauxval(feature.word) >> feature.bit) & 1)
      granted.push_back(feature.name);
  return granted;
}

std::string tileRefusal(int (*)()) { return {}; }

// The kernel has numbers, no names: implementer and part of the first core.
std::string processorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string name = "arm64";
  for (std::string line; std::getline(file, line) && !line.empty();)
    if (line.starts_with("CPU implementer") || line.starts_with("CPU part"))
      name += (line.starts_with("CPU part") ? " part" : " implementer") + line.substr(line.find(':') + 1);
  return name;
}
#else
namespace {
struct Feature {
  const char *name;
};
constexpr std::array<Feature, 0> kFeatures;
} // namespace

int requestTiles() { return ENOTSUP; }
std::vector<std::string> grantedFeatures(int (*)()) { return {}; }
std::string tileRefusal(int (*)()) { return {}; }
std::string processorName() { return "unknown processor"; }
#endif

std::vector<std::string> knownFeatures() {
  std::vector<std::string> known;
  for (const Feature &feature : kFeatures)
    known.push_back(feature.name);
  return known;
}

} // namespace girih::cpu
