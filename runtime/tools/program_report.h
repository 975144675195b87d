// SPDX-License-Identifier: Apache-2.0
// The report of `girih inspect`: a program's tables as text for people and as JSON for scripts.
#pragma once

#include "runtime/program/program.h"

#include <string>

namespace girih::tools {

// One or two screens; with `everything` a line for every tensor and every dispatch, instead of sums.
std::string programReportText(const program::Program &program, bool everything);
// Everything, in one object: model, variants, generation, tokenizer, tensors, quantization, dispatches, goldens, notes.
std::string programReportJson(const program::Program &program);

}  // namespace girih::tools
