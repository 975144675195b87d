// SPDX-License-Identifier: Apache-2.0
// DiskStore: KV blocks in files, found again after any end of the process; whatever goes wrong is a miss.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/kv/content_key.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <unordered_map>

namespace girih::kv {

// One immutable file a block, named by the block's key: what made the bytes differ is in the key, so a file found is
// the right one or damaged, and damage is told by its checksum. A block of all layers is some hundred KiB or more,
// which is what disks read well in one go; a file a block has no tail to keep apart and no index to lose.
// Files are written beside their name and renamed, so that a name never shows half a file. They are not synced: after
// a crash of the machine the checksum tells what was lost.
// Bounded by bytes; the longest unused go first, of equal ones the deepest in its chain.
// One thread reads and writes; has() and counts() may be asked by any. No function throws or fails a request.
class DiskStore {
public:
  struct Options {
    std::string folder; // ours alone: created, 0700
    uint64_t maxBytes = uint64_t{4} << 30;
  };
  struct Counts {
    uint64_t numFiles = 0, numBytes = 0;
    uint64_t numReads = 0, numBytesRead = 0;
    uint64_t numWrites = 0, numBytesWritten = 0;
    uint64_t numDamaged = 0;       // files that were refused and removed
    uint64_t numWriteFailures = 0; // a full or read-only disk
    uint64_t numEvicted = 0;
  };
  // Opens the folder of one root key, and learns what is there; leftovers of writes that ended half-way are removed.
  // Fails: Unavailable when the folder cannot be made or read; say so and go on without.
  static Expected<std::unique_ptr<DiskStore>> open(const Options &options, const ContentKey &root,
                                                   uint64_t blockBytes);

  bool has(const ContentKey &key) const;
  // What is read and written from here on is used later than what was before; between two calls at the same time, so
  // that a chain goes from its end.
  void tick() { ++clock; }
  // Fills `block` [blockBytes]. False: not there, unreadable or damaged; it is then forgotten.
  bool read(const ContentKey &key, std::span<uint8_t> block);
  // `depth`: the block's place in its chain. False: not written, which changes nothing.
  bool write(const ContentKey &key, uint32_t depth, std::span<const uint8_t> block);
  Counts counts() const;

private:
  struct KeyHash {
    size_t operator()(const ContentKey &key) const;
  };
  struct File {
    uint64_t lastUse; // by `clock`
    uint32_t depth;
  };
  // In the order of eviction.
  struct Place {
    uint64_t lastUse;
    uint32_t reverseDepth;
    ContentKey key;
    auto operator<=>(const Place &) const = default;
  };
  DiskStore(std::string folder, uint64_t maxBytes, uint64_t blockBytes)
      : folder(std::move(folder)), maxBytes(maxBytes), blockBytes(blockBytes) {}
  Status scan();
  std::string pathOf(const ContentKey &key) const;
  static Place placeOf(const ContentKey &key, const File &file) { return {file.lastUse, ~file.depth, key}; }
  // These require `mutex` to be held.
  void remember(const ContentKey &key, const File &file);
  void forget(const ContentKey &key);
  bool makeRoom();

  const std::string folder;
  const uint64_t maxBytes;
  const uint64_t blockBytes;
  uint64_t clock = 0;
  uint64_t numTemporary = 0;
  mutable std::mutex mutex; // guards all below
  std::unordered_map<ContentKey, File, KeyHash> files;
  std::set<Place> order;
  Counts counted;
};

} // namespace girih::kv
