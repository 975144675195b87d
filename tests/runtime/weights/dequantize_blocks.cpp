// SPDX-License-Identifier: Apache-2.0
// weights_dequantize_blocks FORMAT: blocks on stdin, f32 values on stdout; block_formats_judge.py --full compares them.
#include "runtime/weights/formats.h"

#include <cstdio>
#include <vector>

int main(int argc, char **argv) {
  const auto *format = argc == 2 ? girih::weights::findFormatByName(argv[1]) : nullptr;
  if (!format) {
    std::fprintf(stderr, "usage: weights_dequantize_blocks FORMAT; formats: %s\n",
                 girih::weights::supportedFormatNames().c_str());
    return 2;
  }
  std::vector<uint8_t> bytes;
  uint8_t piece[65536];
  for (size_t numBytes; (numBytes = std::fread(piece, 1, sizeof(piece), stdin)) > 0;)
    bytes.insert(bytes.end(), piece, piece + numBytes);
  int64_t numElements = static_cast<int64_t>(bytes.size()) / format->blockBytes * format->blockElements;
  std::vector<float> values(static_cast<size_t>(numElements));
  girih::weights::dequantize(format->format, bytes.data(), numElements, values.data());
  return std::fwrite(values.data(), sizeof(float), values.size(), stdout) == values.size() ? 0 : 1;
}
