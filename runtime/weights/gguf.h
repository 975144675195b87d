// SPDX-License-Identifier: Apache-2.0
// GGUF: reads the header of a version 2 or 3 file; what it says is checked against the bytes that are there.
#pragma once

#include "runtime/weights/checkpoint_file.h"

namespace girih::weights {

// `bytes`: the whole file; what is returned points into it. No count, length or offset of the file is believed.
// Fails: FailedPrecondition (another kind of file), Unimplemented (big-endian, version, tensor type),
// DataLoss (truncated, overlapping, misaligned, repeated names or keys).
Expected<CheckpointFile> readGguf(std::span<const uint8_t> bytes);

}  // namespace girih::weights
