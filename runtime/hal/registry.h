// SPDX-License-Identifier: Apache-2.0
// The backends that are built in, by name.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include <string>
#include <vector>

namespace girih::hal {

// The built-in backend of that name. Fails: NotFound, listing those there are.
Expected<const girih_backend *> findBackend(const std::string &name);

// All of them, in the order of GIRIH_BACKENDS; one that is not sound is left out.
std::vector<const girih_backend *> builtInBackends();

} // namespace girih::hal
