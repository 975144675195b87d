// SPDX-License-Identifier: Apache-2.0
// Program: a .girih file, mapped and checked; its tables as plain structs, its weights in place.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include <memory>
#include <span>
#include <string>

namespace girih::program {

// An open program. Immutable and thread-safe once open. The mapping is shared between processes (MAP_SHARED,
// read only) and lives as long as the object: every span in tables() points into it.
// Invariants: every table verified, every section and tensor within the file, aligned, and of a size that
// does not overflow; every executable has entries, and reads every layout that the tensors use. Opening
// executes nothing, so a stranger's file can be inspected; only an Engine runs its code.
class Program {
public:
  // Fails: NotFound (no such file), DataLoss (truncated or corrupt), Unimplemented (a format version or
  // layout that this build does not know), InvalidArgument (not a .girih file).
  static Expected<std::shared_ptr<const Program>> open(const std::string &path);
  // Reads from memory that the caller keeps alive and unchanged, 64-byte aligned; `name` is used in messages.
  static Expected<std::shared_ptr<const Program>> fromBytes(std::span<const uint8_t> bytes,
                                                            const std::string &name);

  ~Program();
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  const std::string &path() const { return filePath; }
  uint64_t fileBytes() const { return bytes.size(); }
  const Tables &tables() const { return contents; }
  const Model &model() const { return contents.model; }
  // The whole weight section, 4096-byte aligned when mapped from a file.
  std::span<const uint8_t> weights() const { return weightBytes; }
  std::span<const uint8_t> tensorBytes(const Tensor &tensor) const {
    return weightBytes.subspan(tensor.offsetBytes, tensor.sizeBytes);
  }
  // Reads every payload once and compares its CRC-32C. Fails: DataLoss naming the first section or tensor
  // that differs and how many do.
  Status verifyChecksums() const;

private:
  struct Mapping;
  Program();
  static Expected<std::shared_ptr<const Program>>
  parse(std::unique_ptr<Mapping> mapping, std::span<const uint8_t> bytes, const std::string &name);

  std::string filePath;
  std::unique_ptr<Mapping> mapping; // null when the bytes are borrowed
  std::span<const uint8_t> bytes;
  std::span<const uint8_t> weightBytes;
  struct Checked; // sections with the checksum that the file states
  std::unique_ptr<Checked> checked;
  Tables contents;
};

// True when the file begins like a .girih; false also when it cannot be read.
bool looksLikeProgram(const std::string &path);

} // namespace girih::program
