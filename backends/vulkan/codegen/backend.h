// SPDX-License-Identifier: Apache-2.0
// The compile half: a scheduled step module in, an image of shaders and dispatches out.
#pragma once

#include "backends/vulkan/codegen/plan_commands.h"
#include "dialects/machine/dialect.h"

namespace girih::vulkan {

struct StepImage {
  std::vector<uint8_t> bytes;
  std::vector<std::string> entries; // in the module's order
  uint64_t arenaBytes = 0;          // with what each thread of a team would have of its own, once
};

// Fails: InvalidArgument (the module), Unimplemented (an operation or a type that has no shader yet).
Expected<StepImage> compileStepModule(mlir::ModuleOp module, llvm::StringRef profile);

// A device as data: `profile` is a row of the table in describe.cpp. Null where there is no such row.
machine::DescriptionAttr describeMachine(mlir::MLIRContext *context, llvm::StringRef profile);
// What a device must have for code made for the profile, by the names that the device half uses.
std::string requiredFeatures(llvm::StringRef profile);
ShaderTraits traitsOf(llvm::StringRef profile);
// Their names, the best last, separated by commas.
std::string profileNames();

} // namespace girih::vulkan
