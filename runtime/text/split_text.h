// SPDX-License-Identifier: Apache-2.0
// Cuts a text into the pieces that merge alone: the patterns of the known pre-tokenizers as hand-written
// scanners.
#pragma once

#include "runtime/text/vocabulary.h"

#include <span>
#include <string_view>
#include <vector>

namespace girih {

// Applies the steps in order, each to the pieces of the one before; no text is lost or reordered.
std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitStep> steps);

// The length of what the step's pattern matches at exactly `at`, 0 for none. Requires: at < text.size().
size_t matchStep(SplitStep step, std::string_view text, size_t at);

} // namespace girih
