// SPDX-License-Identifier: Apache-2.0
// ResponseStore: a list in the order of use, and two indices into it.
#include "runtime/server/response_store.h"

#include "runtime/base/json.h"
#include "runtime/server/stored_fields.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <limits>

namespace girih::server {
namespace {

constexpr std::string_view kFolder = "responses";
constexpr std::string_view kSuffix = ".response";

// Items of earlier turns are counted again: the first turn may be gone while a later one still holds them.
size_t sizeOf(const StoredResponse &response) {
  size_t numBytes = sizeof(StoredResponse) + response.body.size() + response.text.size() +
                    response.tokens.size() * sizeof(int32_t);
  for (const auto &item : response.conversation)
    numBytes += sizeof(ResponseItem) + item->id.size() + item->json.size();
  return numBytes;
}

} // namespace

std::string printStored(const StoredResponse &response, std::string_view owner) {
  JsonWriter writer;
  writer.beginObject().member("id", response.id).member("owner", owner).member("program", response.program);
  writer.member("created", response.createdSeconds).member("body", response.body);
  writer.key("conversation").beginArray();
  for (const auto &item : response.conversation)
    writer.beginArray().value(item->id).value(item->json).endArray();
  writer.endArray().member("first_input", response.firstInput).member("num_input", response.numInput);
  writer.member("text", response.text).arrayMember("tokens", response.tokens);
  // Salts are bytes, JSON is text.
  auto digits = [](const std::string &salt) {
    return hexDigits({reinterpret_cast<const uint8_t *>(salt.data()), salt.size()});
  };
  writer.member("cache_salt", digits(response.cacheSalt)).member("shared_salt", digits(response.sharedSalt));
  writer.member("num_shared", response.numSharedTokens);
  return writer.endObject().take();
}

Expected<StoredResponse> readStored(std::string_view json, std::string &owner) {
  GIRIH_ASSIGN(JsonDocument document, JsonDocument::parse(json));
  StoredFields fields(document.root());
  StoredResponse response;
  response.id = fields.text("id");
  owner = fields.text("owner");
  response.program = fields.text("program");
  response.createdSeconds = fields.number("created");
  response.body = fields.text("body");
  for (JsonValue item : fields.elements("conversation")) {
    std::vector<JsonValue> parts = item.elements();
    if (parts.size() != 2 || !parts[0].isString() || !parts[1].isString())
      return dataLoss("an item of a stored response is no id with its JSON");
    response.conversation.push_back(std::make_shared<ResponseItem>(
        ResponseItem{std::string(*parts[0].asString()), std::string(*parts[1].asString())}));
  }
  response.firstInput = static_cast<size_t>(fields.number("first_input"));
  response.numInput = static_cast<size_t>(fields.number("num_input"));
  response.text = fields.text("text");
  for (JsonValue element : fields.elements("tokens")) {
    auto token = element.asInteger();
    if (!token.isOk() || *token < 0 || *token > std::numeric_limits<int32_t>::max())
      return dataLoss("a token of a stored response is no id");
    response.tokens.push_back(static_cast<int32_t>(*token));
  }
  response.cacheSalt = fields.bytes("cache_salt");
  response.sharedSalt = fields.bytes("shared_salt");
  response.numSharedTokens = static_cast<uint32_t>(
      std::min<size_t>(static_cast<size_t>(fields.number("num_shared")), response.tokens.size()));
  if (!fields.isWhole || response.firstInput + response.numInput > response.conversation.size() ||
      response.numInput == 0)
    return dataLoss("a stored response lacks a part of itself");
  return response;
}

ResponseStore::ResponseStore(std::shared_ptr<StateFolder> newState, Owners newOwners)
    : state(std::move(newState)), owners(std::move(newOwners)) {
  for (const std::string &name : state ? filesIn(state->part(kFolder), kSuffix) : std::vector<std::string>())
    load(name);
  // The longest unused were loaded in no order; how old they are is the best guess.
  entries.sort(
      [](const Entry &a, const Entry &b) { return a.response->createdSeconds > b.response->createdSeconds; });
  while (numBytes > kMaxBytes)
    erase(std::prev(entries.end()));
}

void ResponseStore::load(const std::string &name) {
  std::string path = state->part(kFolder) + "/" + name, owner;
  auto sealed = readFile(path, 2 * kMaxBytes);
  if (!sealed.isOk())
    return;
  auto json = state->sealer().openText(name, *sealed);
  auto stored =
      json.isOk() ? readStored(*json, owner) : Expected<StoredResponse>(std::move(json).status());
  bool isOurs = stored.isOk() && stored->id + std::string(kSuffix) == name;
  if (!isOurs || stored->createdSeconds + kLifetimeSeconds < ::time(nullptr)) {
    ::unlink(path.c_str());
    return;
  }
  auto known = owners.find(owner);
  if (known == owners.end())
    return;
  stored->client = known->second;
  insert(std::make_shared<const StoredResponse>(std::move(stored).value()));
}

std::string ResponseStore::pathOf(std::string_view id) const {
  return state->part(kFolder) + "/" + std::string(id) + std::string(kSuffix);
}

std::string_view ResponseStore::identityOf(uint32_t client) const {
  for (const auto &[identity, number] : owners)
    if (number == client)
      return identity;
  return "";
}

void ResponseStore::put(StoredResponse response) {
  auto stored = std::make_shared<const StoredResponse>(std::move(response));
  if (sizeOf(*stored) > kMaxBytes)
    return;
  if (state) {
    // What cannot be written is kept in memory all the same.
    std::string json = printStored(*stored, identityOf(stored->client));
    (void)replaceFile(pathOf(stored->id), state->sealer().sealText(stored->id + std::string(kSuffix), json),
                      /*isSynced=*/false);
  }
  std::lock_guard lock(mutex);
  insert(std::move(stored));
  while (numBytes > kMaxBytes)
    erase(std::prev(entries.end()));
}

void ResponseStore::insert(std::shared_ptr<const StoredResponse> stored) {
  Entry entry{stored, sizeOf(*stored)};
  numBytes += entry.numBytes;
  entries.push_front(std::move(entry));
  byId[stored->id] = entries.begin();
  for (size_t index = stored->firstInput; index < stored->conversation.size(); ++index)
    byItem[stored->conversation[index]->id] = entries.begin();
}

void ResponseStore::erase(Entries::iterator entry) {
  const StoredResponse &response = *entry->response;
  for (const auto &item : response.conversation)
    if (auto found = byItem.find(item->id); found != byItem.end() && found->second == entry)
      byItem.erase(found);
  if (auto found = byId.find(response.id); found != byId.end() && found->second == entry)
    byId.erase(found);
  numBytes -= entry->numBytes;
  if (state)
    ::unlink(pathOf(response.id).c_str());
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

std::shared_ptr<const StoredResponse> ResponseStore::remove(std::string_view id, uint32_t client,
                                                            size_t &numShared) {
  std::lock_guard lock(mutex);
  auto found = byId.find(std::string(id));
  if (found == byId.end() || found->second->response->client != client)
    return nullptr;
  auto removed = found->second->response;
  erase(found->second);
  numShared = 0;
  for (const Entry &other : entries) {
    const StoredResponse &stays = *other.response;
    if (stays.client != client || stays.program != removed->program || stays.cacheSalt != removed->cacheSalt)
      continue;
    auto end = std::mismatch(removed->tokens.begin(), removed->tokens.end(), stays.tokens.begin(),
                             stays.tokens.end());
    numShared = std::max(numShared, static_cast<size_t>(end.first - removed->tokens.begin()));
  }
  return removed;
}

} // namespace girih::server
