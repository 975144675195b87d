// SPDX-License-Identifier: Apache-2.0
// Opens a .girih: header, tables, rules; and verifies its checksums when asked.
#include "runtime/program/program.h"

#include "runtime/abi/program.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/mapped_file.h"
#include "runtime/program/check_tables.h"
#include "runtime/program/decode_tables.h"

#include <cstddef>
#include <cstring>
#include <fstream>

namespace girih::program {
namespace {

// A fuzzer cannot guess checksums, so its build skips them and reaches the parsers behind.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kCheckChecksums = false;
#else
constexpr bool kCheckChecksums = true;
#endif

// The first bytes as a reader of the message can recognise them: `GGUF`, `PK\x03\x04`.
std::string printable(std::span<const uint8_t> bytes) {
  std::string text;
  for (uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8))) {
    char escaped[8];
    bool isPlain = byte >= 0x20 && byte < 0x7f && byte != '\\';
    std::snprintf(escaped, sizeof escaped, isPlain ? "%c" : "\\x%02x", byte);
    text += escaped;
  }
  return text;
}

Status checkMagic(std::span<const uint8_t> bytes) {
  if (bytes.size() >= GIRIH_PROGRAM_MAGIC_BYTES &&
      std::memcmp(bytes.data(), GIRIH_PROGRAM_MAGIC, GIRIH_PROGRAM_MAGIC_BYTES) == 0)
    return {};
  if (bytes.empty())
    return dataLoss("the file is empty; copy or compile it again");
  if (std::memcmp(bytes.data(), GIRIH_PROGRAM_MAGIC, std::min<size_t>(bytes.size(), 5)) == 0)
    return dataLoss("it begins with \"" + printable(bytes) +
                    "\", cut short or changed, as sending it as text " + "does; copy it again as binary");
  return invalidArgument("it begins with \"" + printable(bytes) +
                         "\", a program begins with \"GIRIH\"; make one of " +
                         "a checkpoint by `girih compile`");
}

// Fails: DataLoss, Unimplemented. Requires: the magic was checked.
Expected<girih_program_header> readHeader(std::span<const uint8_t> bytes) {
  girih_program_header header;
  if (bytes.size() < sizeof header)
    return dataLoss("the file has " + std::to_string(bytes.size()) + " bytes, the header alone " +
                    std::to_string(sizeof header) + "; copy or compile it again");
  std::memcpy(&header, bytes.data(), sizeof header);
  // Before the version: a damaged byte must not read as "made by a newer version".
  uint32_t crc = crc32c(bytes.first(offsetof(girih_program_header, header_crc32c)));
  bool hasZeros = true;
  for (uint8_t byte : header.zeros)
    hasZeros = hasZeros && byte == 0;
  if (kCheckChecksums && (crc != header.header_crc32c || !hasZeros))
    return dataLoss("the header is damaged (its checksum does not fit); copy or compile the file again");
  if (header.format_version != GIRIH_PROGRAM_FORMAT_VERSION || header.flags != 0)
    return unimplemented("the format version is " + std::to_string(header.format_version) + " with flags " +
                         std::to_string(header.flags) + ", this build reads version " +
                         std::to_string(GIRIH_PROGRAM_FORMAT_VERSION) +
                         " without flags; compile the file with this version");
  if (header.file_size != bytes.size())
    return dataLoss("the file has " + std::to_string(bytes.size()) + " bytes, its header says " +
                    std::to_string(header.file_size) + ": it was cut or extended; copy or compile it again");
  return header;
}

Expected<std::span<const uint8_t>> readTables(std::span<const uint8_t> bytes) {
  GIRIH_TRY(checkMagic(bytes));
  GIRIH_ASSIGN(girih_program_header header, readHeader(bytes));
  if (header.tables_offset % 8 != 0 || header.tables_offset > bytes.size() ||
      header.tables_size > bytes.size() - header.tables_offset)
    return dataLoss("the tables have " + std::to_string(header.tables_size) + " bytes at " +
                    std::to_string(header.tables_offset) + ", the file ends at " +
                    std::to_string(bytes.size()) + "; copy or compile it again");
  std::span<const uint8_t> tables = bytes.subspan(header.tables_offset, header.tables_size);
  if (kCheckChecksums && crc32c(tables) != header.tables_crc32c)
    return dataLoss("the tables are damaged (their checksum does not fit); copy or compile the file again");
  return tables;
}

} // namespace

struct Program::Mapping {
  MappedFile file;
};
struct Program::Checked {
  std::vector<CheckedSection> sections;
};

Program::Program() = default;
Program::~Program() = default;

Expected<std::shared_ptr<const Program>> Program::open(const std::string &path) {
  GIRIH_ASSIGN(MappedFile file, MappedFile::open(path));
  auto mapping = std::make_unique<Mapping>(Mapping{std::move(file)});
  std::span<const uint8_t> bytes = mapping->file.bytes();
  MappedFile::willStream(bytes);
  return parse(std::move(mapping), bytes, path);
}

Expected<std::shared_ptr<const Program>> Program::fromBytes(std::span<const uint8_t> bytes,
                                                            const std::string &name) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kTensorAlignmentBytes != 0)
    return invalidArgument("a program in memory must be aligned to " + std::to_string(kTensorAlignmentBytes) +
                           " bytes");
  return parse(nullptr, bytes, name);
}

Expected<std::shared_ptr<const Program>>
Program::parse(std::unique_ptr<Mapping> mapping, std::span<const uint8_t> bytes, const std::string &name) {
  auto fail = [&](Status status) { return std::move(status).withContext("loading \"" + name + "\""); };
  Expected<std::span<const uint8_t>> tableBytes = readTables(bytes);
  if (!tableBytes.isOk())
    return fail(std::move(tableBytes).status());
  Expected<DecodedTables> decoded = decodeTables(bytes, *tableBytes);
  if (!decoded.isOk())
    return fail(std::move(decoded).status());
  if (Status status = checkTables(decoded->tables); !status.isOk())
    return fail(std::move(status));

  std::shared_ptr<Program> program(new Program);
  program->filePath = name;
  program->mapping = std::move(mapping);
  program->bytes = bytes;
  program->weightBytes = decoded->weights;
  program->checked = std::make_unique<Checked>(Checked{std::move(decoded->sections)});
  program->contents = std::move(decoded->tables);
  return std::shared_ptr<const Program>(std::move(program));
}

Status Program::verifyChecksums() const {
  std::string firstDamaged;
  size_t numDamaged = 0, numChecked = 0;
  auto check = [&](const std::string &what, std::span<const uint8_t> payload, uint32_t stated) {
    ++numChecked;
    if (crc32c(payload) == stated)
      return;
    if (numDamaged++ == 0)
      firstDamaged = what;
  };
  // Tensors first: the name of a damaged tensor says more than "the weight section".
  for (const Tensor &tensor : contents.tensors)
    check("tensor \"" + tensor.name + "\"", tensorBytes(tensor), tensor.crc32c);
  for (const CheckedSection &section : checked->sections)
    check(section.name, section.bytes, section.crc32c);
  if (numDamaged == 0)
    return {};
  return dataLoss("\"" + filePath + "\": " + std::to_string(numDamaged) + " of " +
                  std::to_string(numChecked) + " checksums do not fit, the first that of " + firstDamaged +
                  "; copy or compile the file again");
}

bool looksLikeProgram(const std::string &path) {
  char magic[GIRIH_PROGRAM_MAGIC_BYTES] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, sizeof magic) && std::memcmp(magic, GIRIH_PROGRAM_MAGIC, 5) == 0;
}

} // namespace girih::program
