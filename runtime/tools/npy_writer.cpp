// SPDX-License-Identifier: Apache-2.0
// NpyWriter: NumPy's format 1.0, whose header is written again once the number of rows is known.
#include "runtime/tools/npy_writer.h"

#include <cerrno>
#include <cstring>

namespace girih::tools {
namespace {

constexpr size_t kHeaderBytes = 128;  // a multiple of 64, as NumPy asks, with room for any shape

}  // namespace

Expected<NpyWriter> NpyWriter::create(const std::string &path, uint32_t numColumns) {
  std::string temporary = path + ".partial";
  FILE *file = std::fopen(temporary.c_str(), "wb");
  if (!file)
    return failedPrecondition("cannot write " + path + ": " + std::strerror(errno));
  NpyWriter writer(path, numColumns, file);
  if (!writer.writeHeader())
    return writer.failure();
  return writer;
}

NpyWriter::~NpyWriter() {
  if (!file)
    return;
  file.reset();
  std::remove(temporaryPath().c_str());
}

bool NpyWriter::writeHeader() {
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(kHeaderBytes - 10);
  header += '\0';
  header += "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rowsWritten) + ", " +
            std::to_string(numColumns) + "), }";
  header.resize(kHeaderBytes - 1, ' ');
  header += '\n';
  if (std::fwrite(header.data(), 1, header.size(), file.get()) == header.size())
    return true;
  firstError = errno;
  return false;
}

void NpyWriter::append(std::span<const float> rows) {
  if (firstError == 0 && std::fwrite(rows.data(), sizeof(float), rows.size(), file.get()) != rows.size())
    firstError = errno;
  rowsWritten += rows.size() / numColumns;
}

Status NpyWriter::failure() {
  std::string message = "cannot write " + path + ": " + std::strerror(firstError);
  return firstError == ENOSPC ? resourceExhausted(message + "; free some space or write elsewhere") : failedPrecondition(message);
}

Status NpyWriter::finish() {
  // Seeking writes what is buffered, and so meets a full disk as well.
  if (firstError == 0 && std::fseek(file.get(), 0, SEEK_SET) != 0)
    firstError = errno;
  if (firstError == 0)
    writeHeader();
  if (firstError == 0 && std::fflush(file.get()) != 0)
    firstError = errno;
  if (firstError != 0)
    return failure();
  file.reset();
  if (std::rename(temporaryPath().c_str(), path.c_str()) == 0)
    return {};
  firstError = errno;
  std::remove(temporaryPath().c_str());
  return failure();
}

}  // namespace girih::tools
