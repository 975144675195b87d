// SPDX-License-Identifier: Apache-2.0
// ProgramWriter: writes a .girih file, weights streamed, so that it appears whole or not at all.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

#include <memory>
#include <span>
#include <string>

namespace girih::compiler {

// Writes to a temporary file beside `path`, and renames it over `path` in finish(), after an fsync. When it
// is destroyed before, or anything fails (a full disk), the temporary file is removed and `path` is as it
// was. Thread-compatible: one thread at a time. Sees no MLIR.
//
//   GIRIH_ASSIGN(auto writer, ProgramWriter::create("model.girih"));
//   GIRIH_TRY(writer->addTensor(tensor, packedBytes));     // any number, in ascending offset
//   GIRIH_TRY(writer->finish(tables));                     // executables, tokenizer, report
class ProgramWriter {
public:
  // Lets the writer place the tensor after the one before.
  static constexpr uint64_t kNextOffset = ~uint64_t{0};

  static Expected<std::unique_ptr<ProgramWriter>> create(const std::string &path);
  ~ProgramWriter();

  // Appends one tensor. `tensor.offsetBytes` is where generated code expects it: kNextOffset, or a multiple
  // of 64 not below the end of the tensor before. Returns the offset. Fills size, layout id and checksum
  // itself.
  Expected<uint64_t> addTensor(program::Tensor tensor, std::span<const uint8_t> bytes);
  // The same in pieces: begin, any number of append, end.
  Expected<uint64_t> beginTensor(program::Tensor tensor);
  Status append(std::span<const uint8_t> bytes);
  Status endTensor();

  // Writes everything else and makes the file appear. Ignores tables.tensors (they were added before).
  Status finish(const program::Tables &tables);

  // The tensors so far, as they will stand in the file.
  const std::vector<program::Tensor> &tensors() const;

private:
  ProgramWriter();
  struct Output;
  std::unique_ptr<Output> output;
};

} // namespace girih::compiler
