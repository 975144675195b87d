// SPDX-License-Identifier: Apache-2.0
// Tensor and Datum: the values of the reference.
#include "backends/reference/tensor.h"

#include "runtime/base/status.h"

namespace girih::reference {

int64_t countElements(const std::vector<int64_t> &shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

Tensor::Tensor(std::vector<int64_t> shape, double fill)
    : extents(std::move(shape)), values(std::make_shared<std::vector<double>>(countElements(extents), fill)) {
}

Tensor::Tensor(std::vector<int64_t> shape, std::vector<double> elements)
    : extents(std::move(shape)), values(std::make_shared<std::vector<double>>(std::move(elements))) {
  GIRIH_CHECK(countElements(extents) == numElements());
}

std::vector<int64_t> Tensor::strides() const {
  std::vector<int64_t> result(extents.size());
  int64_t stride = 1;
  for (size_t axis = extents.size(); axis-- > 0;) {
    result[axis] = stride;
    stride *= extents[axis];
  }
  return result;
}

double *Tensor::mutableElements() {
  if (values.use_count() > 1)
    values = std::make_shared<std::vector<double>>(*values);
  return values->data();
}

Tensor Tensor::reshaped(std::vector<int64_t> shape) const {
  GIRIH_CHECK(countElements(shape) == numElements());
  Tensor result = *this;
  result.extents = std::move(shape);
  return result;
}

} // namespace girih::reference
