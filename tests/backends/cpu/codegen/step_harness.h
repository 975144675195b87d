// SPDX-License-Identifier: Apache-2.0
// StepHarness: compiles a scheduled step module from text, loads the image and runs it on a small team.
#pragma once

#include "runtime/base/expected.h"
#include "tests/backends/cpu/codegen/run_step.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace girih::cpu::test {

class Step {
public:
  // Compiles and loads; `isa` as in cpuTarget. Fails as compileStepModule does. Code of another architecture is run by an
  // emulator, in a process of its own.
  static Expected<std::unique_ptr<Step>> compile(const std::string &module, const std::string &isa);
  ~Step();

  // Runs `entry` on `numThreads` threads. Requires: the module exports it.
  void run(StepData &data, int numThreads, const std::string &entry = "girih_step_t8") const;

  const std::vector<uint8_t> &image() const { return bytes; }

private:
  void emulate(StepData &data, int numThreads, const std::string &entry) const;

  std::vector<uint8_t> bytes;
  void *library = nullptr;
  std::string emulated;  // the ISA, where it is not this machine's
};

// The ISA rows that this machine can run, best last; or those that GIRIH_TEST_ISAS names, separated by commas.
std::vector<std::string> runnableIsas();

// Vectors of 16 lanes that an ISA's registers hold: tests ask for no larger tiles.
int64_t laneVectorsOf(const std::string &isa);

}  // namespace girih::cpu::test
