// SPDX-License-Identifier: Apache-2.0
// reduce: the smallest step at which a case still fails, as files that a vendor can look at.
#pragma once

#include "tests/backends/conformance/run_case.h"

namespace girih::conformance {

// Writes into options.reduce what the failing case last submitted: its graph or its kernels with the one entry, what the
// bindings held, and how to see it again. Extents are made smaller as long as the case fails in the same way. The exit status.
int reduce(const Case &check, const Options &options);

} // namespace girih::conformance
