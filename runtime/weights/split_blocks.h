// SPDX-License-Identifier: Apache-2.0
// The bit layouts of the block formats: each function takes one block apart into codes, scales and mins.
#pragma once

#include "runtime/weights/formats.h"

namespace girih::weights {

// Fields as the formats' definition (ggml-quants.c) has them; blocks may be unaligned. `parts` is written as the
// format's packed layout in the table says: which codes, which scale type, how many groups.
void splitQ4_0(const uint8_t *block, BlockParts &parts);
void splitQ4_1(const uint8_t *block, BlockParts &parts);
void splitQ5_0(const uint8_t *block, BlockParts &parts);
void splitQ5_1(const uint8_t *block, BlockParts &parts);
void splitQ8_0(const uint8_t *block, BlockParts &parts);
void splitQ2_K(const uint8_t *block, BlockParts &parts);
void splitQ3_K(const uint8_t *block, BlockParts &parts);
void splitQ4_K(const uint8_t *block, BlockParts &parts);
void splitQ5_K(const uint8_t *block, BlockParts &parts);
void splitQ6_K(const uint8_t *block, BlockParts &parts);
void splitIQ4_NL(const uint8_t *block, BlockParts &parts);
void splitIQ4_XS(const uint8_t *block, BlockParts &parts);
void splitMXFP4(const uint8_t *block, BlockParts &parts);

}  // namespace girih::weights
