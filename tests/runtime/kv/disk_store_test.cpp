// SPDX-License-Identifier: Apache-2.0
// DiskStore: found again, bounded, and never wrong bytes whatever happens to its files.
#include "runtime/kv/disk_store.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

namespace girih::kv {
namespace {

namespace fs = std::filesystem;

class DiskStoreTest : public ::testing::Test {
protected:
  static constexpr uint64_t kBlockBytes = 5000;
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "girih-disk-XXXXXX";
    folder = mkdtemp(pattern.data());
  }
  void TearDown() override {
    fs::permissions(folder, fs::perms::owner_all);
    fs::remove_all(folder);
  }
  std::unique_ptr<DiskStore> open(uint64_t maxBytes = 1 << 20) {
    DiskStore::Options options;
    options.folder = folder;
    options.maxBytes = maxBytes;
    options.cipher = cipher;
    options.unixSeconds = [this] { return now; };
    auto store = DiskStore::open(options, root, kBlockBytes);
    GIRIH_CHECK(store.isOk());
    return std::move(store).value();
  }
  static ContentKey keyOf(int number) {
    return sha256({reinterpret_cast<uint8_t *>(&number), sizeof number});
  }
  static std::vector<uint8_t> blockOf(int number) {
    std::mt19937 random(static_cast<unsigned>(number));
    std::vector<uint8_t> block(kBlockBytes);
    for (uint8_t &byte : block)
      byte = static_cast<uint8_t>(random());
    return block;
  }
  static bool readsRight(DiskStore &store, int number) {
    std::vector<uint8_t> block(kBlockBytes);
    if (!store.read(keyOf(number), block))
      return false;
    EXPECT_EQ(block, blockOf(number)) << "a wrong block is worse than none";
    return true;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto &entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file())
        found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }

  std::string folder;
  ContentKey root = {1, 2, 3};
  int64_t now = ::time(nullptr);
  std::shared_ptr<const BlockCipher> cipher;
};

TEST_F(DiskStoreTest, FindsWhatAnotherProcessLeft) {
  {
    auto store = open();
    for (int number = 0; number < 5; ++number)
      EXPECT_TRUE(store->write(keyOf(number), 0, blockOf(number)));
    EXPECT_FALSE(store->write(keyOf(0), 0, blockOf(0))) << "there already";
  }
  // A process that was killed in mid-write leaves this.
  fs::path rootFolder = files().front().parent_path();
  std::ofstream(rootFolder / ".part-99-1") << "half";
  std::ofstream(rootFolder / "foreign.txt") << "not ours";
  auto store = open();
  EXPECT_EQ(store->counts().numFiles, 5u);
  for (int number = 0; number < 5; ++number)
    EXPECT_TRUE(readsRight(*store, number));
  EXPECT_FALSE(store->has(keyOf(5)));
  EXPECT_FALSE(fs::exists(rootFolder / ".part-99-1"));
  EXPECT_TRUE(fs::exists(rootFolder / "foreign.txt"));
}

TEST_F(DiskStoreTest, OtherRootsAreOtherWorlds) {
  open()->write(keyOf(1), 0, blockOf(1));
  root[0] = 9;
  EXPECT_FALSE(open()->has(keyOf(1)));
}

