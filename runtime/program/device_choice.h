// SPDX-License-Identifier: Apache-2.0
// Which of this machine's devices could run a program, and in which order they are tried.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace girih::program {

// A device by its backend and its number there, as `girih machine --list` prints them.
struct DeviceName {
  const girih_backend *backend = nullptr; // adopted
  uint64_t index = 0;
  bool operator==(const DeviceName &) const = default;
};
// "vulkan:0".
std::string describe(const DeviceName &device);

struct DeviceChoice {
  std::vector<DeviceName> devices; // best first; at least one
  std::vector<std::string> absent; // why a backend that the file has code for cannot run it here, a sentence each
};

// The devices of `backends` that grant a variant of the program (only `isa`, where it is not empty): first those that
// have processors of their own, then those that compute on the host's; each in the order of `backends`. Backends that
// the file has no code for are not asked. Fails: Unavailable (none; says why for each), InvalidArgument (the file has
// no such variant).
Expected<DeviceChoice> chooseDevices(const Tables &tables, const std::vector<const girih_backend *> &backends,
                                     const std::string &isa);

// For the rest of a step that its device runs a part of: the first device of `backends` that runs one of `executables`, and which of them. Fails: Unavailable.
Expected<std::pair<DeviceName, const Executable *>> chooseRest(std::span<const Executable> executables,
                                                               const std::vector<const girih_backend *> &backends);

} // namespace girih::program
