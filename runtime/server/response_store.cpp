// SPDX-License-Identifier: Apache-2.0
// ResponseStore: a list in the order of use, and two indices into it.
#include "runtime/server/response_store.h"

#include <algorithm>

namespace girih::server {
namespace {

// Items of earlier turns are counted again: the first turn may be gone while a later one still holds them.
size_t sizeOf(const StoredResponse &response) {
  size_t numBytes = sizeof(StoredResponse) + response.body.size() + response.text.size() +
                    response.tokens.size() * sizeof(int32_t);
  for (const auto &item : response.conversation)
    numBytes += sizeof(ResponseItem) + item->id.size() + item->json.size();
  return numBytes;
}

} // namespace

void ResponseStore::put(StoredResponse response) {
  auto stored = std::make_shared<const StoredResponse>(std::move(response));
  Entry entry{stored, sizeOf(*stored)};
  if (entry.numBytes > kMaxBytes)
    return;
  std::lock_guard lock(mutex);
  numBytes += entry.numBytes;
  entries.push_front(std::move(entry));
  byId[stored->id] = entries.begin();
  for (size_t index = stored->firstInput; index < stored->conversation.size(); ++index)
    byItem[stored->conversation[index]->id] = entries.begin();
  while (numBytes > kMaxBytes)
    erase(std::prev(entries.end()));
}

void ResponseStore::erase(Entries::iterator entry) {
  const StoredResponse &response = *entry->response;
  for (const auto &item : response.conversation)
    if (auto found = byItem.find(item->id); found != byItem.end() && found->second == entry)
      byItem.erase(found);
  if (auto found = byId.find(response.id); found != byId.end() && found->second == entry)
    byId.erase(found);
  numBytes -= entry->numBytes;
  entries.erase(entry);
}

std::shared_ptr<const StoredResponse> ResponseStore::find(std::string_view id, uint32_t client) {
  std::lock_guard lock(mutex);
  auto found = byId.find(std::string(id));
  if (found == byId.end() || found->second->response->client != client)
    return nullptr;
  entries.splice(entries.begin(), entries, found->second);
  return found->second->response;
}

std::shared_ptr<const ResponseItem> ResponseStore::findItem(std::string_view id, uint32_t client) {
  std::lock_guard lock(mutex);
  auto found = byItem.find(std::string(id));
  if (found == byItem.end() || found->second->response->client != client)
    return nullptr;
  const ResponseItems &items = found->second->response->conversation;
  auto item =
      std::find_if(items.begin(), items.end(), [&](const auto &candidate) { return candidate->id == id; });
  return item == items.end() ? nullptr : *item;
}

bool ResponseStore::remove(std::string_view id, uint32_t client) {
  std::lock_guard lock(mutex);
  auto found = byId.find(std::string(id));
  if (found == byId.end() || found->second->response->client != client)
    return false;
  erase(found->second);
  return true;
}

} // namespace girih::server
