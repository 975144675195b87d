// SPDX-License-Identifier: Apache-2.0
// The program file: how many words of data, instructions and entries there are, then these, then the entries' names.
#include "isa.h"

#include <girih/message.h>
#include <girih/step.h>

#include <algorithm>
#include <cstring>

namespace quill {
namespace {

struct Header {
  char magic[8];
  uint64_t numData, numInstructions, numEntries;
};
constexpr char kMagic[] = "quill 1";
constexpr uint64_t kNameBytes = 128;
struct FileEntry {
  char name[kNameBytes];
  uint64_t begin;
};

[[noreturn]] void refuse(const std::string &text) { throw Refusal(GIRIH_DATA_LOSS, text); }

// Instructions name registers, data and instructions that are there.
void check(const Program &program, const Instruction &i) {
  bool isRegisterA = i.op == Op::Table || (i.op >= Op::Move && i.op <= Op::StoreF), isMemory = i.op >= Op::Load8 || !isRegisterA;
  uint32_t numWritten = i.op == Op::Multiply ? 3 : i.op == Op::DmaIn || i.op == Op::DmaOut ? 5 : 1;
  bool isRight = i.op <= Op::Last && i.d + numWritten <= kRegisters && (!isRegisterA || i.a < kRegisters) &&
                 (isMemory || i.op == Op::Table || i.b < kRegisters) && (i.op != Op::Const || i.a < program.data.size()) &&
                 (i.op != Op::Argument || i.a < sizeof(girih_step_args) / 8) &&
                 ((i.op != Op::Jump && i.op != Op::JumpIfZero) || i.a + 65536u * i.b < program.code.size());
  if (!isRight)
    refuse("instruction " + std::to_string(int(i.op)) + " names what is not there");
}

}  // namespace

bool Program::usesMatrixUnit() const {
  return std::any_of(code.begin(), code.end(), [](const Instruction &one) { return one.op == Op::Multiply; });
}

std::vector<uint8_t> write(const Program &program) {
  std::vector<uint8_t> bytes;
  auto append = [&](const void *from, size_t size) {
    const auto *first = static_cast<const uint8_t *>(from);
    bytes.insert(bytes.end(), first, first + size);
  };
  Header header = {{}, program.data.size(), program.code.size(), program.entries.size()};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  append(&header, sizeof header);
  append(program.data.data(), 8 * program.data.size());
  append(program.code.data(), 8 * program.code.size());
  for (const Entry &entry : program.entries) {
    FileEntry written = {{}, entry.begin};
    if (entry.name.size() >= kNameBytes)
      throw Refusal(GIRIH_INVALID_ARGUMENT, "an entry's name has " + std::to_string(entry.name.size()) + " letters; quill takes " +
                                                std::to_string(kNameBytes - 1));
    std::memcpy(written.name, entry.name.data(), entry.name.size());
    append(&written, sizeof written);
  }
  return bytes;
}

Program read(const uint8_t *bytes, uint64_t size) {
  Header header;
  if (size < sizeof header || std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
    refuse("this is no quill program: it does not begin as one");
  std::memcpy(&header, bytes, sizeof header);
  uint64_t left = size - sizeof header, most = left / 8;
  if (header.numData > most || header.numInstructions > most || header.numEntries > most ||
      8 * header.numData + 8 * header.numInstructions + sizeof(FileEntry) * header.numEntries != left)
    refuse("a quill program of " + std::to_string(size) + " bytes does not hold what its header counts");
  const uint8_t *at = bytes + sizeof header;
  auto take = [&](auto &to, uint64_t count) {
    to.resize(count);
    if (count > 0)
      std::memcpy(to.data(), at, count * sizeof to[0]);
    at += count * sizeof to[0];
  };
  Program program;
  std::vector<FileEntry> entries;
  take(program.data, header.numData);
  take(program.code, header.numInstructions);
  take(entries, header.numEntries);
  for (FileEntry &entry : entries) {
    entry.name[kNameBytes - 1] = 0;
    if (entry.begin >= program.code.size())
      refuse(std::string("entry \"") + entry.name + "\" begins behind the code");
    program.entries.push_back({entry.name, uint32_t(entry.begin)});
  }
  if (program.code.empty() || program.code.back().op != Op::Halt)
    refuse("the last instruction of a quill program is Halt");
  for (const Instruction &instruction : program.code)
    check(program, instruction);
  return program;
}

}  // namespace quill
