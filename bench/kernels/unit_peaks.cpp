// SPDX-License-Identifier: Apache-2.0
// Loops of independent chains, so that neither latency nor loads but the unit itself is what is waited for. Operands are
// random, as a kernel's are: with zeros, or the same ones every time, a unit takes less power and the clock stays higher.
#include "bench/kernels/unit_peaks.h"

#include <bit>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace girih::bench {
namespace {

constexpr int64_t kRounds = 2'000'000;
constexpr int kChains = 12; // hides a latency of four to six cycles on two ports with room to spare

#if defined(__x86_64__)

constexpr int kOperands = 4; // of each side, by turns
constexpr int kTileBytes = 1024;

// As bytes any numbers; as f32 and as bf16 normal ones of both signs, from 1 to 2.
struct alignas(64) Operands {
  uint8_t bytes[kOperands * kTileBytes];
  float floats[kOperands * 16];
  uint16_t halves[kOperands * kTileBytes / 2];

  Operands() {
    uint64_t state = 0x9e3779b97f4a7c15;
    auto next = [&] {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      return static_cast<uint32_t>(state >> 32);
    };
    for (uint8_t &byte : bytes)
      byte = static_cast<uint8_t>(next());
    for (float &value : floats)
      value = std::bit_cast<float>((next() & 0x807fffff) | 0x3f800000);
    for (uint16_t &half : halves)
      half = static_cast<uint16_t>((next() & 0x807f) | 0x3f80);
  }
};
const Operands kRandom;

__attribute__((target("avx512f"))) float wideMultiplyAdd() {
  __m512 sums[kChains] = {}, left[kOperands], right[kOperands];
  for (int operand = 0; operand < kOperands; ++operand) {
    left[operand] = _mm512_load_ps(kRandom.floats + operand * 16);
    right[operand] = _mm512_load_ps(kRandom.floats + (kOperands - 1 - operand) * 16);
  }
  for (int64_t round = 0; round < kRounds; ++round)
    for (int chain = 0; chain < kChains; ++chain)
      sums[chain] = _mm512_fmadd_ps(left[chain % kOperands], right[chain / kOperands], sums[chain]);
  float total = 0;
  for (const __m512 &sum : sums)
    total += _mm512_cvtss_f32(sum);
  return total;
}

__attribute__((target("avx2,fma"))) float multiplyAdd() {
  __m256 sums[kChains] = {}; // and one operand of each side: there are 16 registers
  __m256 left = _mm256_load_ps(kRandom.floats), right = _mm256_load_ps(kRandom.floats + 16);
  for (int64_t round = 0; round < kRounds; ++round)
    for (__m256 &sum : sums)
      sum = _mm256_fmadd_ps(left, right, sum);
  float total = 0;
  for (const __m256 &sum : sums)
    total += _mm256_cvtss_f32(sum);
  return total;
}

// Without a dot instruction, codes of few bits: pairs of products of bytes are added in 16 bits, as many as fit with
// codes of so many bits and signed bytes, then those in pairs, then the sum. The empty asm makes each product a new one,
// or the compiler would compute it once.
template <int kProducts> __attribute__((target("avx2"))) float codeDot() {
  __m256i sums[kChains] = {}, ones = _mm256_set1_epi16(1);
  __m256i left = _mm256_load_si256(reinterpret_cast<const __m256i *>(kRandom.bytes));
  __m256i right = _mm256_load_si256(reinterpret_cast<const __m256i *>(kRandom.bytes + 32));
  for (int64_t round = 0; round < kRounds; ++round)
    for (__m256i &sum : sums) {
      __m256i pairs = _mm256_maddubs_epi16(left, right);
      for (int product = 1; product < kProducts; ++product) {
        asm volatile("" : "+x"(left));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(left, right));
      }
      asm volatile("" : "+x"(left));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  float total = 0;
  for (const __m256i &sum : sums)
    total += float(_mm256_extract_epi32(sum, 0));
  return total;
}

// The same of any signed bytes: pairs of their products do not fit 16 bits, so that the bytes are made 16 bits wide,
// elsewhere and once.
__attribute__((target("avx2"))) float wideCodeDot() {
  __m256i sums[kChains] = {};
  __m256i left = _mm256_load_si256(reinterpret_cast<const __m256i *>(kRandom.bytes));
  __m256i right = _mm256_load_si256(reinterpret_cast<const __m256i *>(kRandom.bytes + 32));
  for (int64_t round = 0; round < kRounds; ++round)
    for (__m256i &sum : sums) {
      asm volatile("" : "+x"(left));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(left, right));
    }
  float total = 0;
  for (const __m256i &sum : sums)
    total += float(_mm256_extract_epi32(sum, 0));
  return total;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) float byteDot() {
  __m512i sums[kChains] = {}, left[kOperands], right[kOperands];
  for (int operand = 0; operand < kOperands; ++operand) {
    left[operand] = _mm512_load_si512(kRandom.bytes + operand * 64);
    right[operand] = _mm512_load_si512(kRandom.bytes + (kOperands + operand) * 64);
  }
  for (int64_t round = 0; round < kRounds; ++round)
    for (int chain = 0; chain < kChains; ++chain)
      sums[chain] = _mm512_dpbusd_epi32(sums[chain], left[chain % kOperands], right[chain / kOperands]);
  float total = 0;
  for (const __m512i &sum : sums)
    total += float(_mm512_cvtsi512_si32(sum));
  return total;
}

