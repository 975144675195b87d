// SPDX-License-Identifier: Apache-2.0
// The report of `girih inspect`: a program's tables as text for people and as JSON for scripts.
#pragma once

#include "runtime/program/program.h"

#include <string>

namespace girih::tools {

// One screen; with `allTensors` a line for every tensor instead of one for each format and treatment.
std::string programReportText(const program::Program &program, bool allTensors);
// Everything, in one object: model, variants, generation, tokenizer, tensors, quantization, dispatches, goldens, notes.
std::string programReportJson(const program::Program &program);

}  // namespace girih::tools
