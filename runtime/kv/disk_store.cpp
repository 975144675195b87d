// SPDX-License-Identifier: Apache-2.0
// DiskStore over plain files: a header of 128 bytes, then the block.
#include "runtime/kv/disk_store.h"

#include "runtime/base/crc32c.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

namespace girih::kv {
namespace {

constexpr char kMagic[8] = {'G', 'I', 'R', 'I', 'H', 'K', 'V', '1'};
constexpr std::string_view kSuffix = ".kv";
constexpr std::string_view kTemporary = ".part-";
constexpr size_t kKeyDigits = 64;

// Little-endian, as everything that we write.
struct Header {
  char magic[8];
  uint8_t key[32];
  uint64_t blockBytes;
  uint32_t depth;
  uint32_t blockCrc32c;
  uint8_t zeros[68];
  uint32_t headerCrc32c; // of the bytes before it
};
static_assert(sizeof(Header) == 128);

std::span<const uint8_t> checkedPart(const Header &header) {
  return {reinterpret_cast<const uint8_t *>(&header), offsetof(Header, headerCrc32c)};
}

bool readKey(std::string_view digits, ContentKey &key) {
  if (digits.size() != kKeyDigits)
    return false;
  for (size_t index = 0; index < kKeyDigits; ++index) {
    char digit = digits[index];
    int value = digit >= '0' && digit <= '9'   ? digit - '0'
                : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                               : -1;
    if (value < 0)
      return false;
    uint8_t &byte = key[index / 2];
    byte = static_cast<uint8_t>(index % 2 == 0 ? value << 4 : byte | value);
  }
  return true;
}

class Descriptor {
public:
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  bool isOpen() const { return number >= 0; }
  const int number;
};

bool readAll(int file, uint64_t offset, std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::pread(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return true;
}

bool writeAll(int file, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(file, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return true;
}

} // namespace

size_t DiskStore::KeyHash::operator()(const ContentKey &key) const {
  size_t word;
  std::memcpy(&word, key.data(), sizeof word);
  return word;
}

Expected<std::unique_ptr<DiskStore>> DiskStore::open(const Options &options, const ContentKey &root,
                                                     uint64_t blockBytes) {
  std::string folder = options.folder + "/" + hexDigits(root).substr(0, 32);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return unavailable("cannot make the folder " + folder + ": " + error.message());
  ::chmod(options.folder.c_str(), 0700);
  ::chmod(folder.c_str(), 0700);
  if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    return unavailable("cannot use the folder " + folder + ": " + std::strerror(errno));
  std::unique_ptr<DiskStore> store(new DiskStore(folder, options.maxBytes, blockBytes));
  GIRIH_TRY(store->scan());
  return store;
}

bool DiskStore::has(const ContentKey &key) const {
  std::lock_guard lock(mutex);
  return files.contains(key);
}

DiskStore::Counts DiskStore::counts() const {
  std::lock_guard lock(mutex);
  return counted;
}

Status DiskStore::scan() {
  DIR *directory = ::opendir(folder.c_str());
  if (!directory)
    return unavailable("cannot read the folder " + folder + ": " + std::strerror(errno));
  struct Seen {
    ContentKey key;
    int64_t seconds;
  };
  std::vector<Seen> seen;
  while (dirent *entry = ::readdir(directory)) {
    std::string_view name = entry->d_name;
    std::string path = folder + "/" + std::string(name);
    struct stat facts;
    Seen one;
    if (name.starts_with(kTemporary)) {
      ::unlink(path.c_str());
    } else if (name.ends_with(kSuffix) && readKey(name.substr(0, name.size() - kSuffix.size()), one.key) &&
               ::stat(path.c_str(), &facts) == 0) {
      one.seconds = facts.st_mtim.tv_sec;
      if (static_cast<uint64_t>(facts.st_size) == sizeof(Header) + blockBytes)
        seen.push_back(one);
      else if (::unlink(path.c_str()) == 0)
        ++counted.numDamaged;
    }
  }
  ::closedir(directory);
  std::sort(seen.begin(), seen.end(), [](const Seen &a, const Seen &b) { return a.seconds < b.seconds; });
  int64_t lastSeconds = 0;
  std::lock_guard lock(mutex);
  for (const Seen &one : seen) {
    clock += one.seconds != lastSeconds;
    lastSeconds = one.seconds;
    remember(one.key, {clock, 0}); // the depth is in the file; it is not worth opening each
  }
  ++clock;
  return {};
}

std::string DiskStore::pathOf(const ContentKey &key) const {
  return folder + "/" + hexDigits(key) + std::string(kSuffix);
}

void DiskStore::remember(const ContentKey &key, const File &file) {
  files[key] = file;
  order.insert(placeOf(key, file));
  counted.numFiles = files.size();
  counted.numBytes = files.size() * (sizeof(Header) + blockBytes);
}

void DiskStore::forget(const ContentKey &key) {
  auto found = files.find(key);
  if (found == files.end())
    return;
  order.erase(placeOf(key, found->second));
  files.erase(found);
  counted.numFiles = files.size();
  counted.numBytes = files.size() * (sizeof(Header) + blockBytes);
}

bool DiskStore::read(const ContentKey &key, std::span<uint8_t> block) {
  if (!has(key) || block.size() != blockBytes)
    return false;
  std::string path = pathOf(key);
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  Header header;
  auto headerBytes = std::span(reinterpret_cast<uint8_t *>(&header), sizeof header);
  bool isSound = file.isOpen() && readAll(file.number, 0, headerBytes) &&
                 std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
                 header.headerCrc32c == crc32c(checkedPart(header)) &&
                 std::memcmp(header.key, key.data(), key.size()) == 0 && header.blockBytes == blockBytes &&
                 readAll(file.number, sizeof header, block) && header.blockCrc32c == crc32c(block);
  if (isSound)
    ::futimens(file.number, nullptr); // for the order of eviction after a restart
  else if (file.isOpen())
    ::unlink(path.c_str());
  std::lock_guard lock(mutex);
  forget(key);
  if (!isSound) {
    counted.numDamaged += file.isOpen(); // else somebody removed it
    return false;
  }
  remember(key, {clock, header.depth});
  ++counted.numReads;
  counted.numBytesRead += blockBytes;
  return true;
}

// False when nothing more can be removed.
bool DiskStore::makeRoom() {
  while (counted.numBytes + sizeof(Header) + blockBytes > maxBytes) {
    if (order.empty())
      return false;
    ContentKey victim = order.begin()->key;
    ::unlink(pathOf(victim).c_str());
    forget(victim);
    ++counted.numEvicted;
  }
  return true;
}

bool DiskStore::write(const ContentKey &key, uint32_t depth, std::span<const uint8_t> block) {
  {
    std::lock_guard lock(mutex);
    if (files.contains(key) || block.size() != blockBytes || !makeRoom())
      return false;
  }
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::copy(key.begin(), key.end(), header.key);
  header.blockBytes = blockBytes;
  header.depth = depth;
  header.blockCrc32c = crc32c(block);
  header.headerCrc32c = crc32c(checkedPart(header));
  // The process's number keeps two servers over one folder apart.
  std::string temporary = folder + "/" + std::string(kTemporary) + std::to_string(::getpid()) + "-" +
                          std::to_string(++numTemporary);
  bool isWritten = false;
  {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    isWritten = file.isOpen() &&
                writeAll(file.number, std::span(reinterpret_cast<const uint8_t *>(&header), sizeof header)) &&
                writeAll(file.number, block);
  }
  isWritten = isWritten && ::rename(temporary.c_str(), pathOf(key).c_str()) == 0;
  if (!isWritten)
    ::unlink(temporary.c_str());
  std::lock_guard lock(mutex);
  if (!isWritten) {
    ++counted.numWriteFailures;
    return false;
  }
  remember(key, {clock, depth});
  ++counted.numWrites;
  counted.numBytesWritten += blockBytes;
  return true;
}

} // namespace girih::kv
