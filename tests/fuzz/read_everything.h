// SPDX-License-Identifier: Apache-2.0
// What a compiler does with an accepted checkpoint: touch every key, dequantize and pack every tensor.
#pragma once

#include "runtime/weights/checkpoint_file.h"
#include "runtime/weights/pack.h"

#include <numeric>
#include <vector>

namespace girih::weights {

inline void readEveryPair(const Metadata &metadata) {
  for (const MetadataEntry &entry : metadata.entries()) {
    GIRIH_CHECK(metadata.find(entry.key) == &entry.value);
    (void)metadata.integer(entry.key).isOk();
    (void)metadata.number(entry.key).isOk();
    (void)metadata.string(entry.key).isOk();
    auto array = metadata.array(entry.key);
    if (!array.isOk())
      continue;
    (void)(*array)->asIntegers().isOk();
    (void)(*array)->asNumbers().isOk();
    (void)(*array)->asStrings().isOk();
  }
}

// Requires: the tensor is accepted, so its bytes match its shape; small inputs hold no large tensors.
inline void packTensor(const StoredTensor &tensor, const PackedLayout &layout) {
  auto plan = PackPlan::create(layout, RowMatrix::of(tensor));
  // Padding can make much of little: leave what no compiler would keep in memory either.
  if (!plan.isOk() || plan->totalBytes() > 1 << 24)
    return;
  std::vector<uint8_t> packed(static_cast<size_t>(plan->totalBytes()));
  plan->pack(packed.data());
}

inline void readEveryTensor(const CheckpointFile &file) {
  for (const StoredTensor &tensor : file.tensors) {
    int64_t numElements =
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t(1), std::multiplies<>());
    GIRIH_CHECK(numElements == tensor.numElements);
    std::vector<float> values(static_cast<size_t>(numElements));
    dequantize(tensor, values.data());
    packTensor(tensor, formatRow(tensor.format).packed);
    packTensor(tensor, PackedLayout::dense());
  }
}

} // namespace girih::weights
