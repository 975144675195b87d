// SPDX-License-Identifier: Apache-2.0
// A program reads back as it was written, and whatever is wrong with a file is said before anything runs.
#include "runtime/program/program.h"

#include "runtime/abi/program.h"
#include "runtime/base/crc32c.h"
#include "runtime/program/program_generated.h"
#include "tests/runtime/program/toy_program.h"

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

namespace girih::program {
namespace {

using girih::testing::TemporaryFolder;
using girih::testing::writeToyProgram;
using ::testing::HasSubstr;

class ProgramFile : public ::testing::Test {
protected:
  void SetUp() override {
    writeToyProgram(path, {});
    bytes = girih::testing::readWholeFile(path);
  }
  // Writes the bytes under another name and opens that.
  Expected<std::shared_ptr<const Program>> openBytes(const std::vector<uint8_t> &content) {
    std::ofstream(changedPath, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char *>(content.data()), static_cast<std::streamsize>(content.size()));
    return Program::open(changedPath);
  }
  girih_program_header header() const {
    girih_program_header result;
    std::memcpy(&result, bytes.data(), sizeof result);
    return result;
  }
  // Puts the header back with a checksum that fits.
  std::vector<uint8_t> withHeader(girih_program_header changed) const {
    changed.header_crc32c =
        crc32c({reinterpret_cast<uint8_t *>(&changed), offsetof(girih_program_header, header_crc32c)});
    std::vector<uint8_t> result = bytes;
    std::memcpy(result.data(), &changed, sizeof changed);
    return result;
  }

  TemporaryFolder folder;
  std::string path = folder.file("toy.girih"), changedPath = folder.file("changed.girih");
  std::vector<uint8_t> bytes;
};

TEST_F(ProgramFile, ReadsBackWhatWasWritten) {
  auto opened = Program::open(path);
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  const Program &program = **opened;
  EXPECT_EQ(program.model().name, "toy");
  EXPECT_EQ(program.model().vocabSize, 97u);
  EXPECT_EQ(program.tables().executables.size(), 1u);
  EXPECT_EQ(program.tables().executables[0].entries[1].symbol, "girih_step_toy_small");
  EXPECT_TRUE(
      std::ranges::equal(program.tables().executables[0].image, girih::testing::readWholeFile(TOY_IMAGE)));
  ASSERT_EQ(program.tables().tensors.size(), 1u);
  EXPECT_EQ(program.tables().tensors[0].layoutId, layoutIdOf("toy:raw"));
  EXPECT_EQ(program.tensorBytes(program.tables().tensors[0]).size(), 8u);
  EXPECT_EQ(program.tables().tokenizer.kind, "");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(program.weights().data()) % 4096, 0u);
  EXPECT_TRUE(program.verifyChecksums().isOk());
  EXPECT_TRUE(looksLikeProgram(path));
}

TEST_F(ProgramFile, RefusesEveryCut) {
  for (int percent = 0; percent < 100; ++percent) {
    std::vector<uint8_t> cut(bytes.begin(),
                             bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() * percent / 100));
    auto opened = openBytes(cut);
    ASSERT_FALSE(opened.isOk()) << percent;
    EXPECT_EQ(opened.status().code(), StatusCode::DataLoss) << percent << ": " << opened.status().message();
    EXPECT_THAT(std::string(opened.status().message()), HasSubstr("changed.girih"));
  }
}

TEST_F(ProgramFile, RefusesEveryFlippedByteOfHeaderAndTables) {
  girih_program_header original = header();
  auto expectRefused = [&](size_t index) {
    std::vector<uint8_t> flipped = bytes;
    flipped[index] ^= 0x41;
    EXPECT_FALSE(openBytes(flipped).isOk()) << "byte " << index;
  };
  for (size_t index = 0; index < sizeof(girih_program_header); ++index)
    expectRefused(index);
  for (uint64_t index = 0; index < original.tables_size; index += 7)
    expectRefused(original.tables_offset + index);
}

TEST_F(ProgramFile, SaysWhatAForeignFileIs) {
  std::vector<uint8_t> gguf = {'G', 'G', 'U', 'F', 3, 0, 0, 0, 0, 0};
  auto opened = openBytes(gguf);
  ASSERT_FALSE(opened.isOk());
  EXPECT_EQ(opened.status().code(), StatusCode::InvalidArgument);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("begins with \"GGUF\\x03"));
  EXPECT_FALSE(looksLikeProgram(changedPath));
}

