// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as a GGUF file; whatever the reader accepts must be readable to its last weight.
#include "runtime/weights/gguf.h"
#include "tests/fuzz/read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  auto file = girih::weights::readGguf({bytes, numBytes});
  if (file.isOk()) {
    girih::weights::readEveryPair(file->metadata);
    girih::weights::readEveryTensor(*file);
  }
  return 0;
}
