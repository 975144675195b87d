// SPDX-License-Identifier: Apache-2.0
// CodeCache: what a backend made of a step, kept in a folder under the hash of all that it was made from.
//
// A file: the magic; numbers and length-prefixed texts of 8-byte little-endian counts; their SHA-256.
#include "compiler/code_cache.h"

#include "runtime/base/mapped_file.h"
#include "runtime/base/sha256.h"

#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>

namespace girih::compiler {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "GIRIHCODE 2\n";
constexpr size_t kMostFiles = 512;  // some 150 KB each

class Writer {
public:
  std::string bytes{kMagic};
  void number(uint64_t value) { bytes.append(reinterpret_cast<const char *>(&value), sizeof value); }
  void number(double value) { number(std::bit_cast<uint64_t>(value)); }
  void text(std::string_view value) {
    number(uint64_t{value.size()});
    bytes.append(value);
  }
  void texts(const std::vector<std::string> &values) {
    number(uint64_t{values.size()});
    for (const std::string &value : values)
      text(value);
  }
};

// Reads what Writer wrote; whatever does not fit leaves `isSound` false.
class Reader {
public:
  explicit Reader(std::string_view bytes) : rest(bytes) {}
  bool isSound = true;

  uint64_t number() {
    uint64_t value = 0;
    std::string_view bytes = take(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  double decimal() { return std::bit_cast<double>(number()); }
  std::string_view text() { return take(number()); }
  std::vector<std::string> texts() {
    std::vector<std::string> values;
    for (uint64_t left = number(); left > 0 && isSound; --left)
      values.emplace_back(text());
    return values;
  }

private:
  std::string_view take(uint64_t numBytes) {
    isSound = isSound && numBytes <= rest.size();
    std::string_view taken = isSound ? rest.substr(0, numBytes) : std::string_view();
    rest.remove_prefix(taken.size());
    return taken;
  }
  std::string_view rest;
};

std::string digestOf(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hexDigits(hash.finish());
}

void write(Writer &writer, const std::vector<CountedDispatch> &rows) {
  writer.number(uint64_t{rows.size()});
  for (const auto &[entry, dispatch, contextTokens, work] : rows) {
    writer.text(entry);
    writer.text(dispatch);
    writer.number(uint64_t(contextTokens));
    for (double number : {work.units, work.vectorBytes, work.tileProducts, work.loadBytes, work.storeBytes})
      writer.number(number);
  }
}

std::vector<CountedDispatch> readCounted(Reader &reader) {
  std::vector<CountedDispatch> rows;
  for (uint64_t left = reader.number(); left > 0 && reader.isSound; --left) {
    CountedDispatch row;
    row.entry = reader.text();
    row.dispatch = reader.text();
    row.contextTokens = int64_t(reader.number());
    CountedWork &work = row.work;
    for (double *number : {&work.units, &work.vectorBytes, &work.tileProducts, &work.loadBytes, &work.storeBytes})
      *number = reader.decimal();
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string serialize(const CompiledStep &step) {
  Writer writer;
  writer.text(step.format);
  writer.texts(step.entries);
  writer.texts(step.requiredFeatures);
  writer.text(step.accumulateType);
  writer.text(step.activationType);
  writer.number(step.arenaBytes);
  writer.number(step.scratchBytesPerThread);
  write(writer, step.work);
  writer.text({reinterpret_cast<const char *>(step.image.data()), step.image.size()});
  return writer.bytes + digestOf(writer.bytes);
}

std::optional<CompiledStep> deserialize(std::string_view file) {
  size_t digestBytes = 2 * sizeof(Sha256Digest);
  if (file.size() < kMagic.size() + digestBytes || !file.starts_with(kMagic))
    return std::nullopt;
  std::string_view body = file.substr(0, file.size() - digestBytes);
  if (digestOf(body) != file.substr(body.size()))
    return std::nullopt;
  Reader reader(body.substr(kMagic.size()));
  CompiledStep step;
  step.format = reader.text();
  step.entries = reader.texts();
  step.requiredFeatures = reader.texts();
  step.accumulateType = reader.text();
  step.activationType = reader.text();
  step.arenaBytes = reader.number();
  step.scratchBytesPerThread = reader.number();
  step.work = readCounted(reader);
  std::string_view image = reader.text();
  step.image.assign(image.begin(), image.end());
  return reader.isSound ? std::optional(std::move(step)) : std::nullopt;
}

std::string digestOfFile(const std::string &path) {
  auto binary = MappedFile::open(path);
  return binary.isOk() ? hexDigits(sha256(binary->bytes())) : std::string();
}

}  // namespace

CodeCache::CodeCache(std::string givenFolder) : folder(std::move(givenFolder)) {
  if (!folder.empty() && (compilerDigest = digestOfFile("/proc/self/exe")).empty())
    folder.clear();  // a compiler that cannot tell what it is cannot tell what it made
}

// By its text: bytecode numbers what it holds in an order that differs from run to run, and has locations in it.
std::string CodeCache::keyOf(mlir::ModuleOp step, const std::string &target, const std::string &backendFile) const {
  std::string backendDigest = folder.empty() ? std::string() : digestOfFile(backendFile);
  if (backendDigest.empty())
    return {};
  std::string text = compilerDigest + " " + backendDigest + " " LLVM_VERSION_STRING " " + target + "\n";
  llvm::raw_string_ostream stream(text);
  step.print(stream, mlir::OpPrintingFlags().printGenericOpForm());
  return digestOf(text);
}

std::optional<CompiledStep> CodeCache::find(const std::string &key) const {
  if (folder.empty() || key.empty())
    return std::nullopt;
  auto file = MappedFile::open(folder + "/" + key);
  if (!file.isOk())
    return std::nullopt;
  return deserialize({reinterpret_cast<const char *>(file->bytes().data()), file->bytes().size()});
}

void CodeCache::keep(const std::string &key, const CompiledStep &step) const {
  std::error_code error;
  if (folder.empty() || key.empty() || (fs::create_directories(folder, error), error))
    return;
  // Renamed when whole: who finds it under its name reads all of it.
  int handle = -1;
  llvm::SmallString<128> temporary;
  if (llvm::sys::fs::createUniqueFile(folder + "/writing-%%%%%%%%", handle, temporary, llvm::sys::fs::OF_None, 0600))
    return;
  llvm::raw_fd_ostream stream(handle, /*shouldClose=*/true);
  stream << serialize(step);
  stream.close();
  bool isWritten = !stream.has_error();
  stream.clear_error();
  if (!isWritten || llvm::sys::fs::rename(temporary, folder + "/" + key))
    llvm::sys::fs::remove(temporary);
  dropOldest();
}

void CodeCache::dropOldest() const {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  for (const auto &entry : fs::directory_iterator(folder, error))
    files.emplace_back(entry.last_write_time(error), entry.path());
  if (files.size() <= kMostFiles)
    return;
  std::sort(files.begin(), files.end());
  for (size_t index = 0; index < files.size() - kMostFiles; ++index)
    fs::remove(files[index].second, error);
}

}  // namespace girih::compiler