TEST_F(ProgramFile, RefusesAnotherFormatVersion) {
  girih_program_header changed = header();
  changed.format_version = 9;
  auto opened = openBytes(withHeader(changed));
  ASSERT_FALSE(opened.isOk());
  EXPECT_EQ(opened.status().code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("format version is 9"));
}

TEST_F(ProgramFile, RefusesOffsetsNearTheEndOfTheNumbers) {
  for (uint64_t huge : {uint64_t{1} << 63, ~uint64_t{7}, ~uint64_t{0}}) {
    girih_program_header changed = header();
    changed.tables_offset = huge;
    EXPECT_EQ(openBytes(withHeader(changed)).status().code(), StatusCode::DataLoss);
    changed = header();
    changed.tables_size = huge;
    EXPECT_EQ(openBytes(withHeader(changed)).status().code(), StatusCode::DataLoss);
  }
}

// Changes a table in place and mends the checksums, as a hostile writer would.
class HostileTables : public ProgramFile {
protected:
  Expected<std::shared_ptr<const Program>> openWith(const std::function<void(fb::Program &)> &change) {
    girih_program_header changed = header();
    std::vector<uint8_t> content = bytes;
    uint8_t *tables = content.data() + changed.tables_offset;
    change(*flatbuffers::GetMutableRoot<fb::Program>(tables));
    changed.tables_crc32c = crc32c({tables, changed.tables_size});
    changed.header_crc32c =
        crc32c({reinterpret_cast<uint8_t *>(&changed), offsetof(girih_program_header, header_crc32c)});
    std::memcpy(content.data(), &changed, sizeof changed);
    return openBytes(content);
  }
  // Overwrites one 64-bit number of a Section in place.
  static void overwrite(const fb::Section *section, size_t field, uint64_t value) {
    std::memcpy(reinterpret_cast<uint8_t *>(const_cast<fb::Section *>(section)) + field * 8, &value, 8);
  }
};

TEST_F(HostileTables, SectionsBeyondTheFileAreRefused) {
  for (uint64_t huge : {uint64_t{1} << 63, ~uint64_t{0} << 12, uint64_t{1} << 40}) {
    EXPECT_EQ(openWith([&](fb::Program &p) { overwrite(p.weights(), 0, huge); }).status().code(),
              StatusCode::DataLoss);
    EXPECT_EQ(openWith([&](fb::Program &p) { overwrite(p.weights(), 1, huge); }).status().code(),
              StatusCode::DataLoss);
    EXPECT_EQ(openWith([&](fb::Program &p) { overwrite(p.executables()->Get(0)->image(), 1, huge); })
                  .status()
                  .code(),
              StatusCode::DataLoss);
  }
  auto misaligned = openWith([](fb::Program &p) { overwrite(p.weights(), 0, 4100); });
  EXPECT_THAT(std::string(misaligned.status().message()), HasSubstr("starts at byte 4100"));
}

TEST_F(HostileTables, ForeignLayoutsAreRefused) {
  auto opened = openWith([](fb::Program &p) {
    auto *layout = const_cast<flatbuffers::String *>(p.tensors()->Get(0)->layout());
    const_cast<char *>(layout->c_str())[0] = 'x';
  });
  ASSERT_FALSE(opened.isOk());
  EXPECT_EQ(opened.status().code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("layout \"xoy:raw\""));
}

TEST_F(ProgramFile, VerifyNamesTheDamagedTensor) {
  std::vector<uint8_t> damaged = bytes;
  damaged[kSectionAlignmentBytes] ^= 1; // the weight section follows the header's page
  auto opened = openBytes(damaged);
  ASSERT_TRUE(opened.isOk()) << "payloads are only read when asked";
  Status status = (*opened)->verifyChecksums();
  EXPECT_EQ(status.code(), StatusCode::DataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("2 of 3 checksums do not fit, the first that of tensor \"toy.weights\""));
}

