// SPDX-License-Identifier: Apache-2.0
// The CPU backend's compile table, behind the same query as any vendor's.
#pragma once

#include "runtime/abi/backend.h"

// Answers the compile table only: the run table is the device half's, which a compiler does not need.
extern "C" const girih_backend *girih_cpu_compile_query(const girih_host *host);
