// SPDX-License-Identifier: Apache-2.0
// Tries a vendor's library in a process of its own, so that what is wrong with it ends that process and not this one.
#pragma once

#include "runtime/base/expected.h"

#include <string>

namespace girih::hal {

// Loads the library, asks it everything that needs no kernel, opens its first device and moves a few bytes through it.
// Fails naming the call: Unavailable (it crashes, hangs for longer than `limitSeconds`, or ends the process), and with
// the code and text of the first call that fails. Requires: no other thread of this process holds a lock that the
// library takes (it runs after a fork): best before any are started.
Status probeBackend(const std::string &libraryPath, double limitSeconds = 20);

} // namespace girih::hal