TEST_F(ProgramFile, ReadsFromAlignedMemoryOnly) {
  std::vector<uint8_t> room(bytes.size() + 128);
  uint8_t *aligned = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64);
  std::copy(bytes.begin(), bytes.end(), aligned);
  EXPECT_TRUE(Program::fromBytes({aligned, bytes.size()}, "memory").isOk());
  EXPECT_EQ(Program::fromBytes({aligned + 1, bytes.size() - 1}, "memory").status().code(),
            StatusCode::InvalidArgument);
}

// ---- rules that the writer does not check, so that a test can break them ----

StatusCode codeAfterWriting(const std::function<void(Tables &)> &change) {
  TemporaryFolder folder;
  std::vector<uint8_t> image = girih::testing::readWholeFile(TOY_IMAGE);
  Tables tables = girih::testing::toyTables({}, image, image);
  change(tables);
  auto writer = compiler::ProgramWriter::create(folder.file("x.girih"));
  GIRIH_CHECK((*writer)->finish(tables).isOk());
  auto opened = Program::open(folder.file("x.girih"));
  return opened.isOk() ? StatusCode::Ok : opened.status().code();
}

// The toy's step as one that two devices share: a value of 8 bytes a token crosses before the only part.
void share(Tables &t) {
  Executable &own = t.executables[0];
  own.rests = {own};
  own.rests[0].entries.clear();
  own.rests[0].symbols = {"girih_step_toy"};
  own.symbols = {"girih_step_toy"};
  own.slotBytes = 64 + 8 * 512;
  own.arenaBytes = own.rests[0].arenaBytes = 1 << 16;
  own.schedules.assign(own.entries.size(), {Part{{{0, 64, 8, Copy::Rows::Tokens, true, false}}, false, 0, 1, 30}});
}

TEST(ProgramRules, SharedStepsStayInTheirSlots) {
  auto codeAfterSharing = [](const std::function<void(Executable &)> &change) {
    return codeAfterWriting([&](Tables &t) {
      share(t);
      for (Entry &entry : t.executables[0].entries)
        entry.maxTokens = 512;
      change(t.executables[0]);
    });
  };
  EXPECT_EQ(codeAfterSharing([](Executable &) {}), StatusCode::Ok);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.rests.clear(); }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules.pop_back(); }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].symbol = 1; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].symbol = -2; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].repetitions = 0; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].loop = 0; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) {
              e.schedules[0].push_back(e.schedules[0][0]);
              e.schedules[0][1].repetitions = 29;
            }),
            StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].copies[0].toOffset = 65; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].copies[0].fromOffset = ~uint64_t{0}; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].copies[0].rowBytes = ~uint64_t{0} / 8; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.schedules[0][0].copies[0].rows = Copy::Rows(3); }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.slotBytes = e.arenaBytes + 1; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) { e.rests[0].arenaBytes = 64; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterSharing([](Executable &e) {
              e.rests.push_back(e.rests[0]);
              e.rests[1].symbols.clear();
            }),
            StatusCode::DataLoss);
}

TEST(ProgramRules, EveryNumberOfTheModelHasARange) {
  EXPECT_EQ(codeAfterWriting([](Tables &t) {}), StatusCode::Ok);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.vocabSize = 0; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.maxPositions = ~0u; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.maxLogitRows = t.model.maxTokensPerStep + 1; }),
            StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.kvBlockBytes = 65; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.numerics = "sloppy"; }), StatusCode::Unimplemented);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.stepAbiVersion = 77; }), StatusCode::Unimplemented);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.executables.clear(); }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.executables[0].entries.clear(); }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.executables[0].entries[0].maxTokens = 5; }),
            StatusCode::DataLoss);
  // Hidden states: a size and entries for it, or neither.
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.model.hiddenSize = 24; }), StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.executables[0].hiddenEntries = t.executables[0].entries; }),
            StatusCode::DataLoss);
  auto giveHidden = [](Tables &t) {
    t.model.hiddenSize = 24;
    t.executables[0].hiddenEntries = t.executables[0].entries;
  };
  EXPECT_EQ(codeAfterWriting(giveHidden), StatusCode::Ok);
  EXPECT_EQ(codeAfterWriting([&](Tables &t) {
              giveHidden(t);
              t.executables[0].hiddenEntries[0].maxTokens = 5;
            }),
            StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([&](Tables &t) {
              giveHidden(t);
              t.model.hiddenSize = ~0u;
            }),
            StatusCode::DataLoss);
  EXPECT_EQ(codeAfterWriting([](Tables &t) { t.executables[0].arenaBytes = ~uint64_t{0}; }),
            StatusCode::DataLoss);
}

