// SPDX-License-Identifier: Apache-2.0
// DiskStore: KV blocks in files, found again after any end of the process; whatever goes wrong is a miss.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/kv/block_cipher.h"
#include "runtime/kv/block_file.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <unordered_map>

namespace girih::kv {

// One immutable file a block, named by the block's key: what made the bytes differ is in the key, so a file found is
// the right one or damaged, and damage is told by its checksum, or by the cipher's tag where there is one. A block of
// all layers is some hundred KiB or more, which is what disks read well in one go; a file a block has no tail to keep
// apart and no index to lose.
// Files are written beside their name and renamed, so that a name never shows half a file. They are not synced: after
// a crash of the machine the checksum tells what was lost.
// Bounded by bytes and by time. By bytes: the longest unused go first, where being kept for a time counts as being
// used until then (the file's modification time says until when); of equal ones the deepest in its chain. By time: a
// file expires when the longest time that somebody asked for it has passed since its last use, or `lifetimeSeconds`
// where nobody named one; it is then removed within a minute, and never read.
// One thread reads, writes and removes; has() and counts() may be asked by any. No function throws or fails a request.
class DiskStore {
public:
  struct Options {
    std::string folder; // ours alone: created, 0700
    uint64_t maxBytes = uint64_t{4} << 30;
    uint32_t lifetimeSeconds = 30 * 24 * 3600;
    std::shared_ptr<const BlockCipher> cipher; // null: the bytes lie open
    std::function<int64_t()> unixSeconds;      // empty: the machine's clock
  };
  struct Counts {
    uint64_t numFiles = 0, numBytes = 0;
    uint64_t numReads = 0, numBytesRead = 0;
    uint64_t numWrites = 0, numBytesWritten = 0;
    uint64_t numDamaged = 0;       // files that were refused and removed
    uint64_t numWriteFailures = 0; // a full or read-only disk
    uint64_t numEvicted = 0;
    uint64_t numExpired = 0; // their time was over
    uint64_t numErased = 0;  // somebody asked for it
  };
  // Opens the folder of one root key, and learns what is there; leftovers of writes that ended half-way are removed.
  // Fails: Unavailable when the folder cannot be made or read; say so and go on without.
  static Expected<std::unique_ptr<DiskStore>> open(const Options &options, const ContentKey &root,
                                                   uint64_t blockBytes);

  bool has(const ContentKey &key) const;
  // What is read and written from here on is used later than what was before; between two calls at the same time, so
  // that a chain goes from its end. Removes what has expired, once in a while.
  void tick();
  // Fills `block` [blockBytes]. False: not there, unreadable or damaged; it is then forgotten.
  bool read(const ContentKey &key, std::span<uint8_t> block);
  // `depth`: the block's place in its chain. `keepSeconds`: how long it is wanted; 0: nobody says. False: not written,
  // which changes nothing.
  bool write(const ContentKey &key, uint32_t depth, std::span<const uint8_t> block, uint32_t keepSeconds = 0);
  // Used again, and wanted for so long from now. Does nothing where there is no such file.
  void touch(const ContentKey &key, uint32_t keepSeconds);
  void erase(const ContentKey &key);
  Counts counts() const;

private:
  struct KeyHash {
    size_t operator()(const ContentKey &key) const;
  };
  struct File {
    int64_t usedUntil = 0; // Unix seconds
    uint64_t lastUse = 0;  // by `clock`
    BlockFileName name;    // as on disk
  };
  // In the order of eviction.
  struct Place {
    int64_t usedUntil;
    uint64_t lastUse;
    uint32_t reverseDepth;
    ContentKey key;
    auto operator<=>(const Place &) const = default;
  };
  DiskStore(std::string folder, const Options &options, uint64_t blockBytes);
  Status scan();
  ContentKey nameOf(const ContentKey &key) const { return options.cipher ? options.cipher->hide(key) : key; }
  std::string pathOf(const BlockFileName &name) const { return folder + "/" + name.text(); }
  static Place placeOf(const ContentKey &name, const File &file) {
    return {file.usedUntil, file.lastUse, ~file.name.depth, name};
  }
  void setUsedUntil(const BlockFileName &name, int64_t seconds) const;
  // These require `mutex` to be held.
  const File *find(const ContentKey &name) const;
  void remember(const File &file);
  void forget(const ContentKey &name);
  void removeFile(const ContentKey &name, uint64_t &counter);
  bool makeRoom();
  void removeExpired();

  const std::string folder;
  const Options options;
  const uint64_t blockBytes;
  uint64_t clock = 0;
  int64_t seconds = 0; // of the last tick
  int64_t sweptAt = 0;
  uint64_t numTemporary = 0;
  std::vector<uint8_t> sealed;                         // a block on its way to the disk
  mutable std::mutex mutex;                            // guards all below
  std::unordered_map<ContentKey, File, KeyHash> files; // by the key in their name
  std::set<Place> order;
  Counts counted;
};

} // namespace girih::kv
