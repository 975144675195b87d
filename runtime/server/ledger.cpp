// SPDX-License-Identifier: Apache-2.0
// Ledger: sums in memory, records behind each other in one file.
#include "runtime/server/ledger.h"

#include "runtime/base/crc32c.h"
#include "runtime/server/state_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace girih::server {
namespace {

constexpr char kMagic[4] = {'G', 'L', 'D', '1'};
constexpr size_t kMostFileBytes = size_t{1} << 30;

} // namespace

// Little-endian, as everything that we write.
struct Ledger::Record {
  char magic[4];
  uint32_t by;
  uint8_t owner[32];
  uint64_t unixMilliseconds;
  uint64_t numRequests, numInputTokens, numCachedTokens, numOutputTokens, retainedByteSeconds;
  uint8_t zeros[36];
  uint32_t crc; // of the bytes before it

  uint32_t checksum() const {
    return crc32c({reinterpret_cast<const uint8_t *>(this), offsetof(Record, crc)});
  }
};

Used &Used::operator+=(const Used &other) {
  numRequests += other.numRequests;
  numInputTokens += other.numInputTokens;
  numCachedTokens += other.numCachedTokens;
  numOutputTokens += other.numOutputTokens;
  retainedByteSeconds += other.retainedByteSeconds;
  return *this;
}

Sha256Digest Ledger::digestOf(std::string_view owner) {
  return sha256({reinterpret_cast<const uint8_t *>(owner.data()), owner.size()});
}

Expected<std::unique_ptr<Ledger>> Ledger::open(const std::string &path, uint64_t maxFileBytes) {
  std::unique_ptr<Ledger> ledger(new Ledger(path, maxFileBytes));
  GIRIH_TRY(ledger->read());
  GIRIH_TRY(ledger->reopen());
  ledger->syncer = std::thread([raw = ledger.get()] { raw->sync(); });
  return ledger;
}

Ledger::~Ledger() {
  {
    std::lock_guard lock(mutex);
    isStopping = true;
  }
  changed.notify_one();
  if (syncer.joinable())
    syncer.join();
  if (file >= 0)
    ::close(file);
}

Status Ledger::read() {
  auto bytes = readFile(path, kMostFileBytes);
  if (!bytes.isOk())
    return bytes.status().code() == StatusCode::NotFound ? Status() : std::move(bytes).status();
  static_assert(sizeof(Record) == 128);
  for (size_t offset = 0; offset < bytes->size(); offset += sizeof(Record)) {
    Record record;
    size_t numBytes = std::min(sizeof record, bytes->size() - offset);
    std::memcpy(&record, bytes->data() + offset, numBytes);
    bool isSound = numBytes == sizeof record && std::memcmp(record.magic, kMagic, sizeof kMagic) == 0 &&
                   record.crc == record.checksum() && record.by < UsedInAll().size();
    if (!isSound) {
      ++damaged;
      continue;
    }
    Sha256Digest owner;
    std::copy(std::begin(record.owner), std::end(record.owner), owner.begin());
    all[owner][record.by] += {record.numRequests, record.numInputTokens, record.numCachedTokens,
                              record.numOutputTokens, record.retainedByteSeconds};
  }
  return {};
}

// A record that a full disk cut short is cut off, so that the next one begins where records begin.
Status Ledger::reopen() {
  int opened = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  struct stat facts;
  bool isUsable = opened >= 0 && ::fstat(opened, &facts) == 0;
  if (isUsable) {
    fileBytes = static_cast<uint64_t>(facts.st_size) / sizeof(Record) * sizeof(Record);
    isUsable = ::ftruncate(opened, static_cast<off_t>(fileBytes)) == 0;
  }
  int error = errno;
  if (!isUsable) {
    if (opened >= 0)
      ::close(opened);
    return unavailable("cannot write " + path + ": " + std::strerror(error));
  }
  if (file >= 0)
    ::close(file);
  file = opened;
  return {};
}

Ledger::Record Ledger::recordOf(const Place &place, const Used &used) {
  using namespace std::chrono;
  Record record = {};
  std::memcpy(record.magic, kMagic, sizeof kMagic);
  record.by = place.second;
  std::copy(place.first.begin(), place.first.end(), record.owner);
  record.unixMilliseconds =
      static_cast<uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
  record.numRequests = used.numRequests;
  record.numInputTokens = used.numInputTokens;
  record.numCachedTokens = used.numCachedTokens;
  record.numOutputTokens = used.numOutputTokens;
  record.retainedByteSeconds = used.retainedByteSeconds;
  record.crc = record.checksum();
  return record;
}

void Ledger::add(std::string_view owner, UsedBy by, const Used &used) {
  Place place{digestOf(owner), static_cast<uint32_t>(by)};
  std::lock_guard lock(mutex);
  all[place.first][place.second] += used;
  if (path.empty())
    return;
  waiting[place] += used;
  writeWaiting();
  if (fileBytes > maxFileBytes)
    compact();
  isDirty = true;
  changed.notify_one();
}

void Ledger::writeWaiting() {
  if (file < 0 && !reopen().isOk())
    return;
  while (!waiting.empty()) {
    Record record = recordOf(waiting.begin()->first, waiting.begin()->second);
    ssize_t numWritten = ::write(file, &record, sizeof record);
    if (numWritten != sizeof record) {
      // Not half of one; where even that fails, the next start cuts it off.
      (void)!::ftruncate(file, static_cast<off_t>(fileBytes));
      return;
    }
    fileBytes += sizeof record;
    waiting.erase(waiting.begin());
  }
}

// The sums, in a file of their own that takes the other's place when it is on the disk.
void Ledger::compact() {
  if (!waiting.empty())
    return;
  std::string records;
  for (const auto &[owner, used] : all)
    for (uint32_t by = 0; by < used.size(); ++by) {
      Record record = recordOf({owner, by}, used[by]);
      records.append(reinterpret_cast<const char *>(&record), sizeof record);
    }
  if (records.size() > maxFileBytes / 2 || !replaceFile(path, records, /*isSynced=*/true).isOk())
    return;
  ::close(file); // nobody's any more
  file = -1;
  (void)reopen(); // where it fails, the next record tries again
}

void Ledger::sync() {
  std::unique_lock lock(mutex);
  while (!isStopping) {
    changed.wait(lock, [this] { return isStopping || isDirty; });
    isDirty = false;
    int synced = file >= 0 ? ::dup(file) : -1;
    lock.unlock();
    if (synced >= 0) {
      ::fdatasync(synced);
      ::close(synced);
    }
    lock.lock();
    changed.wait_for(lock, std::chrono::seconds(1), [this] { return isStopping; });
    writeWaiting();
  }
}

std::map<Sha256Digest, UsedInAll> Ledger::sums() const {
  std::lock_guard lock(mutex);
  return all;
}

uint64_t Ledger::numDamaged() const {
  std::lock_guard lock(mutex);
  return damaged;
}

uint64_t Ledger::numUnwritten() const {
  std::lock_guard lock(mutex);
  return waiting.size();
}

} // namespace girih::server
