// SPDX-License-Identifier: Apache-2.0
// The query that answers with the compile table.
#pragma once

#include "runtime/abi/backend.h"

extern "C" const girih_backend *girih_vulkan_compile_query(const girih_host *host);
