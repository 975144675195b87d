// SPDX-License-Identifier: Apache-2.0
// From verified FlatBuffers to plain structs, every section bounds-checked on the way.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include <span>
#include <string>
#include <vector>

namespace girih::program {

// A stretch of the file with the checksum that the tables state for it.
struct CheckedSection {
  std::string name; // "executable avx2"
  std::span<const uint8_t> bytes;
  uint32_t crc32c = 0;
};

struct DecodedTables {
  Tables tables;
  std::span<const uint8_t> weights;
  std::vector<CheckedSection> sections; // weights, executables, tokenizer
};

// `tableBytes` is the FlatBuffer within `file`; spans of the result point into `file`.
// Fails: DataLoss when the buffer does not verify, or a section lies outside the file or is misaligned.
Expected<DecodedTables> decodeTables(std::span<const uint8_t> file, std::span<const uint8_t> tableBytes);

} // namespace girih::program
