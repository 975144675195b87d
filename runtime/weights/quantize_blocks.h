// SPDX-License-Identifier: Apache-2.0
// Weights of floats as blocks of integers: what a checkpoint of f16 or bf16 becomes when it is quantised while compiling.
#pragma once

#include "runtime/weights/formats.h"

#include <span>
#include <string>
#include <string_view>

namespace girih::weights {

// "q4_0, q4_1, q5_0, q5_1 and q8_0": what can be written.
std::string writableFormatNames();
bool isWritable(StorageFormat format);

// The blocks of `values`, nearest value by value, the bits that GGML's own definition gives. Requires: isWritable(format),
// `values` in whole blocks and finite, `blocks` holds their storageBytes. Thread-safe.
void quantize(StorageFormat format, std::span<const float> values, uint8_t *blocks);

// What a tensor is stored as in a model that is quantised to `wanted`: q8_0 for the embeddings and the head, which hold
// a quarter of a small model's quality; `stored` for what is no matrix of floats in whole blocks, for routers of experts and
// for positions, all small and all sensitive.
StorageFormat formatWanted(std::string_view tensorName, std::span<const int64_t> shape, StorageFormat stored,
                           StorageFormat wanted);

} // namespace girih::weights
