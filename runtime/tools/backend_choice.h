// SPDX-License-Identifier: Apache-2.0
// --backend: a built-in backend by name, or a vendor's library by path.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include <string>

namespace girih::tools {

// What --backend names: a path has a slash or ends in .so. A library is probed in a process of its own before this one
// opens it. Fails as hal::probeBackend, hal::loadBackend and hal::findBackend do.
Expected<const girih_backend *> openBackend(const std::string &nameOrPath);

}  // namespace girih::tools