constexpr int64_t kTileRounds = 200'000;

struct alignas(64) TileShapes {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// By asm: gcc 12's intrinsic tells the compiler of 8 of the 64 bytes that are read.
void configureTiles() {
  static const TileShapes shapes;
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}
void releaseTiles() { asm volatile("tilerelease"); }

// Four accumulators of two by two tiles, as a kernel uses them: eight registers hold no more sums beside their operands,
// so that each operand is loaded for every two products. Loads beside products cost a fifth of the unit's rate, even from
// the first level and with nothing waiting for them: what no matmul can do is no roof. `PRODUCT` is the instruction.
#define GIRIH_TILE_PEAK(PRODUCT, OPERANDS)                                                                   \
  configureTiles();                                                                                          \
  asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::);               \
  for (int64_t round = 0; round < kTileRounds; ++round)                                                      \
    asm volatile("tileloadd (%0,%4), %%tmm4\n\ttileloadd (%2,%4), %%tmm6\n\t" PRODUCT                        \
                 " %%tmm6, %%tmm4, %%tmm0\n\ttileloadd (%1,%4), %%tmm5\n\t" PRODUCT                          \
                 " %%tmm6, %%tmm5, %%tmm2\n\ttileloadd (%3,%4), %%tmm7\n\t" PRODUCT                          \
                 " %%tmm7, %%tmm4, %%tmm1\n\t" PRODUCT " %%tmm7, %%tmm5, %%tmm3"                             \
                 :                                                                                           \
                 : "r"(OPERANDS), "r"((OPERANDS) + kTileBytes), "r"((OPERANDS) + 2 * kTileBytes),            \
                   "r"((OPERANDS) + 3 * kTileBytes), "r"(int64_t{64})                                        \
                 : "memory");                                                                                \
  releaseTiles();                                                                                            \
  return 0

float tileByteDot() { GIRIH_TILE_PEAK("tdpbssd", kRandom.bytes); }

float tileBrainFloatDot() { GIRIH_TILE_PEAK("tdpbf16ps", reinterpret_cast<const uint8_t *>(kRandom.halves)); }

#undef GIRIH_TILE_PEAK

// The processor's word is not enough: the kernel grants tiles on request, to the whole process.
bool areTilesGranted() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
    return false;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBf16 = 1u << 22;
  return (edx & (kTile | kInt8 | kBf16)) == (kTile | kInt8 | kBf16) &&
         ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#endif

float plainMultiplyAdd() {
  float sums[kChains * 4] = {};
  for (int64_t round = 0; round < kRounds; ++round)
    for (float &sum : sums)
      sum = sum * 0.999f + 0.5f; // contracted to one fused multiply-add where there is one
  float total = 0;
  for (float sum : sums)
    total += sum;
  return total;
}

} // namespace

std::vector<UnitPeak> unitPeaks() {
  std::vector<UnitPeak> units;
#if defined(__x86_64__)
  constexpr double kPerRound = 2.0 * kChains * kRounds;
  bool hasWide = __builtin_cpu_supports("avx512f");
  if (hasWide)
    units.push_back({"f32", wideMultiplyAdd, 16 * kPerRound});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    units.push_back({hasWide ? "f32_avx2" : "f32", multiplyAdd, 8 * kPerRound});
    units.push_back({"int4_avx2", codeDot<8>, 8 * 32 * kPerRound});
    units.push_back({"int5_avx2", codeDot<4>, 4 * 32 * kPerRound});
    units.push_back({"int6_avx2", codeDot<2>, 2 * 32 * kPerRound});
    units.push_back({"int8_avx2", wideCodeDot, 16 * kPerRound});
  }
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
    units.push_back({"int8_vnni", byteDot, 64 * kPerRound});
  if (areTilesGranted()) {
    constexpr double kTilesPerRun = 4.0 * kTileRounds;
    units.push_back({"bf16_amx", tileBrainFloatDot, kTilesPerRun * 16 * 16 * 32 * 2});
    units.push_back({"int8_amx", tileByteDot, kTilesPerRun * 16 * 16 * 64 * 2});
  }
#endif
  if (units.empty())
    units.push_back({"f32", plainMultiplyAdd, 2.0 * 4 * kChains * kRounds});
  return units;
}

} // namespace girih::bench
