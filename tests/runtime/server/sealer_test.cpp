// SPDX-License-Identifier: Apache-2.0
// Sealer: opens what it sealed and nothing else, and keeps its secret to itself.
#include "runtime/kv/disk_store.h"
#include "runtime/server/sealer.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

namespace girih::server {
namespace {

namespace fs = std::filesystem;

class SealerTest : public ::testing::Test {
protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "girih-sealer-XXXXXX";
    folder = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder); }
  std::shared_ptr<const Sealer> open() {
    auto sealer = Sealer::ofFolder(folder);
    GIRIH_CHECK(sealer.isOk());
    return std::move(sealer).value();
  }
  std::string folder;
};

TEST_F(SealerTest, MakesOneSecretForItsOwnerAlone) {
  std::string sealed = open()->sealText("a", "text");
  EXPECT_EQ(*open()->openText("a", sealed), "text") << "found again";
  struct stat facts;
  ASSERT_EQ(::stat((folder + "/secret").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  EXPECT_EQ(facts.st_size, 32);
  fs::remove(folder + "/secret");
  EXPECT_EQ(open()->openText("a", sealed).status().code(), StatusCode::DataLoss) << "another installation";
}

TEST_F(SealerTest, RefusesASecretThatOthersMayRead) {
  open();
  fs::permissions(folder + "/secret", fs::perms::group_read, fs::perm_options::add);
  EXPECT_EQ(Sealer::ofFolder(folder).status().code(), StatusCode::FailedPrecondition);
  fs::permissions(folder + "/secret", fs::perms::owner_read | fs::perms::owner_write);
  fs::resize_file(folder + "/secret", 31);
  EXPECT_EQ(Sealer::ofFolder(folder).status().code(), StatusCode::DataLoss);
  EXPECT_EQ(Sealer::ofFolder(folder + "/none").status().code(), StatusCode::Unavailable);
}

TEST_F(SealerTest, AnyFlippedBitIsToldAndNothingShowsThrough) {
  auto sealer = open();
  std::string text = "the quick brown fox", sealed = sealer->sealText("a", text);
  EXPECT_EQ(sealed.find("quick"), sealed.npos);
  EXPECT_NE(sealed, sealer->sealText("a", text)) << "a nonce of its own";
  for (size_t index = 0; index < sealed.size(); ++index) {
    std::string changed = sealed;
    changed[index] = static_cast<char>(changed[index] ^ 1);
    EXPECT_FALSE(sealer->openText("a", changed).isOk()) << index;
  }
  EXPECT_FALSE(sealer->openText("b", sealed).isOk()) << "for another purpose";
  EXPECT_FALSE(sealer->openText("a", sealed.substr(0, 20)).isOk());
  EXPECT_FALSE(sealer->openText("a", "").isOk());
  EXPECT_EQ(*sealer->openText("a", sealer->sealText("a", "")), "");
}

// KV files: neither their bytes nor their names say what they were computed from.
TEST_F(SealerTest, SealsBlocksOnDisk) {
  kv::DiskStore::Options options;
  options.folder = folder + "/kv";
  options.cipher = open();
  kv::ContentKey key = kv::saltedKey({}, "a prompt");
  std::vector<uint8_t> block(5000, 'K'), read(5000);
  auto store = kv::DiskStore::open(options, {}, block.size());
  ASSERT_TRUE(store.isOk());
  ASSERT_TRUE((*store)->write(key, 3, block));
  fs::path path;
  for (const auto &entry : fs::recursive_directory_iterator(options.folder))
    if (entry.is_regular_file())
      path = entry.path();
  EXPECT_FALSE(path.filename().string().starts_with(hexDigits(key)));
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(bytes.find("KKKK"), bytes.npos);

  options.cipher = open();
  store = kv::DiskStore::open(options, {}, block.size());
  ASSERT_TRUE((*store)->read(key, read));
  EXPECT_EQ(read, block);
  for (size_t offset : {size_t{9}, size_t{45}, size_t{60}, size_t{80}, size_t{128}, bytes.size() - 1}) {
    std::string changed = bytes;
    changed[offset] = static_cast<char>(changed[offset] ^ 1);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << changed;
    EXPECT_FALSE((*kv::DiskStore::open(options, {}, block.size()))->read(key, read)) << offset;
  }
  options.cipher = nullptr;
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  EXPECT_FALSE((*kv::DiskStore::open(options, {}, block.size()))->has(key)) << "without the secret";
}

} // namespace
} // namespace girih::server
