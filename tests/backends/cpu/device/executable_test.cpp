// SPDX-License-Identifier: Apache-2.0
// The loader runs what is bare code, and refuses everything else, however it is damaged.
#include "backends/cpu/device/executable.h"

#include "tests/runtime/program/toy_program.h"

#include <cstring>
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace girih::cpu {
namespace {

using ::testing::HasSubstr;

std::vector<uint8_t> imageNamed(const std::string &name) {
  return girih::testing::readWholeFile(std::string(TOY_IMAGE_FOLDER) + "/" + name + ".so");
}

Status loadStatus(const std::vector<uint8_t> &bytes) {
  auto loaded = LoadedImage::load(bytes);
  return loaded.isOk() ? Status() : std::move(loaded).status();
}

TEST(LoadedImage, FindsEntriesAndOutlivesItsBytes) {
  auto bytes = imageNamed("toy");
  auto loaded = LoadedImage::load(bytes);
  ASSERT_TRUE(loaded.isOk()) << loaded.status().message();
  std::fill(bytes.begin(), bytes.end(), 0);
  ASSERT_TRUE(loaded->find("girih_step_toy").isOk());
  auto absent = loaded->find("girih_step_absent");
  EXPECT_EQ(absent.status().code(), StatusCode::NotFound);
  // Runs it: one token, one row of three logits.
  uint32_t weights[2] = {3, 1};
  alignas(64) uint8_t pool[64] = {};
  alignas(64) uint8_t arena[64] = {};
  int32_t token = 5, zero = 0, one = 1, starts[2] = {0, 1};
  float logits[16 * 3] = {};
  girih_step_args args = {sizeof args, 1,      1,
                          1,           &token, &zero,
                          &zero,       &zero,  starts,
                          &one,        &zero,  1,
                          &zero,       logits, reinterpret_cast<uint8_t *>(weights),
                          pool,        arena,  [](void *, int64_t) {},
                          nullptr};
  (*loaded->find("girih_step_toy"))(&args, 0, 1);
  girih::testing::ToyOptions options;
  options.vocabSize = 3;
  EXPECT_THAT(std::vector<float>(logits, logits + 3),
              ::testing::ElementsAreArray(girih::testing::toyLogits({5}, options)));
}

TEST(LoadedImage, RefusesWhatIsNotBareCode) {
  EXPECT_THAT(std::string(loadStatus(imageNamed("undefined_symbol")).message()),
              ::testing::AnyOf(HasSubstr("somewhere_else"), HasSubstr("procedure linkage table")));
  EXPECT_THAT(std::string(loadStatus(imageNamed("thread_local")).message()),
              HasSubstr("thread-local storage"));
  EXPECT_THAT(std::string(loadStatus(imageNamed("constructor")).message()), HasSubstr("initialisers"));
  for (const char *name : {"undefined_symbol", "thread_local", "constructor"})
    EXPECT_EQ(loadStatus(imageNamed(name)).code(), StatusCode::Unimplemented) << name;
}

TEST(LoadedImage, RefusesOtherMachines) {
  auto bytes = imageNamed("toy");
  uint16_t arm = EM_AARCH64;
  std::memcpy(bytes.data() + offsetof(Elf64_Ehdr, e_machine), &arm, sizeof arm);
  Status status = loadStatus(bytes);
  EXPECT_EQ(status.code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ELF machine 183"));
}

TEST(LoadedImage, SurvivesEveryCut) {
  auto bytes = imageNamed("toy");
  for (size_t numBytes = 0; numBytes < bytes.size(); numBytes += numBytes < 1024 ? 1 : 61)
    EXPECT_FALSE(LoadedImage::load(std::span<const uint8_t>(bytes).first(numBytes)).isOk()) << numBytes;
}

TEST(LoadedImage, SurvivesDamageAnywhere) {
  auto original = imageNamed("toy");
  std::mt19937 random(1);
  for (int round = 0; round < 4000; ++round) {
    auto bytes = original;
    // Most damage goes where numbers steer the loader.
    size_t reach = round % 2 ? bytes.size() : 1024;
    for (int change = 0; change < 1 + round % 4; ++change)
      bytes[random() % reach] = static_cast<uint8_t>(random());
    (void)LoadedImage::load(bytes); // any answer, no crash
  }
}

TEST(LoadedImage, RefusesHugeNumbers) {
  for (size_t field : {offsetof(Elf64_Phdr, p_offset), offsetof(Elf64_Phdr, p_vaddr),
                       offsetof(Elf64_Phdr, p_filesz), offsetof(Elf64_Phdr, p_memsz)}) {
    auto bytes = imageNamed("toy");
    Elf64_Ehdr header;
    std::memcpy(&header, bytes.data(), sizeof header);
    for (size_t index = 0; index < header.e_phnum; ++index) {
      uint8_t *segment = bytes.data() + header.e_phoff + index * sizeof(Elf64_Phdr);
      uint32_t type;
      std::memcpy(&type, segment, sizeof type);
      uint64_t huge = uint64_t{1} << 63;
      if (type == PT_LOAD)
        std::memcpy(segment + field, &huge, sizeof huge);
    }
    EXPECT_EQ(loadStatus(bytes).code(), StatusCode::DataLoss) << field;
  }
}

} // namespace
} // namespace girih::cpu
