// SPDX-License-Identifier: Apache-2.0
// NpyWriter: an f32 matrix in NumPy's file format, appended row by row.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

namespace girih::tools {

// Writes beside `path` and renames in finish(), so that nothing half-written is ever left under that name.
// Thread-compatible.
class NpyWriter {
public:
  static Expected<NpyWriter> create(const std::string &path, uint32_t numColumns);
  NpyWriter(NpyWriter &&other) noexcept = default;
  NpyWriter &operator=(NpyWriter &&other) noexcept = default;
  ~NpyWriter();

  // Appends whole rows. A failed write is kept and reported by finish().
  void append(std::span<const float> rows);
  uint64_t numRows() const { return rowsWritten; }
  // Fails: ResourceExhausted when the disk is full, else with the system's reason.
  Status finish();

private:
  struct Closer {
    void operator()(FILE *file) const { std::fclose(file); }
  };
  NpyWriter(std::string path, uint32_t numColumns, FILE *file) : path(std::move(path)), numColumns(numColumns), file(file) {}
  std::string temporaryPath() const { return path + ".partial"; }
  bool writeHeader();
  Status failure();

  std::string path;
  uint32_t numColumns;
  uint64_t rowsWritten = 0;
  int firstError = 0;
  std::unique_ptr<FILE, Closer> file;
};

}  // namespace girih::tools
