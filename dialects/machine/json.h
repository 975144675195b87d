// SPDX-License-Identifier: Apache-2.0
// A machine description as JSON, both ways.
//
// {"name": "...", "kind": "cpu", "cores": 2, "clock_mhz": 2600, "barrier_ns": 200,
//  "levels": [{"name": "L1", "size_bytes": 49152, "bytes_per_cycle": 128, "latency_cycles": 5, "shared_by": 1,
//              "source": "CPUID leaf 4"}, ...],
//  "units":  [{"name": "fma", "element": "f32", "lanes": 16, "per_cycle": 2, "latency_cycles": 4, "registers": 32,
//              "source": "CPUID avx512f"},
//             {"name": "matrix", "element": "bf16", ..., "tile": {"rows": 16, "columns": 16, "depth": 32}}, ...]}
#pragma once

#include "dialects/machine/dialect.h"

#include <string>

namespace girih::machine {

// Null when the text is no description; `error` then says which field, what was seen and what is expected.
DescriptionAttr parseJson(mlir::MLIRContext *context, llvm::StringRef text, std::string &error);

// Indented JSON that parseJson reads back to an equal attribute.
std::string printJson(DescriptionAttr description);

}  // namespace girih::machine
