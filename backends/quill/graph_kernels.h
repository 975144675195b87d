// SPDX-License-Identifier: Apache-2.0
// writeKernels: whole operations (<girih/graph.h>) as the C99 that quill compiles.
#pragma once

#include <string>
#include <string_view>

namespace quill {

// Throws Refusal: Unimplemented (an operation or type that quill has no kernel for), InvalidArgument (no graph).
std::string writeKernels(std::string_view graph);

// "" when quill has a kernel of that name, else why not.
std::string reasonAgainst(std::string_view operation);

}  // namespace quill
