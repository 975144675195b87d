// SPDX-License-Identifier: Apache-2.0
// Ledger: what each key used, added up over all runs; the one place that prices are made from.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/base/sha256.h"

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace girih::server {

// Input is what was asked to be read, cached the part of it that was not computed.
struct Used {
  uint64_t numRequests = 0;
  uint64_t numInputTokens = 0;
  uint64_t numCachedTokens = 0;
  uint64_t numOutputTokens = 0;
  uint64_t retainedByteSeconds = 0; // KV in memory that nobody used at the time
  Used &operator+=(const Used &other);
};

enum class UsedBy : uint32_t { Live = 0, Batch = 1 };
// By UsedBy.
using UsedInAll = std::array<Used, 2>;

// An append-only file of records of 128 bytes, each with a checksum. A record is written, whole, before add() returns,
// so that the end of the process, however it comes, loses and repeats none; a thread syncs the file once a second
// while it grows, so that the end of the machine costs that second. What the disk does not take waits in memory and is
// written with the next. A damaged record is left out and counted. When the file has grown, it is replaced by the sums.
// Thread-safe.
class Ledger {
public:
  // In memory alone.
  Ledger() = default;
  // Fails: Unavailable when the file cannot be read or written.
  static Expected<std::unique_ptr<Ledger>> open(const std::string &path,
                                                uint64_t maxFileBytes = uint64_t{16} << 20);
  ~Ledger();

  // `owner`: Client::identity.
  void add(std::string_view owner, UsedBy by, const Used &used);
  // By the digest of the owner's identity.
  std::map<Sha256Digest, UsedInAll> sums() const;
  static Sha256Digest digestOf(std::string_view owner);
  uint64_t numDamaged() const;
  // Records that the disk did not take yet.
  uint64_t numUnwritten() const;

private:
  struct Record;
  using Place = std::pair<Sha256Digest, uint32_t>;
  Ledger(std::string path, uint64_t maxFileBytes) : path(std::move(path)), maxFileBytes(maxFileBytes) {}
  Status read();
  Status reopen();
  static Record recordOf(const Place &place, const Used &used);
  void writeWaiting();
  void compact();
  void sync();

  const std::string path;
  const uint64_t maxFileBytes = 0;
  mutable std::mutex mutex; // guards all below
  std::condition_variable changed;
  std::map<Sha256Digest, UsedInAll> all;
  std::map<Place, Used> waiting;
  uint64_t damaged = 0;
  uint64_t fileBytes = 0;
  int file = -1;
  bool isDirty = false, isStopping = false;
  std::thread syncer;
};

} // namespace girih::server
