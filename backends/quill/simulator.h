// SPDX-License-Identifier: Apache-2.0
// The machine itself: two cores, a scratchpad each, memory that only the DMA unit reaches.
#pragma once

#include "isa.h"

#include <array>

namespace quill {

// A piece of memory at addresses (its number + 1) * 2^40 and on.
struct Segment {
  const char *name;
  uint8_t *bytes;
  uint64_t sizeBytes;
  bool isWritable;
};
constexpr int kSegmentShift = 40;

// `arguments` are the words of a girih_step_args whose pointers are addresses. Returns when both cores have ended. Cores
// run by turns from barrier to barrier, in an order that changes, so that the result is the same each time and a missing
// barrier is not hidden. Throws Refusal, OutOfRange: an access beyond a segment, a table or the scratchpad, with its place.
void run(const Program &program, uint32_t begin, const std::vector<uint64_t> &arguments, const std::vector<Segment> &memory);

}  // namespace quill
