// SPDX-License-Identifier: Apache-2.0
// MemoryRoofline: the tokens a second that reading memory allows, from the program's tensors and a measured bandwidth.
#pragma once

#include "runtime/program/program.h"

#include <cstdint>

namespace girih::tools {

struct MemoryRoofline {
  double readBytesPerSecond = 0;   // best of several passes over the program's own weights
  uint64_t decodeStepBytes = 0;    // weights once, and the KV cache of every sequence
  double decodeTokensPerSecond = 0;  // numSequences tokens in the time of one such read
};

// Bytes that one decode step must read when nothing stays in a cache between steps. Of a table that is only looked up
// (an embedding that is not also the head), a row for each sequence.
uint64_t decodeStepBytes(const program::Program &program, uint32_t numSequences, uint32_t contextTokens);

// Reads the weights with `numThreads` threads, several times, and takes the fastest. `contextTokens`: cached positions
// of each sequence, at the middle of what is measured beside it.
MemoryRoofline measureMemoryRoofline(const program::Program &program, int32_t numThreads, uint32_t numSequences,
                                     uint32_t contextTokens);

}  // namespace girih::tools
