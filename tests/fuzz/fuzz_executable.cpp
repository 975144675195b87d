// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as an executable image; it is placed and its entries looked up, never run.
#include "backends/cpu/device/executable.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  auto image = girih::cpu::LoadedImage::load({bytes, numBytes});
  if (image.isOk())
    (void)image->find("girih_step_toy");
  return 0;
}
