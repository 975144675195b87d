// SPDX-License-Identifier: Apache-2.0
// MappedFile: the bytes of a file, read only, shared with every other process that maps it.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <span>
#include <string>

namespace girih {

// Owns the mapping. Movable. Immutable and thread-safe once open. The size is that at opening: a file that
// another process truncates later faults on access, as any mapping does.
class MappedFile {
public:
  // Fails: NotFound (no such file), InvalidArgument (a folder or another thing that is no regular file),
  // FailedPrecondition (no permission, too many open files), each with the system's reason.
  static Expected<MappedFile> open(const std::string &path);

  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  // Empty for an empty file. The address is page aligned.
  std::span<const uint8_t> bytes() const { return mapped; }

  // For who goes through a file larger than memory should hold: asks the kernel to read ahead, and gives the pages
  // of this process back. The kernel keeps what it has room for. Requires: `part` lies within some file's bytes().
  static void willRead(std::span<const uint8_t> part);
  static void hasRead(std::span<const uint8_t> part);
  // For who reads all of it again and again: what is not in memory yet is read into pages as large as the system has, in which
  // it streams faster. What is there stays as it is.
  static void willStream(std::span<const uint8_t> part);

private:
  std::span<const uint8_t> mapped;
};

} // namespace girih