TEST_F(DiskStoreTest, IsReadableByItsOwnerOnly) {
  auto store = open();
  store->write(keyOf(1), 0, blockOf(1));
  struct stat facts;
  ASSERT_EQ(::stat(files().front().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(files().front().parent_path().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700u);
}

// Every byte of the header and some of the block, one bit flipped: never a wrong block, and the file is gone.
TEST_F(DiskStoreTest, AnyFlippedBitIsAMiss) {
  for (size_t offset = 0; offset < 128 + kBlockBytes; offset += offset < 128 ? 1 : 97) {
    auto store = open();
    ASSERT_TRUE(store->write(keyOf(1), 0, blockOf(1)));
    fs::path path = files().front();
    {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(offset));
      char byte = static_cast<char>(file.get() ^ 1);
      file.seekp(static_cast<std::streamoff>(offset));
      file.put(byte);
    }
    EXPECT_FALSE(readsRight(*store, 1)) << offset;
    EXPECT_FALSE(store->has(keyOf(1)));
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(store->counts().numDamaged, 1u);
  }
}

TEST_F(DiskStoreTest, ShortLongMissingAndSwappedFilesAreMisses) {
  auto store = open();
  for (int number = 0; number < 4; ++number)
    store->write(keyOf(number), 0, blockOf(number));
  auto pathOf = [&](int number) {
    for (const fs::path &path : files())
      if (path.filename().string().starts_with(hexDigits(keyOf(number))))
        return path;
    return fs::path();
  };
  fs::path shortened = pathOf(0), missing = pathOf(1), swapped = pathOf(2), donor = pathOf(3);
  fs::resize_file(shortened, 1000);
  fs::remove(missing);
  fs::copy_file(donor, swapped, fs::copy_options::overwrite_existing);
  for (int number : {0, 1, 2})
    EXPECT_FALSE(readsRight(*store, number)) << number;
  EXPECT_TRUE(readsRight(*store, 3));
  fs::resize_file(donor, 9000);
  EXPECT_EQ(open()->counts().numFiles, 0u) << "of a wrong size: removed when the folder is read";
}

TEST_F(DiskStoreTest, LinksAreNotFollowed) {
  auto store = open();
  store->write(keyOf(1), 0, blockOf(1));
  fs::path path = files().front(), elsewhere = folder + "/elsewhere";
  fs::rename(path, elsewhere);
  fs::create_symlink(elsewhere, path);
  EXPECT_FALSE(readsRight(*store, 1));
  EXPECT_TRUE(fs::exists(elsewhere));
}

TEST_F(DiskStoreTest, KeepsWithinItsBoundLongestUnusedFirst) {
  auto store = open(4 * (kBlockBytes + 128));
  for (int number = 0; number < 4; ++number)
    store->write(keyOf(number), static_cast<uint32_t>(number), blockOf(number));
  store->tick();
  EXPECT_TRUE(readsRight(*store, 0));
  EXPECT_TRUE(store->write(keyOf(4), 0, blockOf(4)));
  EXPECT_FALSE(store->has(keyOf(3))) << "of those used together the deepest goes first";
  for (int number = 5; number < 7; ++number)
    EXPECT_TRUE(store->write(keyOf(number), 0, blockOf(number)));
  EXPECT_TRUE(store->has(keyOf(0)));
  for (int gone : {1, 2, 3})
    EXPECT_FALSE(store->has(keyOf(gone)));
  EXPECT_EQ(files().size(), 4u);
  EXPECT_EQ(store->counts().numEvicted, 3u);
  EXPECT_FALSE(open(100)->write(keyOf(9), 0, blockOf(9))) << "a bound below one block";
}

TEST_F(DiskStoreTest, WhatIsKeptCountsAsUsedUntilThen) {
  constexpr uint64_t kTwoBlocks = 2 * (kBlockBytes + 128);
  {
    auto store = open(kTwoBlocks);
    store->write(keyOf(1), 0, blockOf(1), /*keepSeconds=*/3600);
    now += 60;
    store->tick();
    store->write(keyOf(2), 0, blockOf(2));
    store->tick();
    store->write(keyOf(3), 0, blockOf(3));
    EXPECT_TRUE(store->has(keyOf(1))) << "older, but kept";
    EXPECT_FALSE(store->has(keyOf(2)));
  }
  // Another process knows it too; and it decays: who was used after that time is missed more.
  auto store = open(kTwoBlocks);
  now += 3000;
  store->tick();
  EXPECT_TRUE(store->write(keyOf(4), 0, blockOf(4)));
  EXPECT_TRUE(store->has(keyOf(1)));
  store->touch(keyOf(4), 7200);
  now += 300;
  store->tick();
  EXPECT_TRUE(store->write(keyOf(5), 0, blockOf(5), 3600));
  EXPECT_FALSE(store->has(keyOf(1)));
  EXPECT_TRUE(store->has(keyOf(4)));
}

TEST_F(DiskStoreTest, WhatHasExpiredIsNeitherReadNorLeft) {
  auto store = open();
  store->write(keyOf(1), 0, blockOf(1), /*keepSeconds=*/300);
  store->write(keyOf(2), 0, blockOf(2)); // nobody says
  store->write(keyOf(3), 0, blockOf(3), 300);
  now += 200;
  store->tick();
  store->touch(keyOf(3), 300);
  now += 100;
  EXPECT_FALSE(readsRight(*store, 1));
  EXPECT_EQ(files().size(), 3u);
  store->tick();
  EXPECT_EQ(files().size(), 2u) << "swept";
  EXPECT_EQ(store->counts().numExpired, 1u);
  EXPECT_TRUE(readsRight(*store, 3)) << "used again in time";
  now += 250;
  EXPECT_FALSE(open()->has(keyOf(3))) << "expired while nobody ran";
  EXPECT_TRUE(open()->has(keyOf(2)));
  now += 31 * 24 * 3600;
  EXPECT_EQ(open()->counts().numFiles, 0u) << "nothing stays for ever";
  EXPECT_TRUE(files().empty());
}

TEST_F(DiskStoreTest, WhatIsErasedIsGone) {
  auto store = open();
  store->write(keyOf(1), 0, blockOf(1));
  store->write(keyOf(2), 0, blockOf(2));
  store->erase(keyOf(1));
  store->erase(keyOf(9));
  EXPECT_FALSE(store->has(keyOf(1)));
  EXPECT_EQ(files().size(), 1u);
  EXPECT_EQ(store->counts().numErased, 1u);
  EXPECT_FALSE(open()->has(keyOf(1)));
}

TEST_F(DiskStoreTest, FilesOfOtherVersionsAreRemoved) {
  open()->write(keyOf(1), 0, blockOf(1));
  fs::path rootFolder = files().front().parent_path();
  std::string digits = hexDigits(keyOf(2));
  for (std::string name : {digits + ".kv", digits + "-0.kv", digits + "-0-zz.kv", digits + "-1--5.kv",
                           digits + "-0-7fffffff0000000000000000.kv", std::string("x.kv")})
    std::ofstream(rootFolder / name) << "old";
  EXPECT_EQ(open()->counts().numFiles, 1u);
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(DiskStoreTest, AFolderThatCannotBeIsToldOnce) {
  std::ofstream(folder + "/file") << "x";
  DiskStore::Options options;
  options.folder = folder + "/file";
  auto store = DiskStore::open(options, root, kBlockBytes);
  ASSERT_FALSE(store.isOk());
  EXPECT_EQ(store.status().code(), StatusCode::Unavailable);
}

TEST_F(DiskStoreTest, AWriteThatFailsLeavesNothing) {
  auto store = open();
  store->write(keyOf(1), 0, blockOf(1));
  fs::remove_all(files().front().parent_path()); // as if the disk went away
  EXPECT_FALSE(store->write(keyOf(2), 0, blockOf(2)));
  EXPECT_FALSE(readsRight(*store, 1));
  EXPECT_EQ(store->counts().numWriteFailures, 1u);
  EXPECT_FALSE(store->has(keyOf(2)));
}

} // namespace
} // namespace girih::kv
