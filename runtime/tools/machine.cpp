// SPDX-License-Identifier: Apache-2.0
// girih machine: this machine's description as JSON.
#include "runtime/tools/commands.h"
#include "runtime/tools/machine_description.h"

#include <iostream>

namespace girih::tools {

Expected<int> machineCommand(const Arguments &arguments) {
  CommandLine line("machine", "Prints what the compiler would know of this machine, as JSON: memory levels, units, clock, features,\n"
                              "and what affinity mask and cgroup quota leave of it. Each figure names its source.");
  line.examples("Examples:\n  girih machine > here.json\n  girih machine | jq .levels");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  std::cout << machineJson(describeMachine()) << std::endl;
  return 0;
}

}  // namespace girih::tools
