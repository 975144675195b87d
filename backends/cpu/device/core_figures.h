// SPDX-License-Identifier: Apache-2.0
// CoreFigures: what one core does in a cycle, read where the processor says it and else as it was measured once.
#pragma once

#include <cstdint>

namespace girih::cpu {

// No figure is measured here: descriptions made twice are equal.
struct CoreFigures {
  int64_t clockMhz;
  const char *clockSource;
  int64_t datapathBits; // of vectors; an instruction on wider registers takes as many passes
  const char *datapathSource;
  // Instructions a cycle, of one pass each: any on vectors, on those as wide as the datapath can be, that multiply.
  int64_t narrowPerCycle, widePerCycle, multipliesPerCycle;
  int64_t nearLatency, multiplyLatency; // cycles: of the first level, of a multiply-add
  // Bytes a cycle that one core reads of the farther levels while the others read too, and cycles until the first comes.
  struct Level {
    int64_t bytesPerCycle, latencyCycles;
    const char *source;
  } second, third, memory;

  int64_t passesOf(int64_t registerBits) const { return (registerBits + datapathBits - 1) / datapathBits; }
  int64_t vectorsPerCycle(int64_t registerBits) const;
  int64_t multipliesOf(int64_t registerBits) const;
};

// That which this runs on, or one of a kind, as it is assumed to be.
enum class Core { Here, X86Server, Arm64 };
CoreFigures coreFigures(Core core = Core::Here);

} // namespace girih::cpu
