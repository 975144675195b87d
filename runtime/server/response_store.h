// SPDX-License-Identifier: Apache-2.0
// ResponseStore: the responses that were to be kept, each for the client that asked for it.
#pragma once

#include <cstdint>
#include <list>
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
  // What was evaluated: the prompt with its answer. Empty where an answer was cut within a token's text.
  std::string text;
  std::vector<int32_t> tokens;
};

// In memory, at most kMaxBytes: the longest unused go first, and the end of the process is the end of all. Thread-safe.
class ResponseStore {
public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  void put(StoredResponse response);
  // Null: there is none, or it is another client's; nobody can tell which.
  std::shared_ptr<const StoredResponse> find(std::string_view id, uint32_t client);
  std::shared_ptr<const ResponseItem> findItem(std::string_view id, uint32_t client);
  bool remove(std::string_view id, uint32_t client);

private:
  struct Entry {
    std::shared_ptr<const StoredResponse> response;
    size_t numBytes = 0;
  };
  using Entries = std::list<Entry>; // the last used first
  void erase(Entries::iterator entry);

  std::mutex mutex;
  Entries entries;
  std::unordered_map<std::string, Entries::iterator> byId;
  // Of the items that a stored response brought: its input and output.
  std::unordered_map<std::string, Entries::iterator> byItem;
  size_t numBytes = 0;
};

} // namespace girih::server
