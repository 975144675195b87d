// SPDX-License-Identifier: Apache-2.0
// The subcommands: one file each, one row each in the table of girih.cpp.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/tools/command_line.h"

#include <string>
#include <vector>

namespace girih::tools {

using Arguments = std::vector<std::string>;

// Each takes what follows its name. The value is the exit status; a Status is told on stderr and exits with 1.
Expected<int> runCommand(const Arguments &arguments);
Expected<int> chatCommand(const Arguments &arguments);
Expected<int> serveCommand(const Arguments &arguments);
Expected<int> promptCommand(const Arguments &arguments);
Expected<int> scoreCommand(const Arguments &arguments);
Expected<int> batchCommand(const Arguments &arguments);
Expected<int> benchCommand(const Arguments &arguments);
Expected<int> benchServeCommand(const Arguments &arguments); // `bench serve`, by benchCommand
Expected<int> inspectCommand(const Arguments &arguments);
Expected<int> verifyCommand(const Arguments &arguments);
Expected<int> machineCommand(const Arguments &arguments);
Expected<int> compileCommand(const Arguments &arguments);

}  // namespace girih::tools
