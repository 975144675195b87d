// SPDX-License-Identifier: Apache-2.0
// step_runner IMAGE DATA ENTRY THREADS: runs one step of an image with the memory that DATA holds, and writes it back.
// Built for arm64: tests on another machine run it by an emulator. The image is loaded as the runtime loads it.
#include "backends/cpu/device/executable.h"
#include "backends/cpu/device/features.h"
#include "tests/backends/cpu/codegen/run_step.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace girih::cpu;

static int fail(const std::string &message) {
  std::fprintf(stderr, "step_runner: %s\n", message.c_str());
  return 1;
}

int main(int argc, char **argv) {
  // What the device half finds on the emulated processor.
  if (argc == 2 && std::strcmp(argv[1], "--features") == 0) {
    for (const std::string &feature : grantedFeatures())
      std::printf("%s\n", feature.c_str());
    return 0;
  }
  if (argc != 5)
    return fail("usage: step_runner IMAGE DATA ENTRY THREADS, or step_runner --features");
  std::ifstream file(argv[1], std::ios::binary);
  std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  auto image = LoadedImage::load(bytes);
  if (!image.isOk())
    return fail(std::string(image.status().message()));
  auto entry = image->find(argv[3]);
  if (!entry.isOk())
    return fail(std::string(entry.status().message()));
  test::StepData data;
  if (!test::readStepData(data, argv[2]))
    return fail(std::string(argv[2]) + " is no step's data, or is cut");
  test::runStep(*entry, data, std::atoi(argv[4]));
  return test::writeStepData(data, argv[2]) ? 0 : fail("cannot write " + std::string(argv[2]));
}
