// SPDX-License-Identifier: Apache-2.0
// FileStore: what clients uploaded and what batches gave, each for the client that asked.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/base/json.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

inline constexpr size_t kMaxFileBytes = size_t{200} << 20;    // of one, as OpenAI has it
inline constexpr uint64_t kMaxOwnerBytes = uint64_t{4} << 30; // of all of one client

struct StoredFile {
  std::string id, owner; // owner: Client::identity
  std::string name, purpose;
  uint64_t numBytes = 0;
  int64_t createdMicroseconds = 0; // Unix time; so fine that files of one second have an order
  void write(JsonWriter &writer) const; // as the API has it
};

// Two files each: ID.data and, written last, ID.json. Readable by the server's owner only; not sealed. Thread-safe.
class FileStore {
public:
  // Learns what is in `folder`; empty: nothing can be stored.
  explicit FileStore(std::string folder);

  bool isOffered() const { return !folder.empty(); }
  // Fails: ResourceExhausted (the owner has too much), Unavailable (the disk). Synced: it is there when it is answered.
  Expected<StoredFile> put(StoredFile file, std::string_view bytes);
  // The same of a file that lies elsewhere on the same disk, which is moved. `file.id` may be chosen before.
  Expected<StoredFile> adopt(StoredFile file, const std::string &path);
  std::optional<StoredFile> find(std::string_view id, std::string_view owner) const;
  std::vector<StoredFile> list(std::string_view owner) const; // the newest first
  bool remove(std::string_view id, std::string_view owner);
  std::string pathOf(std::string_view id) const { return folder + "/" + std::string(id) + ".data"; }

private:
  Expected<StoredFile> keep(StoredFile file);

  const std::string folder;
  mutable std::mutex mutex;
  std::map<std::string, StoredFile, std::less<>> files;
};

} // namespace girih::server