// ---- the writer ----

size_t numFiles(const std::string &folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(ProgramWriter, LeavesNothingWhenAbandoned) {
  TemporaryFolder folder;
  {
    auto writer = compiler::ProgramWriter::create(folder.file("a.girih"));
    ASSERT_TRUE(writer.isOk());
    Tensor tensor;
    tensor.layout = "toy:raw";
    tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
    ASSERT_TRUE((*writer)->addTensor(tensor, std::vector<uint8_t>(1000)).isOk());
  }
  EXPECT_EQ(numFiles(folder.path), 0u);
}

TEST(ProgramWriter, AFullDiskIsAnErrorThatLeavesTheOldFile) {
  TemporaryFolder folder;
  writeToyProgram(folder.file("a.girih"), {});
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, SIG_IGN); // the limit stands for a full disk: EFBIG instead of ENOSPC
  rlimit small = {1 << 20, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  {
    auto writer = compiler::ProgramWriter::create(folder.file("a.girih"));
    ASSERT_TRUE(writer.isOk());
    Tensor tensor;
    tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
    auto added = (*writer)->addTensor(tensor, std::vector<uint8_t>(2 << 20));
    ASSERT_FALSE(added.isOk());
    EXPECT_EQ(added.status().code(), StatusCode::ResourceExhausted);
    EXPECT_THAT(std::string(added.status().message()), HasSubstr("free some space"));
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(numFiles(folder.path), 1u);
  EXPECT_TRUE(Program::open(folder.file("a.girih")).isOk());
}

// Bytes wait for those that are written with them: none is lost or moved, whatever the pieces.
TEST(ProgramWriter, PiecesOfAnySizeMakeOneTensor) {
  TemporaryFolder folder;
  auto writer = compiler::ProgramWriter::create(folder.file("a.girih"));
  ASSERT_TRUE(writer.isOk());
  Tensor tensor;
  tensor.layout = "toy:raw";
  tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
  ASSERT_TRUE((*writer)->beginTensor(tensor).isOk());
  std::vector<uint8_t> wanted;
  for (size_t size : {1u, 4095u, 3u << 20, 0u, 77777u, 2u << 20, 12u}) {
    std::vector<uint8_t> piece(size);
    for (size_t at = 0; at < size; ++at)
      piece[at] = static_cast<uint8_t>((wanted.size() + at) * 2654435761u >> 13);
    ASSERT_TRUE((*writer)->append(piece).isOk());
    wanted.insert(wanted.end(), piece.begin(), piece.end());
  }
  ASSERT_TRUE((*writer)->endTensor().isOk());
  ASSERT_TRUE((*writer)->finish(testing::toyTables({}, std::vector<uint8_t>(64), {})).isOk());
  auto program = Program::open(folder.file("a.girih"));
  ASSERT_TRUE(program.isOk()) << program.status().message();
  std::span<const uint8_t> bytes = (*program)->weights();
  ASSERT_GE(bytes.size(), wanted.size());
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), bytes.begin()));
}

TEST(ProgramWriter, RefusesFoldersAndAbsentFolders) {
  TemporaryFolder folder;
  EXPECT_EQ(compiler::ProgramWriter::create(folder.path).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(compiler::ProgramWriter::create(folder.file("none/a.girih")).status().code(),
            StatusCode::NotFound);
}

TEST(ProgramWriter, KeepsPlannedOffsets) {
  TemporaryFolder folder;
  auto writer = compiler::ProgramWriter::create(folder.file("a.girih"));
  Tensor tensor;
  tensor.layout = "toy:raw";
  tensor.offsetBytes = 640;
  std::vector<uint8_t> payload(100, 9);
  EXPECT_EQ(*(*writer)->addTensor(tensor, payload), 640u);
  tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
  EXPECT_EQ(*(*writer)->addTensor(tensor, payload), 768u);
  tensor.offsetBytes = 64;
  EXPECT_EQ((*writer)->addTensor(tensor, payload).status().code(), StatusCode::Internal);
}

} // namespace
} // namespace girih::program
