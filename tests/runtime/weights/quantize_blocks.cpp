// SPDX-License-Identifier: Apache-2.0
// weights_quantize_blocks FORMAT: f32 values on stdin, blocks on stdout; quantize_blocks_judge.py compares them.
#include "runtime/weights/quantize_blocks.h"

#include <cstdio>
#include <cstring>
#include <vector>

int main(int argc, char **argv) {
  const auto *row = argc == 2 ? girih::weights::findFormatByName(argv[1]) : nullptr;
  if (!row || !girih::weights::isWritable(row->format)) {
    std::fprintf(stderr, "usage: weights_quantize_blocks FORMAT; formats: %s\n",
                 girih::weights::writableFormatNames().c_str());
    return 2;
  }
  std::vector<float> values;
  float piece[16384];
  for (size_t count; (count = std::fread(piece, sizeof(float), std::size(piece), stdin)) > 0;)
    values.insert(values.end(), piece, piece + count);
  values.resize(values.size() / static_cast<size_t>(row->blockElements) *
                static_cast<size_t>(row->blockElements));
  auto sizeBytes = girih::weights::storageBytes(row->format, static_cast<int64_t>(values.size()));
  if (!sizeBytes.isOk())
    return 1;
  std::vector<uint8_t> blocks(static_cast<size_t>(*sizeBytes));
  girih::weights::quantize(row->format, values, blocks.data());
  return std::fwrite(blocks.data(), 1, blocks.size(), stdout) == blocks.size() ? 0 : 1;
}
