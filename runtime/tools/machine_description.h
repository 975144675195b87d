// SPDX-License-Identifier: Apache-2.0
// MachineDescription: this machine's memory levels and compute units, each figure with its source; no LLVM needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace girih::tools {

// The fields of dialects/machine, whose JSON reader accepts what machineJson() writes.
struct MemoryLevel {
  std::string name;
  int64_t sizeBytes = 0;       // as one core sees it
  int64_t bytesPerCycle = 0;   // that one core can read from it
  int64_t latencyCycles = 0;
  int64_t sharedBy = 1;        // cores
  std::string source;
};

struct ComputeUnit {
  std::string name;
  std::string element;
  int64_t lanes = 0;
  int64_t perCycle = 0;
  int64_t latencyCycles = 0;
  int64_t registers = 0;
  std::string source;
  bool multipliesTiles = false;  // of 16 rows x 16 columns x 32 k
};

struct MachineDescription {
  std::string name;
  int64_t cores = 1;     // that this process may use: affinity mask and cgroup quota
  int64_t clockMhz = 1;
  int64_t barrierNs = 1;  // two threads meeting once, measured
  std::vector<MemoryLevel> levels;  // from the nearest to the farthest
  std::vector<ComputeUnit> units;
  // What the reader of dialects/machine does not need, for people.
  std::vector<std::string> features;
  std::vector<int32_t> allowedProcessors;
  double processorQuota = 0;  // 0: no limit
};

// Takes some tens of milliseconds: memory bandwidth and the barrier are measured. `root` stands before /proc and /sys.
MachineDescription describeMachine(const std::string &root = "");
std::string machineJson(const MachineDescription &machine);

}  // namespace girih::tools
