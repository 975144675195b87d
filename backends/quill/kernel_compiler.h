// SPDX-License-Identifier: Apache-2.0
// compileKernels: the C99 of <girih/kernel.h> as quill's instructions.
#pragma once

#include "isa.h"

#include <string_view>

namespace quill {

// Arrays get places in the scratchpad, variables registers, both for as long as their block lasts. Throws Refusal:
// InvalidArgument for a text that is none, ResourceExhausted when a core has no room, with both numbers.
Program compileKernels(std::string_view text);

}  // namespace quill
