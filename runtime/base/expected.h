// SPDX-License-Identifier: Apache-2.0
// Expected<T>: a value, or the Status that says why there is none; and the two macros that pass failures on.
#pragma once

#include "runtime/base/status.h"

#include <type_traits>
#include <utility>
#include <variant>

namespace girih {

template <typename T>
class [[nodiscard]] Expected {
public:
  Expected(T value) : state(std::in_place_index<0>, std::move(value)) {}
  // Requires: !status.isOk().
  Expected(Status status) : state(std::in_place_index<1>, std::move(status)) {
    GIRIH_CHECK(!std::get<1>(state).isOk());
  }

  bool isOk() const { return state.index() == 0; }
  // Requires: isOk().
  T &value() & { GIRIH_CHECK(isOk()); return std::get<0>(state); }
  const T &value() const & { GIRIH_CHECK(isOk()); return std::get<0>(state); }
  T &&value() && { GIRIH_CHECK(isOk()); return std::get<0>(std::move(state)); }
  T &operator*() & { return value(); }
  const T &operator*() const & { return value(); }
  T *operator->() { return &value(); }
  const T *operator->() const { return &value(); }
  // Requires: !isOk().
  const Status &status() const & { GIRIH_CHECK(!isOk()); return std::get<1>(state); }
  Status status() && { GIRIH_CHECK(!isOk()); return std::get<1>(std::move(state)); }

private:
  std::variant<T, Status> state;
};

}  // namespace girih

#define GIRIH_CONCAT_INNER(a, b) a##b
#define GIRIH_CONCAT(a, b) GIRIH_CONCAT_INNER(a, b)
// Returns from the enclosing function when the Status `expr` is not OK.
#define GIRIH_TRY(expr)                                        \
  do {                                                         \
    if (::girih::Status girihStatus = (expr); !girihStatus.isOk()) \
      return girihStatus;                                      \
  } while (false)
// Declares or assigns `var` from the Expected `expr`, or returns its Status: GIRIH_ASSIGN(auto file, open(path)).
#define GIRIH_ASSIGN(var, expr)                                             \
  auto GIRIH_CONCAT(girihExpected, __LINE__) = (expr);                      \
  if (!GIRIH_CONCAT(girihExpected, __LINE__).isOk())                        \
    return std::move(GIRIH_CONCAT(girihExpected, __LINE__)).status();       \
  var = std::move(GIRIH_CONCAT(girihExpected, __LINE__)).value()
