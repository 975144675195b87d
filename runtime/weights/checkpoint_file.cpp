// SPDX-License-Identifier: Apache-2.0
// CheckpointFile: the checks that the readers of weight files share.
#include "runtime/weights/checkpoint_file.h"

#include "runtime/base/json.h"

#include <algorithm>

namespace girih::weights {

Expected<int64_t> countElements(std::span<const int64_t> shape) {
  int64_t numElements = 1;
  bool fits = true;
  for (int64_t extent : shape)
    fits = fits && extent >= 0 && !__builtin_mul_overflow(numElements, extent, &numElements);
  if (!fits)
    return dataLoss("shape " + shapeText(shape) + " has more than 2^63 - 1 elements or a negative extent");
  return numElements;
}

std::string shapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

Status checkDisjoint(std::vector<TensorExtent> &extents) {
  std::sort(extents.begin(), extents.end(), [](const TensorExtent &left, const TensorExtent &right) {
    return std::pair(left.beginBytes, left.endBytes) < std::pair(right.beginBytes, right.endBytes);
  });
  const TensorExtent *previous = nullptr;  // the last one that has bytes
  for (const TensorExtent &extent : extents) {
    if (extent.beginBytes == extent.endBytes)
      continue;
    if (previous && extent.beginBytes < previous->endBytes)
      return dataLoss("tensors " + quoteName(previous->name) + " and " + quoteName(extent.name) +
                      " overlap: the first ends at byte " + std::to_string(previous->endBytes) +
                      " of the data, the second starts at " + std::to_string(extent.beginBytes));
    previous = &extent;
  }
  return {};
}

std::string quoteName(std::string_view name) {
  constexpr size_t kLongestName = 120;
  std::string text;
  appendJsonString(text, name.substr(0, kLongestName));
  return name.size() <= kLongestName ? text : text + "...";
}

}  // namespace girih::weights
