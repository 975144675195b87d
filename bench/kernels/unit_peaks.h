// SPDX-License-Identifier: Apache-2.0
// The arithmetic units of this machine, each with a loop that keeps it as busy as it can be.
#pragma once

#include <vector>

namespace girih::bench {

struct UnitPeak {
  const char *name;  // "f32", "f32_avx2", "int4_avx2" to "int8_avx2", "int8_vnni", "bf16_amx", "int8_amx"
  float (*run)();    // the value keeps the work alive
  double operations; // multiplies and adds of one run
};

// Those that processor and kernel grant. On x86-64 only f32 elsewhere.
std::vector<UnitPeak> unitPeaks();

} // namespace girih::bench
