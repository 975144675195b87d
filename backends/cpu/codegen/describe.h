// SPDX-License-Identifier: Apache-2.0
// describe: this machine as data, seen through one instruction set.
#pragma once

#include "dialects/machine/dialect.h"

namespace girih::cpu {

// Cache sizes from sysfs (the kernel reads CPUID leaf 4), the clock from CPUID, vector units from the ISA's row.
// What cannot be read takes a cautious figure whose source says "assumed".
machine::DescriptionAttr describeMachine(mlir::MLIRContext *context, llvm::StringRef isa);

}  // namespace girih::cpu
