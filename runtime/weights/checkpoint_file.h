// SPDX-License-Identifier: Apache-2.0
// CheckpointFile: what one weight file says, and the checks that its readers share.
#pragma once

#include "runtime/weights/metadata.h"
#include "runtime/weights/weight_store.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace girih::weights {

// What a reader answers: views into the bytes it was given. fileIndex of the tensors is 0.
struct CheckpointFile {
  Metadata metadata;  // GGUF only
  std::vector<StoredTensor> tensors;
  std::vector<UnreadableTensor> unreadable;
};

// Where a tensor lies in the data of its file.
struct TensorExtent {
  std::string_view name;
  uint64_t beginBytes = 0;
  uint64_t endBytes = 0;
};

// The product of the extents. Fails: DataLoss when one is negative or the product exceeds 2^63 - 1.
Expected<int64_t> countElements(std::span<const int64_t> shape);
// "[2, 3]"
std::string shapeText(std::span<const int64_t> shape);
// Sorts. Fails: DataLoss naming both tensors when two share a byte.
Status checkDisjoint(std::vector<TensorExtent> &extents);
// A name from a file, in quotes, made printable and cut to a length that fits into a message.
std::string quoteName(std::string_view name);

}  // namespace girih::weights
