// SPDX-License-Identifier: Apache-2.0
// DiskStore over plain files: what is there, what is worth most, what goes.
#include "runtime/kv/disk_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <vector>

namespace girih::kv {
namespace {

constexpr std::string_view kTemporary = ".part-";
constexpr int64_t kSweepSeconds = 60;
// A use is told to the disk when it moves the file's times by so much; nearer ones are known to this process alone.
constexpr int64_t kWorthTouchingSeconds = 60;
constexpr int64_t kPartWorthRenaming = 16; // of the time that the file still has

int64_t machineSeconds() { return static_cast<int64_t>(::time(nullptr)); }

} // namespace

size_t DiskStore::KeyHash::operator()(const ContentKey &key) const {
  size_t word;
  std::memcpy(&word, key.data(), sizeof word);
  return word;
}

DiskStore::DiskStore(std::string folder, const Options &options, uint64_t blockBytes)
    : folder(std::move(folder)), options(options), blockBytes(blockBytes) {}

Expected<std::unique_ptr<DiskStore>> DiskStore::open(const Options &options, const ContentKey &root,
                                                     uint64_t blockBytes) {
  Options completed = options;
  if (!completed.unixSeconds)
    completed.unixSeconds = machineSeconds;
  std::string folder = options.folder + "/" + hexDigits(root).substr(0, 32);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return unavailable("cannot make the folder " + folder + ": " + error.message());
  ::chmod(options.folder.c_str(), 0700);
  ::chmod(folder.c_str(), 0700);
  if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    return unavailable("cannot use the folder " + folder + ": " + std::strerror(errno));
  std::unique_ptr<DiskStore> store(new DiskStore(folder, completed, blockBytes));
  GIRIH_TRY(store->scan());
  return store;
}

bool DiskStore::has(const ContentKey &key) const {
  ContentKey name = nameOf(key);
  std::lock_guard lock(mutex);
  return find(name) != nullptr;
}

DiskStore::Counts DiskStore::counts() const {
  std::lock_guard lock(mutex);
  return counted;
}

Status DiskStore::scan() {
  DIR *directory = ::opendir(folder.c_str());
  if (!directory)
    return unavailable("cannot read the folder " + folder + ": " + std::strerror(errno));
  seconds = sweptAt = options.unixSeconds();
  std::lock_guard lock(mutex);
  while (dirent *entry = ::readdir(directory)) {
    std::string_view text = entry->d_name;
    std::string path = folder + "/" + std::string(text);
    auto name = BlockFileName::parse(text);
    struct stat facts;
    if (text.starts_with(kTemporary) || (!name && text.ends_with(kBlockFileSuffix))) {
      ::unlink(path.c_str()); // half written, or by another version
    } else if (name && ::lstat(path.c_str(), &facts) == 0) {
      bool isWhole = static_cast<uint64_t>(facts.st_size) == kBlockHeaderBytes + blockBytes;
      bool isKept = isWhole && name->expiresAt > seconds && !find(name->key);
      if (isKept)
        remember({facts.st_mtim.tv_sec, 0, *name});
      else if (::unlink(path.c_str()) == 0)
        ++(isWhole ? counted.numExpired : counted.numDamaged);
    }
  }
  ::closedir(directory);
  ++clock;
  return {};
}

void DiskStore::tick() {
  ++clock;
  seconds = std::max(seconds, options.unixSeconds());
  if (seconds - sweptAt < kSweepSeconds)
    return;
  sweptAt = seconds;
  std::lock_guard lock(mutex);
  removeExpired();
}

const DiskStore::File *DiskStore::find(const ContentKey &name) const {
  auto found = files.find(name);
  return found != files.end() && found->second.name.expiresAt > options.unixSeconds() ? &found->second
                                                                                      : nullptr;
}

void DiskStore::remember(const File &file) {
  files[file.name.key] = file;
  order.insert(placeOf(file.name.key, file));
  counted.numFiles = files.size();
  counted.numBytes = files.size() * (kBlockHeaderBytes + blockBytes);
}

void DiskStore::forget(const ContentKey &name) {
  auto found = files.find(name);
  if (found == files.end())
    return;
  order.erase(placeOf(name, found->second));
  files.erase(found);
  counted.numFiles = files.size();
  counted.numBytes = files.size() * (kBlockHeaderBytes + blockBytes);
}

void DiskStore::removeFile(const ContentKey &name, uint64_t &counter) {
  auto found = files.find(name);
  if (found == files.end())
    return;
  ::unlink(pathOf(found->second.name).c_str());
  forget(name);
  ++counter;
}

void DiskStore::removeExpired() {
  std::vector<ContentKey> expired;
  for (const auto &[name, file] : files)
    if (file.name.expiresAt <= seconds)
      expired.push_back(name);
  for (const ContentKey &name : expired)
    removeFile(name, counted.numExpired);
}

// False when nothing more can be removed.
bool DiskStore::makeRoom() {
  while (counted.numBytes + kBlockHeaderBytes + blockBytes > options.maxBytes) {
    if (order.empty())
      return false;
    removeFile(ContentKey(order.begin()->key), counted.numEvicted);
  }
  return true;
}

void DiskStore::setUsedUntil(const BlockFileName &name, int64_t usedUntil) const {
  timespec times[2] = {{0, UTIME_OMIT}, {static_cast<time_t>(usedUntil), 0}};
  ::utimensat(AT_FDCWD, pathOf(name).c_str(), times, AT_SYMLINK_NOFOLLOW);
}

bool DiskStore::read(const ContentKey &key, std::span<uint8_t> block) {
  ContentKey name = nameOf(key);
  File file;
  {
    std::lock_guard lock(mutex);
    const File *known = find(name);
    if (!known || block.size() != blockBytes)
      return false;
    file = *known;
  }
  BlockRead outcome = readBlockFile(pathOf(file.name), file.name, block, options.cipher.get());
  if (outcome == BlockRead::Damaged)
    ::unlink(pathOf(file.name).c_str());
  std::lock_guard lock(mutex);
  forget(name);
  if (outcome != BlockRead::Sound) {
    counted.numDamaged += outcome == BlockRead::Damaged; // else somebody removed it
    return false;
  }
  file.lastUse = clock;
  if (seconds > file.usedUntil) {
    file.usedUntil = seconds;
    setUsedUntil(file.name, seconds);
  }
  remember(file);
  ++counted.numReads;
  counted.numBytesRead += blockBytes;
  return true;
}

bool DiskStore::write(const ContentKey &key, uint32_t depth, std::span<const uint8_t> block,
                      uint32_t keepSeconds) {
  File file;
  file.name = {nameOf(key), depth, seconds + (keepSeconds ? keepSeconds : options.lifetimeSeconds)};
  file.lastUse = clock;
  file.usedUntil = seconds + keepSeconds;
  {
    std::lock_guard lock(mutex);
    if (find(file.name.key) || block.size() != blockBytes || !makeRoom())
      return false;
    removeFile(file.name.key, counted.numExpired);
  }
  // The process's number keeps two servers over one folder apart.
  std::string temporary = folder + "/" + std::string(kTemporary) + std::to_string(::getpid()) + "-" +
                          std::to_string(++numTemporary);
  bool isWritten = writeBlockFile(temporary, file.name, block, options.cipher.get(), sealed) &&
                   ::rename(temporary.c_str(), pathOf(file.name).c_str()) == 0;
  if (!isWritten)
    ::unlink(temporary.c_str());
  else if (keepSeconds > 0)
    setUsedUntil(file.name, file.usedUntil);
  std::lock_guard lock(mutex);
  if (!isWritten) {
    ++counted.numWriteFailures;
    return false;
  }
  remember(file);
  ++counted.numWrites;
  counted.numBytesWritten += blockBytes;
  return true;
}

void DiskStore::touch(const ContentKey &key, uint32_t keepSeconds) {
  std::lock_guard lock(mutex);
  const File *known = find(nameOf(key));
  if (!known)
    return;
  File file = *known;
  forget(file.name.key);
  file.lastUse = clock;
  int64_t usedUntil = seconds + keepSeconds;
  int64_t expiresAt = seconds + (keepSeconds ? keepSeconds : options.lifetimeSeconds);
  if (expiresAt >
      file.name.expiresAt + std::max<int64_t>((file.name.expiresAt - seconds) / kPartWorthRenaming, 1)) {
    BlockFileName longer = file.name;
    longer.expiresAt = expiresAt;
    if (::rename(pathOf(file.name).c_str(), pathOf(longer).c_str()) != 0)
      return; // somebody removed it
    file.name = longer;
  }
  if (usedUntil >= file.usedUntil + kWorthTouchingSeconds)
    setUsedUntil(file.name, usedUntil);
  file.usedUntil = std::max(file.usedUntil, usedUntil);
  remember(file);
}

void DiskStore::erase(const ContentKey &key) {
  std::lock_guard lock(mutex);
  removeFile(nameOf(key), counted.numErased);
}

} // namespace girih::kv
