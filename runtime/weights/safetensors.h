// SPDX-License-Identifier: Apache-2.0
// Safetensors: reads the header of a .safetensors file; what it says is checked against the bytes that are there.
#pragma once

#include "runtime/weights/checkpoint_file.h"

namespace girih::weights {

// `bytes`: the whole file; the tensors' bytes point into it. As the format's definition asks, the tensors cover the
// data without holes and without overlap. Fails: DataLoss (truncated, malformed).
Expected<CheckpointFile> readSafetensors(std::span<const uint8_t> bytes);

}  // namespace girih::weights
