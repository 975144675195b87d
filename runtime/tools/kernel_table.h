// SPDX-License-Identifier: Apache-2.0
// The table of `girih bench --kernels`: each kernel's predicted and measured time, and what binds it.
#pragma once

#include "runtime/engine/kernel_bench.h"

#include <string>

namespace girih::tools {

// For people: an entry after the other, its kernels in running order.
std::string kernelTableText(const engine::KernelBenchResult &result);
// {"isa", "threads", "entries": [{"entry", "tokens", "sequences", "step_seconds", "median_error",
// "three_dearest_in_order", "kernels": [{"name", "tiles", "strategy", "matmuls", "repetitions", "predicted_seconds",
// "seconds", "seconds_min", "seconds_max", "bound", "bytes", "operations", "bytes_per_second", "operations_per_second"}]}]}
std::string kernelTableJson(const engine::KernelBenchResult &result);

}  // namespace girih::tools
