// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as a file of KV blocks, under the name that a block has. An odd first byte has the header's
// checksum put right, so that what it guards is reached too.
#include "runtime/base/crc32c.h"
#include "runtime/kv/disk_store.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using girih::kv::ContentKey;
using girih::kv::DiskStore;

constexpr uint64_t kBlockBytes = 64;
constexpr size_t kHeaderBytes = 128;

struct Folder {
  std::string path = (fs::temp_directory_path() / "girih_fuzz_kv_XXXXXX").string();
  Folder() {
    if (!::mkdtemp(path.data()))
      std::abort();
  }
  ~Folder() { fs::remove_all(path); }
};

auto openStore(const Folder &folder) {
  DiskStore::Options options;
  options.folder = folder.path;
  options.maxBytes = 1 << 20;
  return DiskStore::open(options, ContentKey{}, kBlockBytes);
}

// The file of a block that was written in order: its name, and the bytes that must be read.
std::string writeOne(const Folder &folder, const ContentKey &key, const std::vector<uint8_t> &block) {
  auto store = openStore(folder);
  if (!store.isOk() || !(*store)->write(key, 0, block))
    std::abort();
  for (const fs::directory_entry &entry : fs::recursive_directory_iterator(folder.path))
    if (entry.is_regular_file())
      return entry.path().string();
  std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  static const Folder folder;
  static const ContentKey key = girih::kv::saltedKey(ContentKey{}, "fuzz");
  std::vector<uint8_t> block(kBlockBytes, 7), file;
  std::string path = writeOne(folder, key, block);
  if (numBytes > 0)
    file.assign(bytes + 1, bytes + numBytes);
  if (file.size() >= kHeaderBytes && (bytes[0] & 1)) {
    uint32_t checksum = girih::crc32c({file.data(), kHeaderBytes - 4});
    std::memcpy(file.data() + kHeaderBytes - 4, &checksum, 4);
  }
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char *>(file.data()), static_cast<std::streamsize>(file.size()));
  auto store = openStore(folder);
  if (!store.isOk())
    std::abort();
  std::vector<uint8_t> read(kBlockBytes);
  bool isRead = (*store)->read(key, read);
  // What is given out is what stands in the file behind its header; what is not is forgotten.
  if (isRead ? file.size() < kHeaderBytes + kBlockBytes ||
                   !std::equal(read.begin(), read.end(), file.begin() + kHeaderBytes)
             : (*store)->has(key))
    std::abort();
  fs::remove(path);
  return 0;
}
