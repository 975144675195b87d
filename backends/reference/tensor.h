// SPDX-License-Identifier: Apache-2.0
// Tensor and Datum: the values of the reference. Every number, integers too, is a double (exact below 2^53).
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

namespace girih::reference {

// Row-major. Copies share their elements; whoever writes takes its own with `mutableElements` first.
class Tensor {
public:
  Tensor() = default;
  // Every element is `fill`.
  explicit Tensor(std::vector<int64_t> shape, double fill = 0);
  // Requires: elements fill the shape.
  Tensor(std::vector<int64_t> shape, std::vector<double> elements);

  const std::vector<int64_t> &shape() const { return extents; }
  int64_t rank() const { return static_cast<int64_t>(extents.size()); }
  int64_t numElements() const { return static_cast<int64_t>(values->size()); }
  std::vector<int64_t> strides() const;
  const double *elements() const { return values->data(); }
  double *mutableElements();
  // The same elements in another shape of as many.
  Tensor reshaped(std::vector<int64_t> shape) const;

private:
  std::vector<int64_t> extents;
  std::shared_ptr<std::vector<double>> values = std::make_shared<std::vector<double>>(1);
};

// One layer's cache of one sequence whose step is its entire prefix: what was appended, [T, G, D] and [T, G,
// Dv]. A value of it is a state that ops pass on, so copies share the rows: a loop's tiles all append to the
// same ones.
struct KvState {
  struct Rows {
    Tensor keys;
    Tensor values;
  };
  std::shared_ptr<Rows> rows = std::make_shared<Rows>();
};

using Datum = std::variant<double, Tensor, KvState>;

// Product of the extents.
int64_t countElements(const std::vector<int64_t> &shape);

} // namespace girih::reference
