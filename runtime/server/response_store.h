// SPDX-License-Identifier: Apache-2.0
// ResponseStore: the responses that were to be kept, each for the client that asked for it.
#pragma once

#include "runtime/server/state_folder.h"

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace girih::server {

// Of a conversation: a message, a call or its output, as JSON with an id of its own.
struct ResponseItem {
  std::string id;
  std::string json;
};
using ResponseItems = std::vector<std::shared_ptr<const ResponseItem>>;

struct StoredResponse {
  std::string id;
  uint32_t client = 0;
  std::string body;           // as it was answered
  ResponseItems conversation; // everything before it, its input, its output
  size_t firstInput = 0, numInput = 0;
  int64_t createdSeconds = 0; // Unix time
  // What was evaluated: the prompt with its answer. Empty where an answer was cut within a token's text.
  std::string text;
  std::vector<int32_t> tokens;
  std::string program; // whose tokens they are: ServedModel::programId
  // By which the cache finds these tokens; see engine::Request.
  std::string cacheSalt, sharedSalt;
  uint32_t numSharedTokens = 0;
};

// One as text, for a file, and back. Fails: DataLoss when it is none of ours. `client` is left to the caller.
std::string printStored(const StoredResponse &response, std::string_view owner);
Expected<StoredResponse> readStored(std::string_view json, std::string &owner);

// In memory, at most kMaxBytes: the longest unused go first. Where there is a folder, also there, a sealed file each,
// written before put() returns: the end of the process, however it comes, ends nothing. (It is not synced: the end of
// the machine may cost the last seconds.) After kLifetimeSeconds one is nobody's. Thread-safe.
class ResponseStore {
public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  static constexpr int64_t kLifetimeSeconds = 30 * 24 * 3600;
  // Client numbers by identity.
  using Owners = std::map<std::string, uint32_t, std::less<>>;

  ResponseStore() = default;
  // Learns what earlier runs left. Of owners that are not among these, files stay until they are too old.
  ResponseStore(std::shared_ptr<StateFolder> state, Owners owners);

  void put(StoredResponse response);
  // Null: there is none, or it is another client's; nobody can tell which.
  std::shared_ptr<const StoredResponse> find(std::string_view id, uint32_t client);
  std::shared_ptr<const ResponseItem> findItem(std::string_view id, uint32_t client);
  // What was removed, from memory and folder; null: as find(). `numShared`: so many of its tokens begin another of the
  // client's responses too.
  std::shared_ptr<const StoredResponse> remove(std::string_view id, uint32_t client, size_t &numShared);

private:
  struct Entry {
    std::shared_ptr<const StoredResponse> response;
    size_t numBytes = 0;
  };
  using Entries = std::list<Entry>; // the last used first
  void load(const std::string &name);
  void insert(std::shared_ptr<const StoredResponse> response);
  void erase(Entries::iterator entry);
  std::string pathOf(std::string_view id) const;
  std::string_view identityOf(uint32_t client) const;

  const std::shared_ptr<StateFolder> state; // null: memory only
  const Owners owners;

  std::mutex mutex;
  Entries entries;
  std::unordered_map<std::string, Entries::iterator> byId;
  // Of the items that a stored response brought: its input and output.
  std::unordered_map<std::string, Entries::iterator> byItem;
  size_t numBytes = 0;
};

} // namespace girih::server
