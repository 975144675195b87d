// SPDX-License-Identifier: Apache-2.0
// The backends that this process can use: those built in, and those loaded from a library.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include <string>

namespace girih::hal {

// The built-in backend of that name. Fails: NotFound, listing those there are.
Expected<const girih_backend *> findBackend(const std::string &name);

// Opens a vendor's library; it stays loaded. Fails: NotFound, FailedPrecondition (no query symbol),
// Unimplemented (another major version of the ABI, or a table that lacks a required function).
Expected<const girih_backend *> loadBackend(const std::string &libraryPath);

} // namespace girih::hal
