// SPDX-License-Identifier: Apache-2.0
// Which of a program's executables this machine runs.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include <span>
#include <string>
#include <vector>

namespace girih::program {

// Picks among the executables of `backend` the one of highest preference whose features are all in `granted`;
// with `isa` not empty, only that one. The result points into them.
// Fails: Unavailable (this machine does not grant it: says what is missing for each), InvalidArgument (the
// file has no variant of that name: lists those it has).
Expected<const Executable *> selectVariant(std::span<const Executable> executables, const std::string &backend,
                                           std::span<const std::string> granted, const std::string &isa);
inline Expected<const Executable *> selectVariant(const Tables &tables, const std::string &backend,
                                                  std::span<const std::string> granted, const std::string &isa) {
  return selectVariant(tables.executables, backend, granted, isa);
}

} // namespace girih::program
