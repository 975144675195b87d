// SPDX-License-Identifier: Apache-2.0
// What a run found, as JSON for programs and as HTML for people.
#pragma once

#include "tests/backends/conformance/run_case.h"

namespace girih::conformance {

void writeJson(const std::string &path, const Options &options, const std::vector<Result> &results);
void writeHtml(const std::string &path, const Options &options, const std::vector<Result> &results);

} // namespace girih::conformance
