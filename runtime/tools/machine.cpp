// SPDX-License-Identifier: Apache-2.0
// girih machine: this machine's description as JSON, or the devices that programs could run on.
#include "runtime/hal/device.h"
#include "runtime/hal/registry.h"
#include "runtime/tools/backend_choice.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/machine_description.h"

#include <cstdio>
#include <iostream>

namespace girih::tools {
namespace {

// A line a device; a backend that cannot say what it has is told, and the others still are.
void listDevices(const girih_backend &backend) {
  if (!backend.run) {
    std::printf("%-10s -  compiles only\n", backend.name);
    return;
  }
  for (uint64_t index = 0;; ++index) {
    auto facts = hal::describeDevice(backend, index);
    if (!facts.isOk()) {
      if (index == 0)
        std::printf("%-10s -  %s\n", backend.name, std::string(facts.status().message()).c_str());
      return;
    }
    std::string formats;
    for (const std::string &format : facts->formats)
      formats += (formats.empty() ? "" : ", ") + format;
    std::printf("%-10s %llu  %s: %.1f GiB%s, %lld threads; runs %s\n", backend.name, static_cast<unsigned long long>(index),
                facts->name.c_str(), static_cast<double>(facts->memoryBytes) / (1 << 30),
                facts->hasHostMemory ? " of the host's" : "", static_cast<long long>(facts->defaultThreads),
                formats.empty() ? "what it does not say" : formats.c_str());
    if (!facts->notes.empty())
      std::printf("%-13s %s\n", "", facts->notes.c_str());
  }
}

}  // namespace

Expected<int> machineCommand(const Arguments &arguments) {
  std::string library;
  bool listsDevices = false, printsJson = false;
  CommandLine line("machine", "Prints what the compiler would know of this machine, as JSON: memory levels, units, clock, features,\n"
                              "and what affinity mask and cgroup quota leave of it. Each figure names its source.");
  line.flag("--json", printsJson, "Print the description (the default)");
  line.flag("--list", listsDevices, "List the devices of every backend instead: backend, number, name, memory, threads, formats");
  line.text("--backend", "LIB", library, "List this backend's devices: a name, or a vendor's library (path/lib.so)");
  line.examples("Examples:\n  girih machine > here.json\n  girih machine | jq .levels\n  girih machine --list --backend path/lib.so");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  if (!library.empty()) {
    GIRIH_ASSIGN(const girih_backend *backend, openBackend(library));
    listDevices(*backend);
    return 0;
  }
  if (listsDevices && !printsJson) {
    for (const girih_backend *backend : hal::builtInBackends())
      listDevices(*backend);
    return 0;
  }
  std::cout << machineJson(describeMachine()) << std::endl;
  return 0;
}

}  // namespace girih::tools
